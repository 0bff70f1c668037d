//! Who connects, and how.

use super::case::{CALLED_MAPPED, CALLED_V4, CALLED_V6, CALLER_V4, Case, python};
use crate::harness::skipped;

/// One process that listens, accepts and answers.
pub(super) const SERVER: &str = "
listener = listen(ADDRESS)
ready(listener.getsockname()[1])
run(lambda: accept_all(listener, listener=os.getpid()))
";

pub(super) const BLOCKING: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.connect((ADDRESS, PORT))
    converse(connection, number)
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
    converse(connection, number)
";

const BOUND: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.bind(('0.0.0.0', 20_000 + number))
    connection.connect((ADDRESS, PORT))
    assert connection.getsockname()[1] == 20_000 + number
    converse(connection, number)
";

const FROM_A_THREAD: &str = "
def one(number):
    assert threading.get_native_id() != os.getpid()
    connection = socket.create_connection((ADDRESS, PORT))
    converse(connection, number)
for number in range(COUNT):
    thread = threading.Thread(target=one, args=(number,))
    thread.start()
    thread.join()
";

/// The same socket twice: `connect` to no family ends the first connection with a reset.
const AGAIN: &str = "
for number in range(0, COUNT, 2):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.connect((ADDRESS, PORT))
    known = ends(connection)
    tell('outbound', known, *ask(connection, number), by='local')
    assert libc.connect(connection.fileno(), bytes(16), 16) == 0
    connection.connect((ADDRESS, PORT))
    converse(connection, number + 1)
";

/// Listens and calls itself.
const OWN_LISTENER: &str = "
listener = listen(ADDRESS)
for number in range(COUNT):
    connection = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    here, there = ends(connection), ends(accepted)
    connection.sendall(b'q' * number)
    receive(accepted, number)
    accepted.sendall(b'a' * 3)
    receive(connection, 3)
    tell('outbound', here, number, 3, by='local')
    tell('inbound', there, 3, number, by='remote', listener=os.getpid())
    connection.close()
    assert accepted.recv(1) == b''
    accepted.close()
";

/// One socket that calls the port that it is bound to: both ends open at once.
const ITSELF: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM)
    connection.bind((ADDRESS, 30_000 + number))
    connection.connect((ADDRESS, 30_000 + number))
    known = ends(connection)
    assert known['local'] == known['remote']
    connection.sendall(b'q' * 9)
    receive(connection, 9)
    tell('outbound', known, 9, 9, by='local')
    connection.close()
";

#[test]
fn a_blocking_connect() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.dialogue(SERVER, CALLED_V4, BLOCKING, CALLED_V4);
    case.dialogue(SERVER, CALLED_V6, BLOCKING, CALLED_V6);
    case.dialogue(SERVER, "::", BLOCKING, CALLED_MAPPED);
    case.check();
}

#[test]
fn a_non_blocking_connect() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.dialogue(SERVER, CALLED_V4, NON_BLOCKING, CALLED_V4);
    case.dialogue(SERVER, CALLED_V6, NON_BLOCKING, CALLED_V6);
    case.check();
}

#[test]
fn a_bound_port_a_thread_and_a_socket_that_is_used_again() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.dialogue(SERVER, CALLED_V4, BOUND, CALLED_V4);
    case.dialogue(SERVER, CALLED_V6, FROM_A_THREAD, CALLED_V6);
    case.dialogue(SERVER, CALLED_V4, AGAIN, CALLED_V4);
    case.check();
}

#[test]
fn a_process_that_calls_itself() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    for script in [OWN_LISTENER, ITSELF] {
        let program = python(&case.caller, script, &[CALLER_V4, "0", "1000"]);
        case.finish(program);
    }
    case.settle();
    case.check();
}
