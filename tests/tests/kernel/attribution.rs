//! Connections whose owner is known only later, or only from other sockets: late first bytes,
//! subflows that the kernel opens, restored connections.

use std::process::{Command, Stdio};

use sensor_tests::{Netns, run, skip_unless_kernel_has};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, SOON, Server, V4, early_in_a_minute, is, skipped, text};

/// Configuration in which accept cannot be probed.
const WITHOUT_ACCEPT: &str = "disable = [\"inet_csk_accept_fexit4\", \"inet_csk_accept_fexit2\", \
                              \"inet_csk_accept_kretprobe\"]";

pub(crate) fn python(netns: &Netns, program: &str, words: &[&str]) -> Command {
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", program]).args(words);
    command
}

/// Lines of the TCP connections to `port` in one direction.
pub(crate) fn lines_to<'a>(lines: &'a [Value], port: u16, direction: &str) -> Vec<&'a Value> {
    let fits = |line: &&Value| {
        line["DestinationPort"] == port
            && text(line, "Direction") == direction
            && text(line, "Protocol") == "tcp"
    };
    lines.iter().filter(fits).collect()
}

/// Listens, and hands each accepted connection to a copy of the interpreter that reads it.
const ACTIVATOR: &str = "
import os, socket, sys
listener = socket.create_server((sys.argv[1], 0))
worker = '''
import socket
listener = socket.socket(fileno=0)
while True:
    connection, _ = listener.accept()
    connection.recv(10)
    connection.sendall(b'y')
    connection.close()
'''
pid = os.fork()
if pid == 0:
    os.dup2(listener.fileno(), 0)
    os.execv(sys.argv[2], [sys.argv[2], '-c', worker])
print('ready', listener.getsockname()[1], os.getpid(), pid, flush=True)
os.wait()
";

/// Connects `sys.argv[4]` times, and sends the first byte half a second after each connect.
const LATE_CLIENT: &str = "
import socket, sys, time
source, target, port, times = sys.argv[1:5]
for _ in range(int(times)):
    connection = socket.create_connection((target, int(port)), 5, (source, 0))
    time.sleep(0.5)
    connection.sendall(b'x')
    connection.recv(1)
    connection.close()
";

/// A listener whose worker is another program, in a process group of its own.
struct Activated {
    server: Server,
    port: u16,
    master: u64,
    worker: u64,
}

impl Activated {
    fn start(netns: &Netns, home: &Home) -> Self {
        let program = home.path("worker");
        std::fs::copy(std::fs::canonicalize("/usr/bin/python3").unwrap(), &program).unwrap();
        let mut command = python(netns, ACTIVATOR, &[V4, program.to_str().unwrap()]);
        command.env("PYTHONHOME", "/usr");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let (server, ready) = Server::start(command);
        let numbers: Vec<u64> = ready.split(' ').map(|word| word.parse().unwrap()).collect();
        let port = u16::try_from(numbers[0]).unwrap();
        Self { server, port, master: numbers[1], worker: numbers[2] }
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.server.0.id()).unwrap());
        let _killed = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn a_late_first_byte_corrects_the_listener_that_was_guessed() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let home = Home::new(WITHOUT_ACCEPT, "");
    let recording = home.record();
    let service = Activated::start(&netns, &home);
    let port = service.port.to_string();
    run(&mut python(&netns, LATE_CLIENT, &[CLIENT_V4, V4, &port, "1"]));
    recording.wait_for_closed(service.port, 2);
    let (lines, ledger) = recording.stop();
    let inbound = lines_to(&lines, service.port, "inbound");
    let event = |name: &str| {
        let found: Vec<&&Value> =
            inbound.iter().filter(|line| text(line, "Event") == name).collect();
        assert_eq!(found.len(), 1, "{name} in {inbound:#?}");
        *found[0]
    };
    let opened = event("opened");
    assert_eq!(
        (&opened["ProcessId"], text(opened, "Attribution")),
        (&service.master.into(), "listener")
    );
    let attributed = event("attributed");
    assert_eq!(attributed["Guess"]["ProcessId"], service.master);
    assert_eq!(attributed["Guess"]["Since"], opened["TimeGenerated"]);
    for line in [attributed, event("closed")] {
        assert_eq!(
            (&line["ProcessId"], text(line, "Attribution")),
            (&service.worker.into(), "first_io")
        );
        assert_eq!(text(line, "ProcessName"), "worker");
    }
    assert_eq!(event("closed")["BytesSent"], 1);
    ledger.assert_balances();
}

