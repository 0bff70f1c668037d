//! Programs that are in no file, and processes whose first thread has ended.

use std::process::Stdio;

use sensor_tests::Netns;
use serde_json::Value;

use crate::harness::{Home, SOON, Server, V4, skipped, text};

/// Copies the interpreter into a file without a name, and executes it: `sys.argv[1]` is `memfd:NAME`,
/// or a folder for an `O_TMPFILE`. The copy prints the name that /proc has, waits for a line of input,
/// connects to `sys.argv[2]`, and waits for the end of its input.
const FILELESS: &str = "
import os, sys
kind, target = sys.argv[1:3]
source = os.open(os.path.realpath(sys.executable), os.O_RDONLY)
if kind.startswith('memfd:'):
    copy = os.memfd_create(kind[6:], 0)
else:
    copy = os.open(kind, os.O_TMPFILE | os.O_RDWR, 0o700)
left = os.fstat(source).st_size
while left:
    left -= os.sendfile(copy, source, None, left)
program = '''
import os, socket, sys
print('ready', os.readlink('/proc/self/exe').removesuffix(' (deleted)'), flush=True)
sys.stdin.readline()
address, port = sys.argv[1].split(':')
socket.create_connection((address, int(port)), 5)
sys.stdin.read()
'''
path = f'/proc/self/fd/{copy}'
if not kind.startswith('memfd:'):
    # A file that is open for writing cannot be executed.
    reader = os.open(path, os.O_RDONLY)
    os.close(copy)
    path = f'/proc/self/fd/{reader}'
os.set_inheritable(copy if kind.startswith('memfd:') else reader, True)
os.execve(path, ['innocent', '-c', program, target], {'PYTHONHOME': sys.base_prefix})
";

/// A program without a file; returns what /proc calls it.
fn start(netns: &Netns, kind: &str, target: &str) -> (Server, String) {
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", FILELESS, kind, target]).stdin(Stdio::piped());
    Server::start(command)
}

fn go(server: &mut Server) {
    std::io::Write::write_all(server.0.stdin.as_mut().unwrap(), b"go\n").unwrap();
}

#[test]
fn a_program_without_a_file_has_the_name_that_proc_has() {
    if skipped() {
        return;
    }
    let (netns, home) = (Netns::new(&[V4]), Home::new("", ""));
    let (_server, port) = Server::peer(&netns, V4);
    let target = format!("{V4}:{port}");
    let folder = home.path("");
    let kinds =
        ["memfd:kworker", "memfd:other", "memfd:a/b \u{e9}", "memfd:", folder.to_str().unwrap()];
    // One that is older than the agent, and each kind that is not.
    let older = start(&netns, "memfd:kworker", &target);
    let agent = home.run();
    let younger = kinds.map(|kind| start(&netns, kind, &target));
    let mut paths = Vec::new();
    for (mut program, path) in [older].into_iter().chain(younger) {
        go(&mut program);
        let id = program.0.id();
        // The same program again is no new alert.
        if paths.contains(&path) {
            continue;
        }
        let (_, alert) = agent.wait_for_alert(SOON, |alert| alert["ProcessId"] == id);
        assert_eq!(text(&alert, "ProcessPath"), path, "{alert}");
        paths.push(path);
    }
    assert_eq!(paths[..4], ["/memfd:kworker", "/memfd:other", "/memfd:a/b \u{e9}", "/memfd:"]);
    assert!(paths[4].starts_with(folder.to_str().unwrap()), "{paths:?}");
    let same: Vec<Value> = agent.alerts();
    let kworkers = same.iter().filter(|alert| text(alert, "ProcessPath") == "/memfd:kworker");
    assert_eq!(kworkers.count(), 1);
    assert!(agent.stop().status.success());
}

/// Ends its first thread; another one connects once before that, stays connected, and connects again
/// after a line of input.
const HEADLESS: &str = "
import ctypes, os, socket, sys, threading
def connect(address):
    host, port = address.split(':')
    return socket.create_connection((host, int(port)), 5)
def go():
    stays = connect(sys.argv[1])
    main.join(0.5)
    print('ready', os.getpid(), flush=True)
    sys.stdin.readline()
    again = connect(sys.argv[2])
    sys.stdin.readline()
    os._exit(0)
main = threading.main_thread()
threading.Thread(target=go).start()
ctypes.CDLL(None).syscall(int(sys.argv[3]), 0)
";

#[test]
fn a_process_whose_first_thread_has_ended_is_known_by_another_thread() {
    if skipped() {
        return;
    }
    let (netns, home) = (Netns::new(&[V4, "203.0.113.9"]), Home::new("", ""));
    let (_server, port) = Server::peer(&netns, V4);
    let (_other, other) = Server::peer(&netns, "203.0.113.9");
    let exit = if std::env::consts::ARCH == "aarch64" { "93" } else { "60" };
    let mut command = netns.command("/usr/bin/python3");
    let targets = [format!("{V4}:{port}"), format!("203.0.113.9:{other}")];
    command.args(["-c", HEADLESS, &targets[0], &targets[1], exit]).stdin(Stdio::piped());
    let (mut program, pid) = Server::start(command);
    let state = format!("/proc/{pid}/status");
    assert!(std::fs::read_to_string(state).unwrap().contains("State:\tZ"), "a zombie leader");
    // Both the open connection and a new one have their owner, which is older than the agent.
    let recording = home.record();
    let opened = |port: u16| format!("\"DestinationPort\":{port},");
    recording.wait_for_lines(&["\"Event\":\"opened\"", "\"outbound\"", &opened(port)], 1);
    go(&mut program);
    recording.wait_for_lines(&["\"Event\":\"opened\"", "\"outbound\"", &opened(other)], 1);
    let (lines, _) = recording.stop();
    for port in [port, other] {
        let fits = |line: &&Value| {
            line["DestinationPort"] == port && crate::harness::is(line, "opened", "outbound")
        };
        let line = lines.iter().find(fits).unwrap();
        assert_eq!(line["ProcessId"].to_string(), pid, "{line}");
        assert!(text(line, "ProcessPath").contains("/python3"), "{line}");
        assert!(text(line, "CommandLine").starts_with("/usr/bin/python3 -c"), "{line}");
    }
}
