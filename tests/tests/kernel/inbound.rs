//! Inbound connections: attributed to the worker process, not its master.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use sensor_tests::Netns;
use serde_json::Value;

use crate::harness::{CLIENT_V4, CLIENT_V6, Home, SOON, Server, V4, V6, peer, skipped, text};

/// Listens, forks three workers that all accept, and replies to each connection with the worker's
/// process id.
const PREFORK: &str = "
import os, socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
listener = socket.socket(family, socket.SOCK_STREAM)
if family == socket.AF_INET6:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
listener.bind((sys.argv[1], 0))
listener.listen(64)
for worker in range(3):
    if os.fork() == 0:
        while True:
            connection, _ = listener.accept()
            connection.sendall(str(os.getpid()).encode())
            connection.close()
print('ready', listener.getsockname()[1], os.getpid(), flush=True)
os.wait()
";

/// Connects from an address of the list, and reads the worker's id.
const CLIENT: &str = "
import socket, sys
source, target, port = sys.argv[1:4]
connection = socket.create_connection((target, int(port)), 5, (source, 0))
sys.stdout.write(connection.recv(20).decode())
";

fn worker_alerts(bind: &str, source: &str, target: &str) {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, V6, CLIENT_V4, CLIENT_V6]);
    // The workers outlive a killed master: the process group is killed below.
    let mut server = netns.command("/usr/bin/python3");
    server.args(["-c", PREFORK, bind]);
    std::os::unix::process::CommandExt::process_group(&mut server, 0);
    let home = Home::new("", "");
    let agent = home.run();
    let (server, ready) = Server::start(server);
    let (port, master) = ready.split_once(' ').unwrap();
    let mut client = netns.command("/usr/bin/python3");
    let output = client.args(["-c", CLIENT, source, target, port]).output().unwrap();
    let worker: u32 = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    let group = nix::unistd::Pid::from_raw(i32::try_from(server.0.id()).unwrap());
    let inbound = |alert: &Value| text(alert, "Direction") == "inbound";
    let (_, alert) = agent.wait_for_alert(SOON, inbound);
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_ne!(worker.to_string(), master);
    assert_eq!(alert["ProcessId"], worker, "{alert}");
    assert!(["accept", "first_io"].contains(&text(&alert, "Attribution")), "{alert}");
    assert_eq!(text(&alert, "RemoteIp"), source);
    assert_eq!(text(&alert, "SourceIp"), source);
    assert_eq!(alert["DestinationPort"].to_string(), port);
    assert!(text(&alert, "CommandLine").starts_with("/usr/bin/python3 -c"), "{alert}");
    assert_eq!(text(&alert, "ParentProcessName"), text(&alert, "ProcessName"));
    assert!(agent.stop().status.success());
}

#[test]
fn an_ipv4_connection_is_attributed_to_the_preforked_worker() {
    worker_alerts(V4, CLIENT_V4, V4);
}

#[test]
fn an_ipv6_connection_is_attributed_to_the_preforked_worker() {
    worker_alerts(V6, CLIENT_V6, V6);
}

#[test]
fn a_dual_stack_connection_is_attributed_to_the_worker_with_an_ipv4_remote() {
    worker_alerts("::", CLIENT_V4, V4);
}

#[test]
fn an_unaccepted_connection_is_attributed_to_the_listener() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let home = Home::new("", "");
    let recording = home.record();
    // Listens and never accepts; exits at the end of its input.
    let idle = "
import socket, sys
listener = socket.create_server((sys.argv[1], 0))
print('ready', listener.getsockname()[1], flush=True)
sys.stdin.read()
";
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", idle, V4]).stdin(Stdio::piped());
    let (mut server, port) = Server::start(command);
    let mut client = netns
        .command(peer())
        .args(["try", &format!("{V4}:{port}")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = String::new();
    client.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    client.wait().unwrap();
    server.0.stdin.take().unwrap().flush().unwrap();
    server.0.wait().unwrap();
    let (lines, ledger) = recording.stop();
    let opened = lines.iter().find(|line| {
        text(line, "Direction") == "inbound"
            && line["DestinationPort"].as_u64() == port.parse().ok()
    });
    let opened = opened.unwrap_or_else(|| panic!("no inbound connection in {lines:?}"));
    assert_eq!(text(opened, "Event"), "opened");
    // The listener is the owner, by timeout or by its close.
    assert_eq!(opened["ProcessId"], server.0.id());
    assert!(["listener", "first_io"].contains(&text(opened, "Attribution")), "{opened}");
    ledger.assert_balances();
}
