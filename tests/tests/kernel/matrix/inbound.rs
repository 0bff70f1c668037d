//! Whose an accepted connection is.

use super::case::{CALLED_V4, CALLED_V6, Case, PRELUDE, python, ready};
use super::outbound::BLOCKING;
use crate::harness::skipped;

const PRE_FORKED: &str = "
listener, master = listen(ADDRESS), os.getpid()
children = workers(4, lambda _: accept_all(listener, listener=master))
ready(listener.getsockname()[1])
until_told(children)
";

const MANY_BLOCKED: &str = "
listener, master = listen(ADDRESS), os.getpid()
children = workers(64, lambda _: accept_all(listener, listener=master))
ready(listener.getsockname()[1])
until_told(children)
";

const THREADS: &str = "
listener = listen(ADDRESS)
for _ in range(8):
    work = lambda: accept_all(listener, listener=os.getpid())
    threading.Thread(target=work, daemon=True).start()
ready(listener.getsockname()[1])
until_told()
";

/// Each worker has a listener of its own, all on one port.
const SHARED_PORT: &str = "
first = listen(ADDRESS, 0, shared=True)
port = first.getsockname()[1]
gate, open_gate = os.pipe()
seen, tell_seen = os.pipe()
def work(_):
    first.close()
    group = json.loads(os.read(gate, 64))
    listener = listen(ADDRESS, port, shared=True)
    os.write(tell_seen, b'.')
    accept_all(listener, listener=group)
children = workers(4, work)
for _ in children:
    os.write(open_gate, json.dumps(children).ljust(64).encode())
for _ in children:
    os.read(seen, 1)
first.close()
ready(port)
until_told(children)
";

/// One process accepts and hands each connection to one that reads it.
const HANDED_OVER: &str = "
listener, acceptor = listen(ADDRESS), os.getpid()
here, there = socket.socketpair()
def work(_):
    here.close()
    while True:
        _, (descriptor,), _, _ = socket.recv_fds(there, 1, 1)
        connection = socket.socket(fileno=descriptor)
        serve(connection, acceptor=acceptor, listener=acceptor)
        there.sendall(b'.')
def hand_over():
    while True:
        connection, _ = listener.accept()
        socket.send_fds(here, [b'.'], [connection.fileno()])
        connection.close()
        here.recv(1)
children = workers(1, work)
ready(listener.getsockname()[1])
threading.Thread(target=hand_over, daemon=True).start()
until_told(children)
";

/// One process reads and answers, another one closes.
const CLOSED_ELSEWHERE: &str = "
listener = listen(ADDRESS)
here, there = socket.socketpair()
def work(_):
    here.close()
    while True:
        _, (descriptor,), _, _ = socket.recv_fds(there, 1, 1)
        there.sendall(b'.')
        there.recv(1)
        os.close(descriptor)
def accept():
    while True:
        connection, _ = listener.accept()
        known = ends(connection)
        tell('inbound', known, *answer(connection), by='local', listener=os.getpid())
        socket.send_fds(here, [b'.'], [connection.fileno()])
        here.recv(1)
        connection.close()
        here.sendall(b'.')
children = workers(1, work)
ready(listener.getsockname()[1])
threading.Thread(target=accept, daemon=True).start()
until_told(children)
";

/// A client whose connections the other end closes.
const UNTIL_CLOSED: &str = "
for number in range(COUNT):
    connection = socket.create_connection((ADDRESS, PORT))
    known = ends(connection)
    sent, received = ask(connection, number)
    assert connection.recv(1) == b''
    tell('outbound', known, sent, received, by='remote')
    connection.close()
";

/// A worker with a hundred connections is killed with all of them open.
const KILLED: &str = "
listener, master = listen(ADDRESS), os.getpid()
done, out = os.pipe()
def work(_):
    connections = []
    for _ in range(100):
        connections.append(listener.accept()[0])
        known = ends(connections[-1])
        tell('inbound', known, *answer(connections[-1]), by='local', listener=master)
    os.write(out, b'.')
    signal.pause()
children = workers(1, work)
ready(listener.getsockname()[1])
os.read(done, 1)
os.kill(children[0], signal.SIGKILL)
until_told()
";

