//! What was open before the agent, and what lives on: looks at open sockets.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use sensor_tests::{Agent, Netns, run};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, Server, V4, V6, skipped, text};

/// Opens `pairs` TCP connections to itself and `datagrams` connected UDP sockets, says so, and
/// waits until its input ends. In `hidden` it is in a namespace that only a file of its own names.
const HOLDER: &str = "
import ctypes, os, resource, socket, subprocess, sys
address, pairs, datagrams, hidden = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
libc = ctypes.CDLL(None, use_errno=True)
if hidden == 'hidden':
    home = os.open('/proc/self/ns/net', os.O_RDONLY)
    assert libc.unshare(0x40000000) == 0
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
    subprocess.run(['ip', 'address', 'add', address, 'dev', 'lo'], check=True)
    there = os.open('/proc/self/ns/net', os.O_RDONLY)
family = socket.AF_INET6 if ':' in address else socket.AF_INET
listener = socket.create_server((address, 0), family=family, backlog=4096)
port = listener.getsockname()[1]
held = []
for _ in range(pairs):
    held += [socket.create_connection((address, port)), listener.accept()[0]]
for number in range(datagrams):
    datagram = socket.socket(family, socket.SOCK_DGRAM)
    datagram.connect((address, 20000 + number))
    held.append(datagram)
if hidden == 'hidden':
    assert libc.setns(home, 0x40000000) == 0
print('ready', port, flush=True)
sys.stdin.read()
";

fn holder(netns: &Netns, address: &str, counts: (usize, usize), hidden: &str) -> (Server, u64) {
    let mut command = netns.command("/usr/bin/python3");
    let (pairs, datagrams) = (counts.0.to_string(), counts.1.to_string());
    command.args(["-c", HOLDER, address, &pairs, &datagrams, hidden]).stdin(Stdio::piped());
    let (server, port) = Server::start(command);
    (server, port.parse().unwrap())
}

/// When a log line was written, by its own words.
fn written(line: &str) -> Timestamp {
    line.split(' ').next().unwrap().parse().unwrap()
}

fn time(line: &Value) -> Timestamp {
    text(line, "TimeGenerated").parse().unwrap()
}

fn is(line: &Value, event: &str, direction: &str) -> bool {
    text(line, "Event") == event && text(line, "Direction") == direction
}

#[test]
fn what_was_open_before_in_three_namespaces_is_found_with_owner_and_direction() {
    if skipped() {
        return;
    }
    // One namespace is mounted, one is that of a process alone, one that of an open file alone.
    let (mounted, unnamed, hidden) = (Netns::new(&[V4]), Netns::new(&[V6]), Netns::new(&[]));
    let counts = [(167, 34), (167, 33), (166, 33)];
    let holders = [
        holder(&mounted, V4, counts[0], ""),
        holder(&unnamed, V6, counts[1], ""),
        holder(&hidden, CLIENT_V4, counts[2], "hidden"),
    ];
    drop((unnamed, hidden));

    let home = Home::new("", "");
    let recording = home.record();
    let limit = Duration::from_secs(5);
    recording.agent.wait_for_log(limit, "open sockets read");
    for (server, _) in &holders {
        recording.wait_for(|line| line["ProcessId"] == server.0.id());
    }
    let (lines, ledger) = recording.stop();
    ledger.assert_closes();
    for ((server, port), (pairs, datagrams)) in holders.iter().zip(counts) {
        let own: Vec<&Value> =
            lines.iter().filter(|line| line["ProcessId"] == server.0.id()).collect();
        for event in ["opened", "established"] {
            for direction in ["outbound", "inbound"] {
                let tcp = own
                    .iter()
                    .filter(|line| is(line, event, direction) && line["DestinationPort"] == *port);
                let remote: HashSet<String> =
                    tcp.map(|line| line["SourcePort"].to_string()).collect();
                assert_eq!(remote.len(), pairs, "{event} {direction}");
            }
            let udp = own
                .iter()
                .filter(|line| is(line, event, "outbound") && text(line, "Protocol") == "udp");
            assert_eq!(udp.count(), datagrams, "{event}");
        }
        assert_eq!(own.len(), 2 * (2 * pairs + datagrams), "each once");
        for line in own {
            assert_eq!(line["Preexisting"], true, "{line}");
            assert_eq!(text(line, "Attribution"), "scan");
            assert_eq!(text(line, "ProcessPath"), "/usr/bin/python3.11");
            assert!(text(line, "CommandLine").starts_with("/usr/bin/python3 -c"), "{line}");
        }
    }
}

