//! UDP under load, and at its table limits.

use sensor_tests::Netns;

use crate::harness::{Home, V4, skipped};
use crate::udp::{ends, flows, python};

#[test]
fn a_million_datagrams_are_counted_without_an_event_each() {
    if skipped() {
        return;
    }
    let client = "
import socket
a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
for end in (a, b):
    end.settimeout(10)
    end.bind(('127.0.0.1', 0))
a.connect(b.getsockname())
b.connect(a.getsockname())
for _ in range(1000000):
    a.send(b'0123456789')
    b.recv(100)
";
    let netns = Netns::new(&[]);
    let home = Home::new("", "");
    let recording = home.record();
    let pid = python(&netns, client, &[]);
    let inode = format!("\"NetworkNamespace\":{},", netns.inode());
    recording.wait_for_lines(&["\"Event\":\"closed\"", inode.as_str()], 2);
    let (lines, ledger) = recording.stop();
    ledger.assert_balances();
    // Two flows, at most two owners, two releases; the rest is other programs' traffic.
    assert!(ledger.count("udp_attempted") < 1000, "{ledger:?}");
    let events = lines.iter().filter(|line| line["NetworkNamespace"] == netns.inode()).count();
    assert!(events < 50, "{events} events");
    let (outbound, inbound) = ends(flows(&lines, &netns));
    assert_eq!((outbound.len(), inbound.len()), (1, 1));
    assert_eq!((outbound[0].bytes, outbound[0].packets), ((10_000_000, 0), (1_000_000, 0)));
    assert_eq!((inbound[0].bytes, inbound[0].packets), ((0, 10_000_000), (0, 1_000_000)));
    assert_eq!((outbound[0].pid, inbound[0].pid), (pid.into(), pid.into()));
}

#[test]
fn a_full_flow_map_evicts_flows_without_loss() {
    if skipped() {
        return;
    }
    // To 5000 ports without a listener; from an unbound socket, so that ICMP errors are not
    // reported.
    let client = "
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(10000, 15000):
    client.sendto(b'!' * 4, (sys.argv[1], port))
";
    let netns = Netns::new(&[V4]);
    let home = Home::new("udp_flows = 512", "");
    let recording = home.record();
    python(&netns, client, &[V4]);
    let inode = format!("\"NetworkNamespace\":{},", netns.inode());
    recording.wait_for_lines(&["\"Event\":\"closed\"", inode.as_str()], 5000);
    let (lines, ledger) = recording.stop();
    ledger.assert_balances();
    assert_eq!(ledger.count("udp_uncounted"), 0);
    assert!(ledger.count("udp_flows_evicted") >= 4000, "{ledger:?}");
    let flows = flows(&lines, &netns);
    let mut ports: Vec<u64> = flows.iter().map(|flow| flow.remote.1).collect();
    ports.sort_unstable();
    assert_eq!(ports, (10000..15000).collect::<Vec<u64>>());
    assert!(flows.iter().all(|flow| flow.closed && flow.packets.0 <= 1));
}

#[test]
fn an_idle_flow_ends_and_later_traffic_opens_a_new_one() {
    if skipped() {
        return;
    }
    let client = "
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while sys.stdin.readline():
    client.sendto(b'!' * 8, (sys.argv[1], 4444))
";
    let netns = Netns::new(&[V4]);
    let home = Home::new("udp_idle_timeout = \"1s\"", "");
    let recording = home.record();
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", client, V4]).stdin(std::process::Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    let inode = format!("\"NetworkNamespace\":{},", netns.inode());
    for round in 1..=2 {
        std::io::Write::write_all(&mut input, b"\n\n").unwrap();
        recording.wait_for_lines(&["\"Event\":\"closed\"", inode.as_str()], round);
    }
    let (lines, _) = recording.stop();
    drop(input);
    client.wait().unwrap();
    let flows = flows(&lines, &netns);
    let bytes: Vec<(u64, u64)> = flows.iter().map(|flow| flow.bytes).collect();
    assert_eq!(bytes, [(16, 0), (16, 0)], "{flows:#?}");
}
