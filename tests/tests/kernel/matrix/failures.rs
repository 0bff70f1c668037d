//! Failed and aborted connections.

use nix::sys::signal::Signal;
use sensor_tests::{VETH, run};

use super::case::{CLIENT_V4, CLIENT_V6, Case, SERVER_V4, SERVER_V6, python, ready};
use super::expectation::Expectation;
use crate::harness::{Home, SOON, skipped};

/// Connects to a port without a listener; every second socket has a bound port.
const REFUSED: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    if number % 2 == 0:
        connection.bind(('', 20_000 + number))
    assert connection.connect_ex((ADDRESS, PORT)) == errno.ECONNREFUSED
    local = (sys.argv[4], connection.getsockname()[1])
    assert number % 2 == 1 or local[1] == 20_000 + number
    known = {'local': local, 'remote': (ADDRESS, PORT)}
    report('outbound', known, event='failed', by='remote', error=errno.ECONNREFUSED)
    connection.close()
";

/// Connects to an unassigned address: the program closes half of them, the kernel times out the
/// rest.
const UNANSWERED: &str = "
connections = []
for number in range(COUNT):
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.bind((sys.argv[4], 22_000 + number))
    connection.setblocking(False)
    assert connection.connect_ex((ADDRESS, PORT)) == errno.EINPROGRESS
    known = {'local': connection.getsockname(), 'remote': (ADDRESS, PORT)}
    connections.append((connection, known))
time.sleep(0.2)
for connection, known in connections[::2]:
    report('outbound', known, event='failed', by='local')
    connection.close()
for connection, known in connections[1::2]:
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    assert poll.poll(20_000)
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ETIMEDOUT
    report('outbound', known, event='failed', by='timeout', error=errno.ETIMEDOUT)
    connection.close()
";

/// Ends each connection with a reset, after it has read all data.
const RESETTER: &str = "
listener = listen(ADDRESS)
def work():
    for number in range(1 << 30):
        connection, _ = listener.accept()
        known = ends(connection)
        sent, received = send_response(connection)
        receive(connection, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        report('inbound', known, sent, received + 1, by='local', listener=os.getpid())
        connection.close()
ready(listener.getsockname()[1])
run(work)
";

/// Ends each connection with a reset, because it closes with unread data.
const UNREAD_CLOSER: &str = "
listener = listen(ADDRESS)
def work():
    for number in range(1 << 30):
        connection, _ = listener.accept()
        known = ends(connection)
        sent, received = send_response(connection)
        assert connection.recv(1, socket.MSG_PEEK) == b'k'
        report('inbound', known, sent, received + 1, by='local', listener=os.getpid())
        connection.close()
ready(listener.getsockname()[1])
run(work)
";

const UNTIL_RESET: &str = "
for number in range(COUNT):
    connection = socket.create_connection((ADDRESS, PORT))
    known = ends(connection)
    sent, received = send_request(connection, number)
    connection.sendall(b'k')
    try:
        raise AssertionError(connection.recv(1))
    except ConnectionResetError:
        pass
    report('outbound', known, sent + 1, received, by='remote', error=errno.ECONNRESET)
    connection.close()
";

/// Keeps accepted connections open.
const OPEN_SERVER: &str = "
listener, connections = listen(ADDRESS), []
def work():
    while True:
        connections.append(listener.accept()[0])
        known = ends(connections[-1])
        report('inbound', known, *send_response(connections[-1]), event='open', listener=os.getpid())
ready(listener.getsockname()[1])
run(work)
";

/// Connections whose other end vanishes during the test. Half of them send data if the
/// last argument is `send`; the others use keepalive probes.
const VANISHED_PEER: &str = "
TCP_USER_TIMEOUT = 18
connections = []
for number in range(COUNT):
    connection = socket.create_connection((ADDRESS, PORT))
    known = ends(connection)
    connections.append((number, connection, known, *send_request(connection, number)))
ready(0)
signal.sigwait({signal.SIGTERM})
sends = lambda number: number % 2 == 0 and sys.argv[4] == 'send'
for number, connection, *_ in connections:
    if sends(number):
        connection.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 1000)
        connection.sendall(b'x' * 77)
    else:
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
            connection.setsockopt(socket.IPPROTO_TCP, option, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for number, connection, known, sent, received in connections:
    try:
        raise AssertionError(connection.recv(1))
    except TimeoutError:
        pass
    sent += 77 if sends(number) else 0
    report('outbound', known, sent, received, by='timeout', error=errno.ETIMEDOUT)
    connection.close()
";

#[test]
fn refused_connections_are_recorded_as_failed() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    for (address, own) in [(SERVER_V4, CLIENT_V4), (SERVER_V6, CLIENT_V6)] {
        let program = python(&case.client_netns, REFUSED, &[address, "9", "1000", own]);
        case.finish(program);
    }
    case.check();
}

