//! TCP Fast Open: data in the SYN, and a connection that is accepted before its handshake is over.

use sensor_tests::{CABLE, run};

use super::case::{CALLED_V4, CALLED_V6, CALLER_V4, Case, python, ready};
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
    payload, answered = request(number)
    sent = connection.sendto(payload, MSG_FASTOPEN, (ADDRESS, PORT))
    connection.sendall(payload[sent:])
    receive(connection, answered)
    tell('outbound', ends(connection), len(payload), answered, by='local')
    connection.close()
";

const CONNECT: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    connection.connect((ADDRESS, PORT))
    sent, received = ask(connection, number)
    tell('outbound', ends(connection), sent, received, by='local')
    connection.close()
";

/// `parameter` is `tcp_fastopen` of both namespaces; `at_least` so many SYNs carried data that the
/// other end took.
fn fast_open(parameter: &str, at_least: u64) {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    for netns in [&case.caller, &case.called] {
        netns.set("net/ipv4/tcp_fastopen", parameter);
    }
    case.dialogue(SERVER, CALLED_V4, SENDTO, CALLED_V4);
    case.dialogue(SERVER, CALLED_V6, CONNECT, CALLED_V6);
    let (active, _) = case.kernel_counts("TcpExt: ", "TCPFastOpenActive");
    let (_, passive) = case.kernel_counts("TcpExt: ", "TCPFastOpenPassive");
    assert!(active >= at_least && passive >= at_least, "{active} {passive}");
    case.check();
}

#[test]
fn fast_open_with_a_cookie() {
    // The first one of each address asks for the cookie.
    fast_open("3", 1990);
}

#[test]
fn fast_open_without_a_cookie() {
    // 4: data without a cookie goes out; 0x200: and is taken.
    fast_open("519", 1990);
}

#[test]
fn fast_open_that_the_server_does_not_take() {
    // The client sends data without a cookie; the server wants one: all data is sent again.
    fast_open("5", 0);
}

/// Answers what came in the SYN and closes, all before the handshake is over.
const HASTY: &str = "
listener = listen(ADDRESS)
listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 64)
def work():
    while True:
        connection, _ = listener.accept()
        known = ends(connection)
        sent, received = answer(connection)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b'\\x03'
        connection.close()
        tell('inbound', known, sent, received, by='local')
ready(listener.getsockname()[1])
run(work)
";

const UNTIL_ANSWERED: &str = "
connections = []
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.setblocking(False)
    payload, answered = request(number)
    try:
        sent = connection.sendto(payload, MSG_FASTOPEN, (ADDRESS, PORT))
    except BlockingIOError:
        sent = len(payload)
    assert sent == len(payload)
    connections.append((connection, sent, answered))
time.sleep(0.2)
ready(0)
for connection, sent, answered in connections:
    connection.setblocking(True)
    receive(connection, answered)
    assert connection.recv(1) == b''
    tell('outbound', ends(connection), sent, answered, by='remote')
    connection.close()
";

#[test]
fn fast_open_that_is_closed_before_the_handshake_is_over() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    for netns in [&case.caller, &case.called] {
        netns.set("net/ipv4/tcp_fastopen", "519");
    }
    // The answers to the SYNs find nobody at first.
    let caller_at = |hardware: &str| {
        let words = ["neighbour", "replace", CALLER_V4, "lladdr", hardware, "dev", CABLE];
        run(case.called.command("ip").args(words));
    };
    let shown = run(case.caller.command("ip").args(["-brief", "link", "show", CABLE])).stdout;
    let shown = String::from_utf8(shown).unwrap();
    let hardware = shown.split_whitespace().nth(2).unwrap();
    caller_at("02:00:00:00:00:99");
    let server = python(&case.called, HASTY, &[CALLED_V4]);
    let port = ready(&server);
    let client = python(&case.caller, UNTIL_ANSWERED, &[CALLED_V4, &port, "40"]);
    ready(&client);
    caller_at(hardware);
    case.finish(client);
    case.stop(server);
    case.check();
}
