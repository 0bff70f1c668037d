//! Owners of accepted connections.

use super::case::{Case, PRELUDE, SERVER_V4, SERVER_V6, python, ready};
use super::outbound::BLOCKING;
use crate::harness::skipped;

const PRE_FORKED: &str = "
listener, master = listen(ADDRESS), os.getpid()
children = workers(4, lambda _: accept_all(listener, listener=master))
ready(listener.getsockname()[1])
until_terminated(children)
";

const MANY_BLOCKED: &str = "
listener, master = listen(ADDRESS), os.getpid()
children = workers(64, lambda _: accept_all(listener, listener=master))
ready(listener.getsockname()[1])
until_terminated(children)
";

const THREADS: &str = "
listener = listen(ADDRESS)
for _ in range(8):
    work = lambda: accept_all(listener, listener=os.getpid())
    threading.Thread(target=work, daemon=True).start()
ready(listener.getsockname()[1])
until_terminated()
";

/// Each worker has its own listener, all on one port.
const SHARED_PORT: &str = "
first = listen(ADDRESS, 0, shared=True)
port = first.getsockname()[1]
gate, open_gate = os.pipe()
listening, set_listening = os.pipe()
def work(_):
    first.close()
    group = json.loads(os.read(gate, 64))
    listener = listen(ADDRESS, port, shared=True)
    os.write(set_listening, b'.')
    accept_all(listener, listener=group)
children = workers(4, work)
for _ in children:
    os.write(open_gate, json.dumps(children).ljust(64).encode())
for _ in children:
    os.read(listening, 1)
first.close()
ready(port)
until_terminated(children)
";

/// One process accepts, and passes each connection to another process that reads it.
const PASSED_DESCRIPTOR: &str = "
listener, acceptor = listen(ADDRESS), os.getpid()
acceptor_end, worker_end = socket.socketpair()
def work(_):
    acceptor_end.close()
    while True:
        _, (descriptor,), _, _ = socket.recv_fds(worker_end, 1, 1)
        connection = socket.socket(fileno=descriptor)
        serve(connection, acceptor=acceptor, listener=acceptor)
        worker_end.sendall(b'.')
def pass_connections():
    while True:
        connection, _ = listener.accept()
        socket.send_fds(acceptor_end, [b'.'], [connection.fileno()])
        connection.close()
        acceptor_end.recv(1)
children = workers(1, work)
ready(listener.getsockname()[1])
threading.Thread(target=pass_connections, daemon=True).start()
until_terminated(children)
";

/// One process reads and responds, another one closes.
const CLOSED_ELSEWHERE: &str = "
listener = listen(ADDRESS)
acceptor_end, worker_end = socket.socketpair()
def work(_):
    acceptor_end.close()
    while True:
        _, (descriptor,), _, _ = socket.recv_fds(worker_end, 1, 1)
        worker_end.sendall(b'.')
        worker_end.recv(1)
        os.close(descriptor)
def accept():
    while True:
        connection, _ = listener.accept()
        known = ends(connection)
        report('inbound', known, *send_response(connection), by='local', listener=os.getpid())
        socket.send_fds(acceptor_end, [b'.'], [connection.fileno()])
        acceptor_end.recv(1)
        connection.close()
        acceptor_end.sendall(b'.')
children = workers(1, work)
ready(listener.getsockname()[1])
threading.Thread(target=accept, daemon=True).start()
until_terminated(children)
";

/// A client that waits for the server to close each connection.
const UNTIL_CLOSED: &str = "
for number in range(COUNT):
    connection = socket.create_connection((ADDRESS, PORT))
    known = ends(connection)
    sent, received = send_request(connection, number)
    assert connection.recv(1) == b''
    report('outbound', known, sent, received, by='remote')
    connection.close()
";

/// A worker is killed while its hundred connections are open.
const KILLED: &str = "
listener, master = listen(ADDRESS), os.getpid()
done, out = os.pipe()
def work(_):
    connections = []
    for _ in range(100):
        connections.append(listener.accept()[0])
        known = ends(connections[-1])
        report('inbound', known, *send_response(connections[-1]), by='local', listener=master)
    os.write(out, b'.')
    signal.pause()