#[test]
fn connections_reset_by_the_peer_have_the_error() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.exchanges(RESETTER, SERVER_V4, UNTIL_RESET, SERVER_V4);
    case.exchanges(UNREAD_CLOSER, SERVER_V6, UNTIL_RESET, SERVER_V6);
    case.check();
}

#[test]
fn unanswered_connects_end_by_timeout_or_close() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    // This address has no host, and a static neighbour entry avoids ARP requests.
    let unassigned = "192.0.2.99";
    let words = ["neighbour", "add", unassigned, "lladdr", "02:00:00:00:00:99", "dev", VETH];
    run(case.client_netns.command("ip").args(words));
    // The kernel times out after one and two seconds.
    case.client_netns.set("net/ipv4/tcp_syn_retries", "1");
    let program = python(&case.client_netns, UNANSWERED, &[unassigned, "443", "1000", CLIENT_V4]);
    case.finish(program);
    case.check();
}

/// Opens connections whose other end `vanish` makes unreachable.
fn with_vanished_peer(case: &mut Case, sends: &str, vanish: impl FnOnce(&Case)) {
    let server = python(&case.server_netns, OPEN_SERVER, &[SERVER_V4]);
    let port = ready(&server);
    let client = python(&case.client_netns, VANISHED_PEER, &[SERVER_V4, &port, "100", sends]);
    ready(&client);
    vanish(case);
    client.signal(Signal::SIGTERM);
    case.finish(client);
    // The server receives neither FIN nor RST, and keeps its connections open.
    case.expectations.extend(server.alerts().iter().map(Expectation::of));
    case.left.push(server);
}

#[test]
fn connections_to_an_unreachable_peer_time_out() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    with_vanished_peer(&mut case, "send", |case| {
        // Data for the server goes to a wrong link address.
        let words = ["neighbour", "replace", SERVER_V4, "lladdr", "02:00:00:00:00:99", "dev", VETH];
        run(case.client_netns.command("ip").args(words));
    });
    case.check();
}

#[test]
fn connections_to_a_peer_with_its_link_down_time_out() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    with_vanished_peer(&mut case, "probe", |case| {
        run(case.server_netns.command("ip").args(["link", "set", VETH, "down"]));
    });
    case.check();
}

/// Without a route there is no SYN; it depends on the kernel whether such a connect is visible.
const NO_ROUTE: &str = "
for target in sys.argv[4:]:
    target, expected = target.split('=')
    connection = socket.socket(family_of(target), socket.SOCK_STREAM)
    assert connection.connect_ex((target, PORT)) == int(expected), target
    own = '::' if ':' in target else '0.0.0.0'
    known = {'local': (own, 0), 'remote': (target, PORT)}
    report('outbound', known, event='failed', by='unknown', error=int(expected))
    connection.close()
";

#[test]
fn connects_without_a_route_are_recorded_or_reported_as_unobservable() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let agent = home.run();
    let off = agent.wait_for_log(SOON, "probes off: ").text;
    drop(agent);

    let mut case = Case::new();
    for (kind, address) in [
        ("unreachable", "203.0.113.1"),
        ("prohibit", "203.0.113.2"),
        ("unreachable", "2001:db8:99::1"),
    ] {
        run(case.client_netns.command("ip").args(["route", "add", kind, address]));
    }
    let targets = [
        "203.0.113.9=101",
        "203.0.113.1=113",
        "203.0.113.2=13",
        "2001:db8:98::1=101",
        "2001:db8:99::1=113",
    ];
    let words: Vec<&str> = [SERVER_V4, "443", "1"].into_iter().chain(targets).collect();
    let program = python(&case.client_netns, NO_ROUTE, &words);
    case.finish(program);
    assert_eq!(case.expectations.len(), targets.len());
    if off.contains("fexit tcp_v4_connect (") {
        // Not observable, and reported with the kernel's reason.
        assert!(
            off.contains("fexit tcp_v6_connect (") && off.contains("refused by the kernel"),
            "{off}"
        );
        case.expectations.clear();
        let refused = python(&case.client_netns, REFUSED, &[SERVER_V4, "9", "10", CLIENT_V4]);
        case.finish(refused);
    }
    case.check();
}