#[test]
fn what_was_open_before_alerts_and_what_closes_it_is_no_second_connection() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let (mut server, port) = holder(&netns, V4, (3, 0), "");
    let home = Home::new("look_every = \"1s\"", "[dedup]\nwindow = \"1s\"");
    let agent = home.run();
    let wait = |kind: &str, direction: &str| {
        let fits = |alert: &Value| {
            text(alert, "AlertKind") == kind && text(alert, "Direction") == direction
        };
        agent.wait_for(Duration::from_secs(5), fits).1
    };
    for direction in ["outbound", "inbound"] {
        let alert = wait("new", direction);
        assert_eq!(alert["ProcessId"], server.0.id(), "{alert}");
        assert_eq!(alert["DestinationPort"], port);
        // The two further ones, found in the same look.
        assert_eq!(wait("summary", direction)["ConnectionCount"], 2);
    }
    server.0.stdin.take().unwrap().flush().unwrap();
    server.0.wait().unwrap();
    let ended = agent.stop();
    let total: u64 = ended
        .stdout
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(&line.text).ok())
        .map(|alert| alert["ConnectionCount"].as_u64().unwrap())
        .sum();
    assert_eq!(total, 6, "{:?}", ended.stdout);
}

/// Connects again and again, with up to 50 connections open; says of each its port and when it was
/// closed. Its other end is `peer serve`.
const RACE: &str = "
import collections, socket, sys, time
address, port = sys.argv[1], int(sys.argv[2])
held, closed = collections.deque(), []
def close():
    connection = held.popleft()
    name = connection.getsockname()[1]
    connection.close()
    closed.append((name, time.time_ns()))
print('ready', flush=True)
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    held.append(socket.create_connection((address, port)))
    if len(held) > len(closed) % 50:
        close()
    time.sleep(0.0005)
while held:
    close()
for name, at in closed:
    print(name, at)
";

