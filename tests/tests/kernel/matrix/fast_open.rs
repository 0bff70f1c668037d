//! TCP Fast Open: data in the SYN, and connections accepted before their handshake completes.

use sensor_tests::{VETH, run};

use super::case::{CLIENT_V4, Case, SERVER_V4, SERVER_V6, python, ready};
use crate::harness::skipped;

const SERVER: &str = "
listener = listen(ADDRESS)
listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 64)
ready(listener.getsockname()[1])
run(lambda: accept_all(listener, listener=os.getpid()))
";

const SENDTO: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    payload, response_size = request(number)
    sent = connection.sendto(payload, MSG_FASTOPEN, (ADDRESS, PORT))
    connection.sendall(payload[sent:])
    receive(connection, response_size)
    report('outbound', ends(connection), len(payload), response_size, by='local')
    connection.close()
";

const CONNECT: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    connection.connect((ADDRESS, PORT))
    sent, received = send_request(connection, number)
    report('outbound', ends(connection), sent, received, by='local')
    connection.close()
";

/// Runs the case with `tcp_fastopen` = `parameter` in both namespaces. At least `at_least` SYNs
/// must carry data that the server accepts.
fn fast_open(parameter: &str, at_least: u64) {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    for netns in [&case.client_netns, &case.server_netns] {
        netns.set("net/ipv4/tcp_fastopen", parameter);
    }
    case.exchanges(SERVER, SERVER_V4, SENDTO, SERVER_V4);
    case.exchanges(SERVER, SERVER_V6, CONNECT, SERVER_V6);
    let (active, _) = case.kernel_counts("TcpExt: ", "TCPFastOpenActive");
    let (_, passive) = case.kernel_counts("TcpExt: ", "TCPFastOpenPassive");
    assert!(active >= at_least && passive >= at_least, "{active} {passive}");
    case.check();
}

#[test]
fn fast_open_with_a_cookie() {
    // The first connection to each address requests the cookie.
    fast_open("3", 1990);
}

#[test]
fn fast_open_without_a_cookie() {
    // 4: the client sends data without a cookie; 0x200: the server accepts it.
    fast_open("519", 1990);
}

#[test]
fn fast_open_data_that_the_server_rejects() {
    // The client sends data without a cookie, the server requires one: all data is retransmitted.
    fast_open("5", 0);
}

/// Responds to the data in the SYN and closes, all before the handshake completes.
const EARLY_CLOSE: &str = "
listener = listen(ADDRESS)
listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 64)
def work():
    while True:
        connection, _ = listener.accept()
        known = ends(connection)
        sent, received = send_response(connection)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b'\\x03'
        connection.close()
        report('inbound', known, sent, received, by='local')
ready(listener.getsockname()[1])
run(work)
";

const DELAYED_CLIENT: &str = "
connections = []
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.setblocking(False)
    payload, response_size = request(number)
    try:
        sent = connection.sendto(payload, MSG_FASTOPEN, (ADDRESS, PORT))
    except BlockingIOError:
        sent = len(payload)
    assert sent == len(payload)
    connections.append((connection, sent, response_size))
time.sleep(0.2)
ready(0)
for connection, sent, response_size in connections:
    connection.setblocking(True)
    receive(connection, response_size)
    assert connection.recv(1) == b''
    report('outbound', ends(connection), sent, response_size, by='remote')
    connection.close()
";

#[test]
fn fast_open_closed_before_the_handshake_completes() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    for netns in [&case.client_netns, &case.server_netns] {
        netns.set("net/ipv4/tcp_fastopen", "519");
    }
    // At first the responses to the SYNs go to a wrong link address.
    let set_client_lladdr = |hardware: &str| {
        let words = ["neighbour", "replace", CLIENT_V4, "lladdr", hardware, "dev", VETH];
        run(case.server_netns.command("ip").args(words));
    };
    let link = run(case.client_netns.command("ip").args(["-brief", "link", "show", VETH])).stdout;
    let link = String::from_utf8(link).unwrap();
    let hardware = link.split_whitespace().nth(2).unwrap();
    set_client_lladdr("02:00:00:00:00:99");
    let server = python(&case.server_netns, EARLY_CLOSE, &[SERVER_V4]);
    let port = ready(&server);
    let client = python(&case.client_netns, DELAYED_CLIENT, &[SERVER_V4, &port, "40"]);
    ready(&client);
    set_client_lladdr(hardware);
    case.finish(client);
    case.stop(server);
    case.check();
}
