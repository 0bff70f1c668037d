//! Listeners that the kernel gives a port, since they are not bound.

use std::io::Write as _;
use std::process::{Command, Stdio};

use sensor_tests::{Netns, run};
use serde_json::Value;

use crate::attribution::{lines_to, python};
use crate::harness::{CLIENT_V4, Home, Server, V4, early_in_a_minute, peer, skipped, text};

/// Listens without `bind`, so that the kernel chooses the port. Never accepts; closes the listener at
/// a line of input, and exits at the end of its input.
const WITHOUT_BIND: &str = "
import socket, sys
listener = socket.socket(socket.AF_INET6 if sys.argv[1] == 'v6' else socket.AF_INET)
listener.listen(8)
print('ready', listener.getsockname()[1], flush=True)
if sys.stdin.readline():
    listener.close()
    print('ready', 0, flush=True)
sys.stdin.read()
";

fn listen_without_bind(netns: &Netns, family: &str) -> (Server, u16) {
    let mut command = python(netns, WITHOUT_BIND, &[family]);
    command.stdin(Stdio::piped());
    let (server, port) = Server::start(command);
    (server, port.parse().unwrap())
}

#[test]
fn listeners_without_a_bound_port_are_reported_with_the_port_of_the_kernel() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.jsonl");
    let sink = format!(
        "[[sink]]\nname = \"rows\"\nkind = \"file\"\ntakes = [\"rows\"]\npath = {file:?}\n"
    );
    let home = Home::new("", &sink);
    let agent = home.run();
    early_in_a_minute();
    // Two that stay, one of each family, and one that ends before any scan.
    let (_v4, one) = listen_without_bind(&netns, "v4");
    let (_v6, two) = listen_without_bind(&netns, "v6");
    let (mut short, three) = listen_without_bind(&netns, "v4");
    short.0.stdin.as_mut().unwrap().write_all(b"close\n").unwrap();
    run(Command::new("sleep").arg("6"));
    assert!(agent.stop().status.success());
    let rows = std::fs::read_to_string(&file).unwrap();
    let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let own =
        |row: &Value| row["Type"] == "VMBoundPort" && row["NetworkNamespace"] == netns.inode();
    let mut ports: Vec<u64> = rows.filter(own).map(|row| row["Port"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    let mut expected = [one, two, three].map(u64::from);
    expected.sort_unstable();
    assert_eq!(ports, expected);
}

#[test]
fn an_inbound_connection_to_a_listener_without_a_bound_port_has_its_owner() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let home = Home::new("", "");
    let recording = home.record();
    let (first, port) = listen_without_bind(&netns, "v4");
    let try_port = |port: u16| {
        let mut client = netns.command(peer());
        run(client.args(["try", &format!("{V4}:{port}")]));
    };
    // At once, before any scan; then with a second listener, by the ports that the scans have found.
    try_port(port);
    run(Command::new("sleep").arg("0.2"));
    let (second, other) = listen_without_bind(&netns, "v6");
    run(Command::new("sleep").arg("6"));
    try_port(port);
    try_port(other);
    recording.wait_for_lines(
        &[
            "\"Event\":\"opened\"",
            "\"Direction\":\"inbound\"",
            &format!("\"DestinationPort\":{other},"),
        ],
        1,
    );
    let (pid, other_pid) = (first.0.id(), second.0.id());
    let (lines, _) = recording.stop();
    let owners = |port: u16| -> Vec<(Value, String)> {
        let inbound = lines_to(&lines, port, "inbound");
        let opened = inbound.iter().filter(|line| text(line, "Event") == "opened");
        opened.map(|it| (it["ProcessId"].clone(), text(it, "Attribution").to_owned())).collect()
    };
    assert_eq!(owners(port), vec![(pid.into(), "listener".to_owned()); 2]);
    assert_eq!(owners(other), [(other_pid.into(), "listener".to_owned())]);
}