const HUNDRED_AT_ONCE: &str = "
connections = []
for number in range(100):
    connection = socket.create_connection((ADDRESS, PORT))
    known = ends(connection)
    tell('outbound', known, *ask(connection, number), by='remote')
    connections.append(connection)
for connection in connections:
    assert connection.recv(1) == b''
    connection.close()
";

const NO_ADDRESS: &str = "
listener = listen(ADDRESS)
def work():
    for number in range(1 << 30):
        if number % 2 == 0:
            descriptor = libc.accept(listener.fileno(), None, None)
        else:
            descriptor = libc.accept4(listener.fileno(), None, None, 0)
        serve(socket.socket(fileno=descriptor), listener=os.getpid())
ready(listener.getsockname()[1])
run(work)
";

/// Whose of several processes, by scripts that all answer a blocking client.
fn served_by(scripts: &[&str]) {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    for script in scripts {
        case.dialogue(script, CALLED_V4, BLOCKING, CALLED_V4);
    }
    case.check();
}

#[test]
fn accepted_by_one_of_four_workers_or_eight_threads() {
    served_by(&[PRE_FORKED, THREADS]);
}

#[test]
fn accepted_by_one_of_64_that_wait() {
    served_by(&[MANY_BLOCKED]);
}

#[test]
fn accepted_by_one_of_a_group_that_shares_the_port() {
    served_by(&[SHARED_PORT]);
}

#[test]
fn accepted_without_asking_for_the_address() {
    served_by(&[NO_ADDRESS]);
}

#[test]
fn accepted_by_one_and_read_by_another() {
    served_by(&[HANDED_OVER]);
}

#[test]
fn accepted_by_one_and_closed_by_another() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.dialogue(CLOSED_ELSEWHERE, CALLED_V6, UNTIL_CLOSED, CALLED_V6);
    case.check();
}

#[test]
fn a_killed_worker_has_closed_its_connections() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.dialogue(KILLED, CALLED_V4, HUNDRED_AT_ONCE, CALLED_V4);
    case.check();
}

/// Listens, and lets another program accept: its child (socket activation), or what it becomes.
const HANDS_OVER: &str = "
listener, program, how = listen(ADDRESS), sys.argv[2], sys.argv[3]
listener.set_inheritable(True)
ready(listener.getsockname()[1])
master = os.getpid()
def become():
    words = [program, '-c', sys.argv[4], ADDRESS, '0', '0', str(listener.fileno()), str(master)]
    os.execve(program, words, {'PYTHONHOME': '/usr'})
if how == 'child':
    until_told(workers(1, lambda _: become()))
become()
";

/// Accepts from a listener that it was given.
const GIVEN: &str = "
listener, master = socket.socket(fileno=int(sys.argv[4])), int(sys.argv[5])
run(lambda: accept_all(listener, listener=master))
";

/// Was given a listener and does not touch it: the listener's process stands in, which is this one.
const GIVEN_FOR_NOTHING: &str = "
listener = socket.socket(fileno=int(sys.argv[4]))
connections = []
def work():
    # Longer than anybody waits for the owner of an accepted connection.
    while not select.select([listener], [], [], 10)[0]:
        pass
    time.sleep(0.3)
    connection, _ = listener.accept()
    known, who = ends(connection), os.getpid()
    tell('inbound', known, *answer(connection), by='remote', listener=who, untouched=True)
    connection.recv(1)
    connection.close()
    work()
run(work)
";

/// Python under another path, so that what is given a listener is not taken for its giver.
fn given(case: &mut Case, how: &str, script: &str, times: &str) {
    let program = case.file("another-python");
    if !program.exists() {
        std::fs::copy("/usr/bin/python3", &program).unwrap();
    }
    let script = format!("{PRELUDE}\n{script}");
    let words = [CALLED_V4, program.to_str().unwrap(), how, &script];
    let server = python(&case.called, HANDS_OVER, &words);
    let port = ready(&server);
    let client = python(&case.caller, BLOCKING, &[CALLED_V4, &port, times]);
    case.finish(client);
    case.stop(server);
}

#[test]
fn a_child_that_is_given_the_listener() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    given(&mut case, "child", GIVEN, "1000");
    case.check();
}

#[test]
fn a_listener_that_outlives_the_program_that_made_it() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    given(&mut case, "itself", GIVEN, "1000");
    given(&mut case, "itself", GIVEN_FOR_NOTHING, "3");
    case.check();
}