#[test]
fn rows_and_later_alerts_have_the_corrected_owner() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.jsonl");
    let sink = format!(
        "[[sink]]\nname = \"rows\"\nkind = \"file\"\ntakes = [\"rows\"]\npath = {file:?}\n\
         [dedup]\nwindow = \"20s\"\n[[sink]]\nname = \"out\"\nkind = \"stdout\"\n"
    );
    let home = Home::new(WITHOUT_ACCEPT, &sink);
    let agent = home.run();
    let service = Activated::start(&netns, &home);
    let port = service.port.to_string();
    early_in_a_minute();
    run(&mut python(&netns, LATE_CLIENT, &[CLIENT_V4, V4, &port, "3"]));
    let inbound = |alert: &Value, kind: &str, pid: u64| {
        text(alert, "Direction") == "inbound"
            && text(alert, "AlertKind") == kind
            && alert["ProcessId"] == pid
    };
    // The first is a guess, and marked as one.
    let (_, first) = agent.wait_for_alert(SOON, |alert| inbound(alert, "new", service.master));
    assert_eq!(text(&first, "Attribution"), "listener");
    let (_, second) = agent.wait_for_alert(SOON, |alert| inbound(alert, "new", service.worker));
    assert_eq!(text(&second, "Attribution"), "first_io");
    let (_, sum) =
        agent.wait_for_alert(SOON * 3, |alert| inbound(alert, "summary", service.worker));
    assert_eq!((&sum["ConnectionCount"], text(&sum, "Attribution")), (&1.into(), "first_io"));
    assert!(agent.stop().status.success());
    let rows = std::fs::read_to_string(&file).unwrap();
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |table: &str, column: &str, name: &str| -> Vec<[u64; 3]> {
        let fits = |row: &&Value| {
            text(row, "Type") == table && row[column] == service.port && row["ProcessName"] == name
        };
        let columns = ["LinksEstablished", "LinksTerminated", "BytesReceived"];
        let rows = rows.iter().filter(fits).filter(|row| row["Direction"] != "outbound");
        rows.map(|row| columns.map(|column| row[column].as_u64().unwrap())).collect()
    };
    let sum = |rows: Vec<[u64; 3]>| {
        rows.iter().fold([0; 3], |sum, row| [0, 1, 2].map(|at| sum[at] + row[at]))
    };
    for (table, column) in [("VMConnection", "DestinationPort"), ("VMBoundPort", "Port")] {
        assert_eq!(sum(of(table, column, "worker")), [3, 3, 3], "{table} {rows:#?}");
    }
    let guessed: Vec<&Value> = rows
        .iter()
        .filter(|row| row["DestinationPort"] == service.port && row["Direction"] == "inbound")
        .filter(|row| text(row, "ProcessName") != "worker")
        .collect();
    assert_eq!(guessed, Vec::<&Value>::new());
}

#[test]
fn a_late_reader_of_a_datagram_corrects_the_process_that_bound_the_socket() {
    if skipped() {
        return;
    }
    // The parent binds, the child reads long after the datagram has arrived.
    let server = "
import os, socket, sys, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 0))
pid = os.fork()
if pid == 0:
    time.sleep(1.5)
    server.recv(10)
    time.sleep(60)
print('ready', server.getsockname()[1], os.getpid(), pid, flush=True)
os.wait()
";
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let home = Home::new("", "");
    let recording = home.record();
    let mut command = python(&netns, server, &[V4]);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let (server, ready) = Server::start(command);
    let numbers: Vec<u64> = ready.split(' ').map(|word| word.parse().unwrap()).collect();
    let client = "
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind((sys.argv[1], 0))
client.sendto(b'?', (sys.argv[2], int(sys.argv[3])))
";
    run(&mut python(&netns, client, &[CLIENT_V4, V4, &numbers[0].to_string()]));
    recording.wait_for_lines(&["\"Event\":\"attributed\"", "\"Protocol\":\"udp\""], 1);
    let group = nix::unistd::Pid::from_raw(i32::try_from(server.0.id()).unwrap());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    let (lines, _) = recording.stop();
    let of = |event: &str| {
        let fits =
            |line: &&Value| line["DestinationPort"] == numbers[0] && is(line, event, "inbound");
        lines.iter().find(fits).unwrap_or_else(|| panic!("no {event} in {lines:#?}"))
    };
    let (opened, attributed) = (of("opened"), of("attributed"));
    assert_eq!(
        (&opened["ProcessId"], text(opened, "Attribution")),
        (&numbers[1].into(), "listener")
    );
    assert_eq!(attributed["ProcessId"], numbers[2]);
    assert_eq!(text(attributed, "Attribution"), "first_io");
    assert_eq!(of("closed")["ProcessId"], numbers[2]);
}

