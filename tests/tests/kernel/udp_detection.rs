//! UDP from the datagram to alert, row and replay; and a host without UDP observation.

use std::process::Command;

use sensor_tests::{Netns, run};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, SOON, START, V4, peer, skipped, text};
use crate::udp::{closed_flows, python, server};

#[test]
fn datagrams_to_and_from_an_indicator_alert_with_their_process() {
    if skipped() {
        return;
    }
    let client = "
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(10)
client.bind((sys.argv[1], 0))
client.sendto(b'?', (sys.argv[2], int(sys.argv[3])))
client.recv(9)
";
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    let sink = format!(
        "[[sink]]\nname = \"out\"\nkind = \"stdout\"\n[[sink]]\nname = \"rows\"\nkind = \"file\"\n\
         path = {rows:?}\ntakes = [\"rows\"]"
    );
    let home = Home::new("", &sink);
    let agent = home.run();
    let (_server, server_pid, port) = server(&netns, V4);
    let pid = python(&netns, client, &[CLIENT_V4, V4, &port]);
    let of = |direction: &'static str| {
        move |alert: &Value| {
            text(alert, "Direction") == direction && text(alert, "Protocol") == "udp"
        }
    };
    let (_, outbound) = agent.wait_for_alert(SOON, of("outbound"));
    let (_, inbound) = agent.wait_for_alert(SOON, of("inbound"));
    assert_eq!((&outbound["ProcessId"], text(&outbound, "RemoteIp")), (&pid.into(), V4));
    assert_eq!(
        (&inbound["ProcessId"], text(&inbound, "RemoteIp")),
        (&server_pid.into(), CLIENT_V4)
    );
    assert_eq!(outbound["DestinationPort"].to_string(), port);
    assert_eq!(inbound["DestinationPort"].to_string(), port);
    assert!(text(&outbound, "CommandLine").starts_with("/usr/bin/python3 -c"), "{outbound}");
    assert!(text(&outbound, "ProcessPath").contains("python3"), "{outbound}");
    let ended = agent.stop();
    let log: Vec<&str> = ended.stderr.iter().map(|line| line.text.as_str()).collect();
    assert!(log.iter().any(|line| line.contains("TCP connections and UDP flows")), "{log:?}");
    let written = std::fs::read_to_string(&rows).unwrap();
    let row = written
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|row| row["ProcessId"] == pid && text(row, "Protocol") == "udp")
        .unwrap_or_else(|| panic!("no row in {written}"));
    for (column, value) in [
        ("LinksEstablished", 1),
        ("LinksTerminated", 1),
        ("LinksLive", 0),
        ("LinksFailed", 0),
        ("BytesSent", 1),
        ("BytesReceived", 3),
    ] {
        assert_eq!(row[column], value, "{column} of {row}");
    }
}

#[test]
fn a_udp_recording_replays_to_the_same_alert() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let home = Home::new("", "");
    let recording = home.record();
    let client = "
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.sendto(b'!' * 6, (sys.argv[1], 4445))
";
    let pid = python(&netns, client, &[V4]);
    closed_flows(recording, &netns, 1);
    let (recorded, list) = (home.path("recorded.jsonl"), home.path("list.txt"));
    let mut command = sensor_tests::agent_command(&home.path(""), &["replay", "--live"]);
    command.arg("--connections").arg(recorded).arg("--indicators").arg(list);
    let output = String::from_utf8(run(&mut command).stdout).unwrap();
    let alerts = output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let own: Vec<Value> = alerts.filter(|it| it["ProcessId"] == pid).collect();
    assert_eq!(own.len(), 1, "{output}");
    assert_eq!((text(&own[0], "RemoteIp"), text(&own[0], "Protocol")), (V4, "udp"));
}

#[test]
fn two_agents_do_not_interfere() {
    if skipped() {
        return;
    }
    let client = "
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.sendto(b'!' * 6, (sys.argv[1], 4446))
";
    let netns = Netns::new(&[V4]);
    let (first, second) = (Home::new("", ""), Home::new("", ""));
    let (early, late) = (first.record(), second.record());
    let pid = python(&netns, client, &[V4]);
    let flows = closed_flows(early, &netns, 1);
    assert_eq!((flows[0].pid, flows[0].bytes), (pid.into(), (6, 0)));
    // The first agent has detached its programs; those of the second keep running.
    python(&netns, client, &[V4]);
    let flows = closed_flows(late, &netns, 2);
    assert!(flows.iter().all(|flow| flow.bytes == (6, 0)), "{flows:?}");
}

#[test]
fn without_cgroup2_missing_udp_is_reported() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let agent = home.command(&["run"]);
    let script =
        "umount -l $(sed -n 's/^[^ ]* \\([^ ]*\\) cgroup2 .*/\\1/p' /proc/mounts) && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(agent.get_program());
    command.args(agent.get_args()).env("HOME", home.path(""));
    let agent = sensor_tests::Agent::spawn(command);
    agent.wait_for_log(START, "state: ");
    // TCP observation continues.
    let netns = Netns::new(&[V4]);
    run(netns.command(peer()).args(["try", &format!("{V4}:9")]));
    agent.wait_for_alert(SOON, |alert| text(alert, "RemoteIp") == V4);
    let ended = agent.stop();
    assert!(ended.status.success(), "{ended:?}");
    let log: Vec<&str> = ended.stderr.iter().map(|line| line.text.as_str()).collect();
    let log = log.join("\n");
    assert!(log.contains("watches all TCP connections of this host"), "{log}");
    assert!(log.contains("cgroup_skb egress (no cgroup2 in /proc/mounts"), "{log}");
}

/// Sends a datagram every 100 ms until standard input ends: on a connected socket, and on one that is not.
const BEACON: &str = "
import select, socket, sys
connected, other = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
connected.connect((sys.argv[1], 4447))
print('ready', flush=True)
while not select.select([sys.stdin], [], [], 0.1)[0]:
    try:
        connected.send(b'?')
    except ConnectionRefusedError:
        pass
    other.sendto(b'?', (sys.argv[1], 4448))
";

#[test]
fn flows_that_outlive_a_killed_agent_count_once() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let home = Home::new("", "[dedup]\nwindow = \"6s\"\n");
    let agent = home.run();
    let mut beacon = netns.command("/usr/bin/python3");
    beacon.args(["-c", BEACON, V4]).stdin(std::process::Stdio::piped());
    let mut beacon = beacon.stdout(std::process::Stdio::null()).spawn().unwrap();
    let own = |alert: &Value| text(alert, "RemoteIp") == V4;
    agent.wait_for_alert(SOON, own);
    // Both flows are in the history.
    run(Command::new("sleep").arg("1"));
    agent.signal(nix::sys::signal::Signal::SIGKILL);
    agent.wait(SOON);
    let agent = home.run();
    agent.wait_for_alert(SOON, |alert| own(alert) && text(alert, "AlertKind") == "summary");
    // The flow that was the second of the window, which the first agent opened; none counts again.
    let counts = agent.alerts().into_iter().filter(own);
    let counts: Vec<u64> = counts.filter_map(|it| it["ConnectionCount"].as_u64()).collect();
    assert_eq!(counts, [1]);
    drop(beacon.stdin.take());
    assert!(beacon.wait().unwrap().success());
    assert!(agent.stop().status.success());
}