children = workers(1, work)
ready(listener.getsockname()[1])
os.read(done, 1)
os.kill(children[0], signal.SIGKILL)
until_terminated()
";

const HUNDRED_AT_ONCE: &str = "
connections = []
for number in range(100):
    connection = socket.create_connection((ADDRESS, PORT))
    known = ends(connection)
    report('outbound', known, *send_request(connection, number), by='remote')
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

/// Runs servers with several processes, each with a blocking client.
fn served_by(scripts: &[&str]) {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    for script in scripts {
        case.exchanges(script, SERVER_V4, BLOCKING, SERVER_V4);
    }
    case.check();
}

#[test]
fn one_of_four_workers_or_eight_threads_accepts() {
    served_by(&[PRE_FORKED, THREADS]);
}

#[test]
fn one_of_64_blocked_workers_accepts() {
    served_by(&[MANY_BLOCKED]);
}

#[test]
fn one_of_a_reuseport_group_accepts() {
    served_by(&[SHARED_PORT]);
}

#[test]
fn accept_without_an_address_buffer() {
    served_by(&[NO_ADDRESS]);
}

#[test]
fn one_process_accepts_and_another_reads() {
    served_by(&[PASSED_DESCRIPTOR]);
}

#[test]
fn one_process_accepts_and_another_closes() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.exchanges(CLOSED_ELSEWHERE, SERVER_V6, UNTIL_CLOSED, SERVER_V6);
    case.check();
}

#[test]
fn connections_of_a_killed_worker_are_closed() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    case.exchanges(KILLED, SERVER_V4, HUNDRED_AT_ONCE, SERVER_V4);
    case.check();
}

/// Listens, and lets another program accept: its child (socket activation), or its own successor
/// after `execve`.
const LISTENER_OWNER: &str = "
listener, program, mode = listen(ADDRESS), sys.argv[2], sys.argv[3]
listener.set_inheritable(True)
ready(listener.getsockname()[1])
master = os.getpid()
def exec_acceptor():
    words = [program, '-c', sys.argv[4], ADDRESS, '0', '0', str(listener.fileno()), str(master)]
    os.execve(program, words, {'PYTHONHOME': '/usr'})
if mode == 'child':
    until_terminated(workers(1, lambda _: exec_acceptor()))
exec_acceptor()
";

/// Accepts from an inherited listener.
const INHERITED: &str = "
listener, master = socket.socket(fileno=int(sys.argv[4])), int(sys.argv[5])
run(lambda: accept_all(listener, listener=master))
";

/// Accepts from an inherited listener too late: the listening process, which is this one, is
/// recorded as the owner.
const INHERITED_LATE: &str = "
listener = socket.socket(fileno=int(sys.argv[4]))
connections = []
def work():
    # Longer than the agent waits for the owner of an accepted connection.
    while not select.select([listener], [], [], 10)[0]:
        pass
    time.sleep(0.3)
    connection, _ = listener.accept()
    known, owner = ends(connection), os.getpid()
    report('inbound', known, *send_response(connection), by='remote', listener=owner, untouched=True)
    connection.recv(1)
    connection.close()
    work()
run(work)
";

/// Runs a copy of Python under another path, so that records distinguish the program that accepts
/// from the one that listens.
fn inherited_listener(case: &mut Case, mode: &str, script: &str, times: &str) {
    let program = case.file("another-python");
    if !program.exists() {
        std::fs::copy("/usr/bin/python3", &program).unwrap();
    }
    let script = format!("{PRELUDE}\n{script}");
    let words = [SERVER_V4, program.to_str().unwrap(), mode, &script];
    let server = python(&case.server_netns, LISTENER_OWNER, &words);
    let port = ready(&server);
    let client = python(&case.client_netns, BLOCKING, &[SERVER_V4, &port, times]);
    case.finish(client);
    case.stop(server);
}

#[test]
fn a_child_accepts_from_an_inherited_listener() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    inherited_listener(&mut case, "child", INHERITED, "1000");
    case.check();
}

#[test]
fn a_listener_outlives_the_program_that_created_it() {
    if skipped() {
        return;
    }
    let mut case = Case::new();
    inherited_listener(&mut case, "itself", INHERITED, "1000");
    inherited_listener(&mut case, "itself", INHERITED_LATE, "3");
    case.check();
}