#[test]
fn further_subflows_of_mptcp_belong_to_the_owner_of_the_first() {
    let enabled = std::fs::read_to_string("/proc/sys/net/mptcp/enabled");
    let enabled = enabled.is_ok_and(|enabled| enabled.trim() == "1");
    if skipped() || skip_unless_kernel_has(enabled, "MPTCP, or has it off") {
        return;
    }
    let (client, server) = Netns::veth_pair(&["192.0.2.1/24", "192.0.2.3/24"], &["192.0.2.2/24"]);
    let mptcp = |netns: &Netns, words: &str| {
        run(netns.command("ip").arg("mptcp").args(words.split(' ')));
    };
    for netns in [&client, &server] {
        mptcp(netns, "limits set subflow 2 add_addr_accepted 2");
    }
    mptcp(&client, "endpoint add 192.0.2.3 dev veth0 subflow");
    let serve = "
import socket, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.bind(('192.0.2.2', 0))
listener.listen(8)
print('ready', listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
while data := connection.recv(1000):
    connection.sendall(data)
connection.close()
sys.stdin.read()
";
    let connect = "
import socket, sys, time
connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
connection.connect(('192.0.2.2', int(sys.argv[1])))
for _ in range(10):
    connection.sendall(b'x' * 1000)
    connection.recv(1000)
    time.sleep(0.1)
";
    let home = Home::new("", "");
    let recording = home.record();
    let mut command = python(&server, serve, &[]);
    command.stdin(Stdio::piped());
    let (listening, port) = Server::start(command);
    let mut caller = python(&client, connect, &[&port]).spawn().unwrap();
    assert!(caller.wait().unwrap().success());
    let port = port.parse().unwrap();
    recording.wait_for_closed(port, 4);
    let (lines, _) = recording.stop();
    for (direction, pid) in [("outbound", caller.id()), ("inbound", listening.0.id())] {
        let all = lines_to(&lines, port, direction);
        let of = |event: &'static str| all.iter().filter(move |line| text(line, "Event") == event);
        assert_eq!(of("opened").count(), 2, "{direction} {all:#?}");
        for line in of("opened").chain(of("closed")) {
            assert_eq!(line["ProcessId"], pid, "{line}");
        }
        // Where accept is not probed, the process reads or writes the MPTCP socket.
        for line in of("closed") {
            let attribution = text(line, "Attribution");
            assert!(["connect", "accept", "first_io"].contains(&attribution), "{line}");
        }
    }
}

/// Two restored ends: a client's, and that of a listener which is bound to the same port.
const RESTORE: &str = "
import socket, sys
REPAIR, QUEUE, SEQ = 19, 20, 21
def restore(local, remote, sequences):
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.setsockopt(socket.IPPROTO_TCP, REPAIR, 1)
    for queue, sequence in zip((2, 1), sequences):
        end.setsockopt(socket.IPPROTO_TCP, QUEUE, queue)
        end.setsockopt(socket.IPPROTO_TCP, SEQ, sequence)
    end.bind(local)
    end.connect(remote)
    return end
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], 0))
listener.listen(8)
called, calling = listener.getsockname(), (sys.argv[2], 41000)
client = restore(calling, called, (1000, 2000))
server = restore(called, calling, (2000, 1000))
for end in (client, server):
    end.setsockopt(socket.IPPROTO_TCP, REPAIR, 0)
client.sendall(b'12345')
assert server.recv(10) == b'12345'
print(called[1])
";

#[test]
fn a_restored_connection_has_the_direction_of_its_listener() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let home = Home::new("", "");
    let recording = home.record();
    let output = python(&netns, RESTORE, &[V4, CLIENT_V4]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let port: u16 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    recording.wait_for_closed(port, 2);
    let (lines, _) = recording.stop();
    for (direction, remote) in [("outbound", V4), ("inbound", CLIENT_V4)] {
        let all = lines_to(&lines, port, direction);
        let events: Vec<&str> = all.iter().map(|line| text(line, "Event")).collect();
        assert_eq!(events, ["opened", "established", "closed"], "{direction} {all:#?}");
        assert_eq!(text(all[0], "RemoteIp"), remote);
        assert_eq!((&all[0]["Preexisting"], text(all[0], "Attribution")), (&true.into(), "scan"));
    }
    let inbound = lines_to(&lines, port, "inbound");
    assert_eq!(inbound[2]["BytesReceived"], 5);
}
