//! Open connections: byte counts at each socket scan, and recovery of records lost in the ring.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use sensor_tests::{Netns, run};
use serde_json::Value;

use crate::harness::{Home, Server, V4, is, skipped, text, time};

/// Transfers data in both directions, leaves a second connection idle, half-closes the first, and
/// closes both at the end of its input.
const TRANSFER: &str = "
import socket, sys, time
listener = socket.create_server((sys.argv[1], 0))
pairs = []
for _ in range(2):
    client = socket.create_connection(listener.getsockname())
    pairs.append((client, listener.accept()[0]))
(client, server), idle = pairs
print('ready', listener.getsockname()[1], client.getsockname()[1], flush=True)
def move(sender, receiver, count):
    sender.sendall(b'x' * count)
    while count:
        count -= len(receiver.recv(count))
for _ in range(40):
    move(client, server, 50_000)
    move(server, client, 7_001)
    time.sleep(0.1)
client.shutdown(socket.SHUT_WR)
time.sleep(2.5)
move(server, client, 10_000)
sys.stdin.read()
for client, server in pairs:
    client.close()
    server.close()
";
const TRANSFERRED: (u64, u64) = (40 * 50_000, 40 * 7_001 + 10_000);

#[test]
fn each_scan_reports_byte_counts_and_they_sum_to_the_total() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let home = Home::new("scan_interval = \"1s\"", "");
    let recording = home.record();
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", TRANSFER, V4]).stdin(Stdio::piped());
    let (mut server, ready) = Server::start(command);
    let (port, client) = ready.split_once(' ').unwrap();
    let (port, client): (u16, u64) = (port.parse().unwrap(), client.parse().unwrap());
    // The transfer takes 8 s; then both ends of both connections close.
    run(Command::new("sleep").arg("9"));
    server.0.stdin.take().unwrap().flush().unwrap();
    server.0.wait().unwrap();
    recording.wait_for_closed(port, 4);
    let (lines, _) = recording.stop();
    for (direction, expected) in
        [("outbound", TRANSFERRED), ("inbound", (TRANSFERRED.1, TRANSFERRED.0))]
    {
        let of = |event: &str, busy: bool| -> Vec<&Value> {
            let fits = |line: &&Value| {
                is(line, event, direction)
                    && line["DestinationPort"] == port
                    && (line["SourcePort"] == client) == busy
            };
            lines.iter().filter(fits).collect()
        };
        let (active, closed) = (of("active", true), of("closed", true));
        assert!(active.len() >= 4, "{direction}: {active:?}");
        assert_eq!(closed.len(), 1);
        let sum = |column: &str| -> u64 {
            active.iter().chain(&closed).map(|line| line[column].as_u64().unwrap()).sum()
        };
        assert_eq!((sum("BytesSent"), sum("BytesReceived")), expected, "{direction}");
        assert!(active.iter().all(|line| line["RttUs"].as_u64().unwrap() > 0), "{active:?}");
        let times: Vec<Timestamp> = active.iter().map(|line| time(line)).collect();
        assert!(times.is_sorted());
        assert_eq!(of("active", false), Vec::<&Value>::new(), "the idle connection");
        assert_eq!(of("closed", false).len(), 1);
    }
}

/// Opens connections to itself; at a line of input closes them and opens others.
const CHANGES: &str = "
import socket, sys
listener = socket.create_server((sys.argv[1], 0), backlog=4096)
def pairs(count):
    opened = []
    for _ in range(count):
        client = socket.create_connection(listener.getsockname())
        opened.append((client, listener.accept()[0]))
    return opened
first = pairs(300)
print('ready', listener.getsockname()[1], flush=True)
sys.stdin.readline()
for client, server in first:
    client.close(), server.close()
second = pairs(300)
sys.stdin.read()
";

#[test]
fn socket_scans_recover_records_lost_in_the_ring() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let home = Home::new("scan_interval = \"1s\"\nring_bytes = \"64KiB\"", "");
    let recording = home.record();
    recording.agent.wait_for_log(Duration::from_secs(5), "open sockets read");
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", CHANGES, V4]).stdin(Stdio::piped());
    let (mut server, port) = Server::start(command);
    let port: u16 = port.parse().unwrap();
    // Some of these may be lost in the ring too, and are then reported only by a socket scan.
    recording
        .wait_for_lines(&["\"Event\":\"opened\"", &format!("\"DestinationPort\":{port},")], 600);
    // While the agent is stopped, the ring holds some 400 records of the 2,700.
    recording.agent.signal(Signal::SIGSTOP);
    server.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    run(Command::new("sleep").arg("2"));
    recording.agent.signal(Signal::SIGCONT);
    recording.wait_for_closed(port, 600);
    run(Command::new("sleep").arg("3"));
    let (lines, ledger) = recording.stop();
    assert!(ledger.count("tcp_ring_full") > 500, "{ledger:?}");
    for direction in ["outbound", "inbound"] {
        let ports = |event: &str| -> Vec<&Value> {
            let fits =
                |line: &&Value| line["DestinationPort"] == port && is(line, event, direction);
            lines.iter().filter(fits).map(|line| &line["SourcePort"]).collect()
        };
        let (opened, closed) = (ports("opened"), ports("closed"));
        let each: HashSet<String> = opened.iter().map(ToString::to_string).collect();
        assert_eq!((opened.len(), each.len()), (600, 600), "{direction}: each exactly once");
        assert_eq!(closed.len(), 300, "{direction}");
        let found = lines.iter().filter(|line| {
            line["DestinationPort"] == port
                && is(line, "opened", direction)
                && text(line, "Attribution") == "scan"
        });
        for line in found.clone() {
            assert_eq!(line["ProcessId"], server.0.id());
            assert_eq!(line["Preexisting"], false);
        }
        assert!(found.count() > 100, "{direction}");
    }
}
