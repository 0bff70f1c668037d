//! Connections that fail, and those that end badly.

use nix::sys::signal::Signal;
use sensor_tests::{CABLE, run};

use super::case::{CALLED_V4, CALLED_V6, CALLER_V4, CALLER_V6, Case, python, ready};
use super::claim::Claim;
use crate::harness::{Home, SOON, skipped};

/// To a port where nobody listens; every other one from a port of its own choice.
const REFUSED: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    if number % 2 == 0:
        connection.bind(('', 20_000 + number))
    assert connection.connect_ex((ADDRESS, PORT)) == errno.ECONNREFUSED
    local = (sys.argv[4], connection.getsockname()[1])
    assert number % 2 == 1 or local[1] == 20_000 + number
    known = {'local': local, 'remote': (ADDRESS, PORT)}
    tell('outbound', known, event='failed', by='remote', error=errno.ECONNREFUSED)
    connection.close()
";

/// To an address where nobody is: half of them until the kernel gives up, half until we do.
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
    tell('outbound', known, event='failed', by='local')
    connection.close()
for connection, known in connections[1::2]:
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    assert poll.poll(20_000)
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ETIMEDOUT
    tell('outbound', known, event='failed', by='timeout', error=errno.ETIMEDOUT)
    connection.close()
";

/// Ends each connection with a reset, when it has read all.
const RESETTER: &str = "
listener = listen(ADDRESS)
def work():
    for number in range(1 << 30):
        connection, _ = listener.accept()
        known = ends(connection)
        sent, received = answer(connection)
        receive(connection, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        tell('inbound', known, sent, received + 1, by='local', listener=os.getpid())
        connection.close()
ready(listener.getsockname()[1])
run(work)
";

/// Ends each connection with a reset, since it has not read all.
const IGNORER: &str = "
listener = listen(ADDRESS)
def work():
    for number in range(1 << 30):
        connection, _ = listener.accept()
        known = ends(connection)
        sent, received = answer(connection)
        assert connection.recv(1, socket.MSG_PEEK) == b'k'
        tell('inbound', known, sent, received + 1, by='local', listener=os.getpid())
        connection.close()
ready(listener.getsockname()[1])
run(work)
";

const UNTIL_RESET: &str = "
for number in range(COUNT):
    connection = socket.create_connection((ADDRESS, PORT))
    known = ends(connection)
    sent, received = ask(connection, number)
    connection.sendall(b'k')
    try:
        raise AssertionError(connection.recv(1))
    except ConnectionResetError:
        pass
    tell('outbound', known, sent + 1, received, by='remote', error=errno.ECONNRESET)
    connection.close()
";

/// Keeps what it has accepted.
const KEEPER: &str = "
listener, connections = listen(ADDRESS), []
def work():
    while True:
        connections.append(listener.accept()[0])
        known = ends(connections[-1])
        tell('inbound', known, *answer(connections[-1]), event='open', listener=os.getpid())
ready(listener.getsockname()[1])
run(work)
";

/// Connections whose other end vanishes when the test says so: half of them send something into the
/// void, unless told not to; the others only ask now and then whether it is still there.
const LEFT_ALONE: &str = "
TCP_USER_TIMEOUT = 18
connections = []
for number in range(COUNT):
    connection = socket.create_connection((ADDRESS, PORT))
    known = ends(connection)
    connections.append((number, connection, known, *ask(connection, number)))
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
    tell('outbound', known, sent, received, by='timeout', error=errno.ETIMEDOUT)
    connection.close()
";

#[test]
fn refused() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    for (address, own) in [(CALLED_V4, CALLER_V4), (CALLED_V6, CALLER_V6)] {
        let program = python(&case.caller, REFUSED, &[address, "9", "1000", own]);
        case.finish(program);
    }
    case.check();
}

#[test]
fn reset_by_the_other_end() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.dialogue(RESETTER, CALLED_V4, UNTIL_RESET, CALLED_V4);
    case.dialogue(IGNORER, CALLED_V6, UNTIL_RESET, CALLED_V6);
    case.check();
}

#[test]
fn unanswered_until_the_kernel_or_the_program_gives_up() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    // Nobody has this address, and nobody is asked who has.
    let nobody = "192.0.2.99";
    let words = ["neighbour", "add", nobody, "lladdr", "02:00:00:00:00:99", "dev", CABLE];
    run(case.caller.command("ip").args(words));
    // Given up after one and two seconds.
    case.caller.set("net/ipv4/tcp_syn_retries", "1");
    let program = python(&case.caller, UNANSWERED, &[nobody, "443", "1000", CALLER_V4]);
    case.finish(program);
    case.check();
}

/// Connections whose other end is made to vanish by `vanish`.
fn left_alone(case: &mut Case, sends: &str, vanish: impl FnOnce(&Case)) {
    let server = python(&case.called, KEEPER, &[CALLED_V4]);
    let port = ready(&server);
    let client = python(&case.caller, LEFT_ALONE, &[CALLED_V4, &port, "100", sends]);
    ready(&client);
    vanish(case);
    client.signal(Signal::SIGTERM);
    case.finish(client);
    // The other end does not know, and lives on.
    case.claims.extend(server.alerts().iter().map(Claim::of));
    case.left.push(server);
}

#[test]
fn left_alone_by_the_other_end() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    left_alone(&mut case, "send", |case| {
        // What is sent there finds nobody.
        let words =
            ["neighbour", "replace", CALLED_V4, "lladdr", "02:00:00:00:00:99", "dev", CABLE];
        run(case.caller.command("ip").args(words));
    });
    case.check();
}

#[test]
fn left_alone_by_the_other_ends_device() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    left_alone(&mut case, "ask", |case| {
        run(case.called.command("ip").args(["link", "set", CABLE, "down"]));
    });
    case.check();
}

/// Without a route there is no SYN; whether such a connect can be seen is the kernel's to say.
const NO_ROUTE: &str = "
for target in sys.argv[4:]:
    target, expected = target.split('=')
    connection = socket.socket(family_of(target), socket.SOCK_STREAM)
    assert connection.connect_ex((target, PORT)) == int(expected), target
    own = '::' if ':' in target else '0.0.0.0'
    known = {'local': (own, 0), 'remote': (target, PORT)}
    tell('outbound', known, event='failed', by='unknown', error=int(expected))
    connection.close()
";

#[test]
fn without_a_route_it_is_told_or_the_agent_says_why_not() {
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
        run(case.caller.command("ip").args(["route", "add", kind, address]));
    }
    let targets = [
        "203.0.113.9=101",
        "203.0.113.1=113",
        "203.0.113.2=13",
        "2001:db8:98::1=101",
        "2001:db8:99::1=113",
    ];
    let words: Vec<&str> = [CALLED_V4, "443", "1"].into_iter().chain(targets).collect();
    let program = python(&case.caller, NO_ROUTE, &words);
    case.finish(program);
    assert_eq!(case.claims.len(), targets.len());
    if off.contains("fexit tcp_v4_connect (") {
        // Not seen, and said so with the kernel's own reason.
        assert!(
            off.contains("fexit tcp_v6_connect (") && off.contains("refused by the kernel"),
            "{off}"
        );
        case.claims.clear();
        let refused = python(&case.caller, REFUSED, &[CALLED_V4, "9", "10", CALLER_V4]);
        case.finish(refused);
    }
    case.check();
}
