//! TCP Fast Open: data in the SYN, and a connection that is accepted before its handshake is over.

use super::case::{CALLED_V4, CALLED_V6, Case};
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