#[test]
fn what_opens_and_closes_while_the_agent_starts_is_told_once() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let (_server, port) = Server::peer(&netns, V4);
    let client = netns
        .command("/usr/bin/python3")
        .args(["-c", RACE, V4, &port.to_string(), "6"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let home = Home::new("look_every = \"1s\"", "");
    let recording = home.record();
    let attached = recording.agent.wait_for_log(Duration::from_secs(5), "processes read");
    let output = client.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    // A port may be used again.
    let mut closed: HashMap<u64, Vec<Timestamp>> = HashMap::new();
    for line in said.lines().skip(1) {
        let (name, at) = line.split_once(' ').unwrap();
        let at = Timestamp::from_nanosecond(at.parse().unwrap()).unwrap();
        closed.entry(name.parse().unwrap()).or_default().push(at);
    }
    // The last server ends close when the last client ends have.
    let last = closed.keys().max_by_key(|name| closed[*name].last()).unwrap();
    let after = written(&attached.text);
    recording.wait_for(|line| {
        is(line, "closed", "inbound") && line["SourcePort"] == *last && time(line) > after
    });
    let (lines, ledger) = recording.stop();
    ledger.assert_closes();
    assert_eq!(ledger.count("tcp_ring_full"), 0);
    for direction in ["outbound", "inbound"] {
        let mut told: HashMap<u64, Vec<&Value>> = HashMap::new();
        let own =
            |line: &&Value| line["DestinationPort"] == port && text(line, "Direction") == direction;
        for line in lines.iter().filter(own) {
            told.entry(line["ConnectionNumber"].as_u64().unwrap()).or_default().push(line);
        }
        let mut of_port: HashMap<u64, usize> = HashMap::new();
        let mut preexisting = 0;
        for (number, lines) in &told {
            let events: Vec<&str> = lines.iter().map(|line| text(line, "Event")).collect();
            assert_eq!(events, ["opened", "established", "closed"], "{number} {lines:?}");
            preexisting += usize::from(lines[0]["Preexisting"] == true);
            *of_port.entry(lines[0]["SourcePort"].as_u64().unwrap()).or_default() += 1;
        }
        for (name, times) in &closed {
            let told = of_port.get(name).copied().unwrap_or_default();
            let watched = times.iter().filter(|at| **at > after).count();
            assert!(
                (watched..=times.len()).contains(&told),
                "{direction} {name}: {told} told, {watched} to {} were",
                times.len()
            );
        }
        assert!(preexisting > 0, "{direction}: the agent started while some were open");
        assert!(told.len() > 500, "{direction}: {} is no race", told.len());
    }
}

/// Moves data in both directions, is idle on a second connection, half-closes the first, and ends
/// both when its input ends.
const TALK: &str = "
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
const TALKED: (u64, u64) = (40 * 50_000, 40 * 7_001 + 10_000);

#[test]
fn what_a_connection_moves_is_told_at_each_look_and_sums_up() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let home = Home::new("look_every = \"1s\"", "");
    let recording = home.record();
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", TALK, V4]).stdin(Stdio::piped());
    let (mut server, ready) = Server::start(command);
    let (port, talker) = ready.split_once(' ').unwrap();
    let (port, talker): (u16, u64) = (port.parse().unwrap(), talker.parse().unwrap());
    // The talk takes 8 s; then both ends of both connections close.
    run(Command::new("sleep").arg("9"));
    server.0.stdin.take().unwrap().flush().unwrap();
    server.0.wait().unwrap();
    recording.wait_for_closed(port, 4);
    let (lines, _) = recording.stop();
    for (direction, expected) in [("outbound", TALKED), ("inbound", (TALKED.1, TALKED.0))] {
        let of = |event: &str, talks: bool| -> Vec<&Value> {
            let fits = |line: &&Value| {
                is(line, event, direction)
                    && line["DestinationPort"] == port
                    && (line["SourcePort"] == talker) == talks
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
        assert_eq!(of("active", false), Vec::<&Value>::new(), "the idle one");
        assert_eq!(of("closed", false).len(), 1);
    }
}

/// Opens connections to itself, closes them and opens others at each line of its input.
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
fn what_the_ring_lost_is_made_good_by_the_next_looks() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let home = Home::new("look_every = \"1s\"\nring_bytes = \"64KiB\"", "");
    let recording = home.record();
    recording.agent.wait_for_log(Duration::from_secs(5), "open sockets read");
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", CHANGES, V4]).stdin(Stdio::piped());
    let (mut server, port) = Server::start(command);
    let port: u16 = port.parse().unwrap();
    recording.wait_for(|line| line["DestinationPort"] == port && is(line, "opened", "inbound"));
    // While the agent is stopped the ring holds some 400 records of the 2,700.
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
        assert_eq!((opened.len(), each.len()), (600, 600), "{direction}: each once");
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

#[test]
fn where_a_namespace_may_not_be_entered_proc_is_read_instead() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let (server, port) = holder(&netns, V4, (20, 2), "");
    let home = Home::new("look_every = \"1s\"", "");
    let out = home.path("recorded.jsonl");
    let agent = home.command(&["record", "--log", "debug", "--out", out.to_str().unwrap()]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    command.arg(agent.get_program()).args(agent.get_args());
    let agent = Agent::spawn(command);
    let said = agent.wait_for_log(Duration::from_secs(20), "/proc/PID/net is read instead");
    assert!(said.text.contains("CAP_SYS_ADMIN"), "{}", said.text);
    agent.wait_for_log(Duration::from_secs(5), "open sockets read");
    run(Command::new("sleep").arg("3"));
    drop(server);
    run(Command::new("sleep").arg("1.5"));
    assert!(agent.stop().status.success());
    let text_of = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<Value> =
        text_of.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |event: &str, direction: &str, protocol: &str| {
        let fits = |line: &&Value| {
            let tcp = line["DestinationPort"] == port && text(line, "Protocol") == "tcp";
            let udp = text(line, "Protocol") == "udp" && text(line, "RemoteIp") == V4;
            is(line, event, direction) && if protocol == "tcp" { tcp } else { udp }
        };
        let fitting: Vec<&Value> = lines.iter().filter(fits).collect();
        for line in &fitting {
            assert_eq!(line["Preexisting"], true, "{line}");
            assert_eq!(text(line, "Attribution"), "scan");
        }
        fitting.len()
    };
    for direction in ["outbound", "inbound"] {
        for event in ["opened", "established", "closed"] {
            assert_eq!(count(event, direction, "tcp"), 20, "{event} {direction}");
        }
    }
    assert_eq!(count("opened", "outbound", "udp"), 2);
}
