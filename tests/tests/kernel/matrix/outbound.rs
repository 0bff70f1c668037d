//! Ways to connect.

use super::case::{CLIENT_V4, Case, SERVER_MAPPED, SERVER_V4, SERVER_V6, python};
use crate::harness::skipped;

/// One process that listens, accepts and responds.
pub(super) const SERVER: &str = "
listener = listen(ADDRESS)
ready(listener.getsockname()[1])
run(lambda: accept_all(listener, listener=os.getpid()))
";

pub(super) const BLOCKING: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.connect((ADDRESS, PORT))
    exchange(connection, number)
";

const NON_BLOCKING: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.setblocking(False)
    assert connection.connect_ex((ADDRESS, PORT)) == errno.EINPROGRESS
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    assert poll.poll(10_000)
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    connection.setblocking(True)
    exchange(connection, number)
";

const BOUND: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.bind(('0.0.0.0', 20_000 + number))
    connection.connect((ADDRESS, PORT))
    assert connection.getsockname()[1] == 20_000 + number
    exchange(connection, number)
";

const FROM_A_THREAD: &str = "
def connect(number):
    assert threading.get_native_id() != os.getpid()
    connection = socket.create_connection((ADDRESS, PORT))
    exchange(connection, number)
for number in range(COUNT):
    thread = threading.Thread(target=connect, args=(number,))
    thread.start()
    thread.join()
";

/// Uses a socket twice: `connect` with `AF_UNSPEC` ends the first connection with a reset.
const REUSED_SOCKET: &str = "
for number in range(0, COUNT, 2):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.connect((ADDRESS, PORT))
    known = ends(connection)
    report('outbound', known, *send_request(connection, number), by='local')
    assert libc.connect(connection.fileno(), bytes(16), 16) == 0
    connection.connect((ADDRESS, PORT))
    exchange(connection, number + 1)
";

/// Listens, and connects to itself.
const OWN_LISTENER: &str = "
listener = listen(ADDRESS)
for number in range(COUNT):
    connection = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    client, server = ends(connection), ends(accepted)
    connection.sendall(b'q' * number)
    receive(accepted, number)
    accepted.sendall(b'a' * 3)
    receive(connection, 3)
    report('outbound', client, number, 3, by='local')
    report('inbound', server, 3, number, by='remote', listener=os.getpid())
    connection.close()
    assert accepted.recv(1) == b''
    accepted.close()
";

/// A socket that connects to its own port: a simultaneous open.
const SELF_CONNECT: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.bind((ADDRESS, 30_000 + number))
    connection.connect((ADDRESS, 30_000 + number))
    known = ends(connection)
    assert known['local'] == known['remote']
    connection.sendall(b'q' * 9)
    receive(connection, 9)
    report('outbound', known, 9, 9, by='local')
    connection.close()
";

#[test]
fn blocking_connects_are_recorded() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.exchanges(SERVER, SERVER_V4, BLOCKING, SERVER_V4);
    case.exchanges(SERVER, SERVER_V6, BLOCKING, SERVER_V6);
    case.exchanges(SERVER, "::", BLOCKING, SERVER_MAPPED);
    case.check();
}

#[test]
fn non_blocking_connects_are_recorded() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.exchanges(SERVER, SERVER_V4, NON_BLOCKING, SERVER_V4);
    case.exchanges(SERVER, SERVER_V6, NON_BLOCKING, SERVER_V6);
    case.check();
}

#[test]
fn connects_with_a_bound_port_a_thread_and_a_reused_socket() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.exchanges(SERVER, SERVER_V4, BOUND, SERVER_V4);
    case.exchanges(SERVER, SERVER_V6, FROM_A_THREAD, SERVER_V6);
    case.exchanges(SERVER, SERVER_V4, REUSED_SOCKET, SERVER_V4);
    case.check();
}

#[test]
fn a_process_that_connects_to_itself() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    for script in [OWN_LISTENER, SELF_CONNECT] {
        let program = python(&case.client_netns, script, &[CLIENT_V4, "0", "1000"]);
        case.finish(program);
    }
    case.wait_until_closed();
    case.check();
}
