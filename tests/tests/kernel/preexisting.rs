//! Connections and sockets that predate the agent.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sensor_tests::{Agent, Netns, run};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, Server, V4, V6, is, skipped, text, time};

/// Opens `pairs` TCP connections to itself and `datagrams` connected UDP sockets, prints `ready`,
/// and waits for the end of its input. With `hidden`, the sockets are in a network namespace that
/// is reachable only through an open file of the program.
const SOCKET_OWNER: &str = "
import ctypes, os, resource, socket, subprocess, sys
address, pairs, datagrams, hidden = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
libc = ctypes.CDLL(None, use_errno=True)
if hidden == 'hidden':
    home = os.open('/proc/self/ns/net', os.O_RDONLY)
    assert libc.unshare(0x40000000) == 0
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
    subprocess.run(['ip', 'address', 'add', address, 'dev', 'lo'], check=True)
    hidden_namespace = os.open('/proc/self/ns/net', os.O_RDONLY)
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

fn socket_owner(
    netns: &Netns,
    address: &str,
    counts: (usize, usize),
    hidden: &str,
) -> (Server, u64) {
    let mut command = netns.command("/usr/bin/python3");
    let (pairs, datagrams) = (counts.0.to_string(), counts.1.to_string());
    command.args(["-c", SOCKET_OWNER, address, &pairs, &datagrams, hidden]).stdin(Stdio::piped());
    let (server, port) = Server::start(command);
    (server, port.parse().unwrap())
}

/// The timestamp of a log line.
fn written(line: &str) -> Timestamp {
    line.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn preexisting_sockets_in_three_namespaces_are_found_with_owner_and_direction() {
    if skipped() {
        return;
    }
    // One namespace is mounted, one is held by a process only, one by an open file only.
    let (mounted, unnamed, hidden) = (Netns::new(&[V4]), Netns::new(&[V6]), Netns::new(&[]));
    let counts = [(167, 34), (167, 33), (166, 33)];
    let owners = [
        socket_owner(&mounted, V4, counts[0], ""),
        socket_owner(&unnamed, V6, counts[1], ""),
        socket_owner(&hidden, CLIENT_V4, counts[2], "hidden"),
    ];
    drop((unnamed, hidden));

    let home = Home::new("", "");
    let recording = home.record();
    let limit = Duration::from_secs(5);
    recording.agent.wait_for_log(limit, "open sockets read");
    for (server, _) in &owners {
        let mark = format!("\"ProcessId\":{}", server.0.id());
        recording.wait_for(&mark, |line| line["ProcessId"] == server.0.id());
    }
    let (lines, ledger) = recording.stop();
    ledger.assert_balances();
    let python = std::fs::canonicalize("/usr/bin/python3").unwrap();
    for ((server, port), (pairs, datagrams)) in owners.iter().zip(counts) {
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
        assert_eq!(own.len(), 2 * (2 * pairs + datagrams), "each exactly once");
        for line in own {
            assert_eq!(line["Preexisting"], true, "{line}");
            assert_eq!(text(line, "Attribution"), "scan");
            assert_eq!(text(line, "ProcessPath"), python.to_str().unwrap());
            assert!(text(line, "CommandLine").starts_with("/usr/bin/python3 -c"), "{line}");
        }
    }
}

#[test]
fn preexisting_connections_alert_and_their_close_is_not_counted_again() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let (mut server, port) = socket_owner(&netns, V4, (3, 0), "");
    let home = Home::new("scan_interval = \"1s\"", "[dedup]\nwindow = \"1s\"");
    let agent = home.run();
    let owner = server.0.id();
    let own = |alert: &Value| alert["ProcessId"] == owner;
    let wait = |kind: &str, direction: &str| {
        let fits = |alert: &Value| {
            own(alert) && text(alert, "AlertKind") == kind && text(alert, "Direction") == direction
        };
        agent.wait_for_alert(Duration::from_secs(5), fits).1
    };
    for direction in ["outbound", "inbound"] {
        let alert = wait("new", direction);
        assert_eq!(alert["DestinationPort"], port);
        // Two further connections, found in the same scan.
        assert_eq!(wait("summary", direction)["ConnectionCount"], 2);
    }
    server.0.stdin.take().unwrap().flush().unwrap();
    server.0.wait().unwrap();
    let ended = agent.stop();
    let total: u64 = ended
        .stdout
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(&line.text).ok())
        .filter(|alert| own(alert))
        .map(|alert| alert["ConnectionCount"].as_u64().unwrap())
        .sum();
    assert_eq!(total, 6, "{:?}", ended.stdout);
}

/// Opens connections in a loop, with up to 50 open; prints the port and close time of each. The
/// other end is `peer serve`.
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
fn connections_during_startup_are_reported_once() {
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
    let home = Home::new("scan_interval = \"1s\"", "");
    let recording = home.record();
    let attached = recording.agent.wait_for_log(Duration::from_secs(5), "processes read");
    let output = client.wait_with_output().unwrap();
    let output_text = String::from_utf8(output.stdout).unwrap();
    // A port may be reused.
    let mut closed: HashMap<u64, Vec<Timestamp>> = HashMap::new();
    for line in output_text.lines().skip(1) {
        let (name, at) = line.split_once(' ').unwrap();
        let at = Timestamp::from_nanosecond(at.parse().unwrap()).unwrap();
        closed.entry(name.parse().unwrap()).or_default().push(at);
    }
    // The server's last close follows the client's last close. (That port may have been used
    // before, but at least a second ago.)
    let last = closed.keys().max_by_key(|name| closed[*name].last()).unwrap();
    let after = *closed[last].last().unwrap() - SignedDuration::from_millis(100);
    recording.wait_for(&format!("\"SourcePort\":{last}"), |line| {
        is(line, "closed", "inbound") && line["SourcePort"] == *last && time(line) > after
    });
    let after = written(&attached.text);
    let (lines, ledger) = recording.stop();
    ledger.assert_balances();
    assert_eq!(ledger.count("tcp_ring_full"), 0);
    for direction in ["outbound", "inbound"] {
        let mut reported: HashMap<u64, Vec<&Value>> = HashMap::new();
        let own =
            |line: &&Value| line["DestinationPort"] == port && text(line, "Direction") == direction;
        for line in lines.iter().filter(own) {
            reported.entry(line["ConnectionNumber"].as_u64().unwrap()).or_default().push(line);
        }
        let mut of_port: HashMap<u64, usize> = HashMap::new();
        let mut preexisting = 0;
        for (number, lines) in &reported {
            let events: Vec<&str> = lines.iter().map(|line| text(line, "Event")).collect();
            assert_eq!(events, ["opened", "established", "closed"], "{number} {lines:?}");
            preexisting += usize::from(lines[0]["Preexisting"] == true);
            *of_port.entry(lines[2]["SourcePort"].as_u64().unwrap()).or_default() += 1;
        }
        for (name, times) in &closed {
            let count = of_port.get(name).copied().unwrap_or_default();
            let observed = times.iter().filter(|at| **at > after).count();
            assert!(
                (observed..=times.len()).contains(&count),
                "{direction} {name}: {count} reported, {observed} to {} expected",
                times.len()
            );
        }
        assert!(preexisting > 0, "{direction}: some were open when the agent started");
        assert!(reported.len() > 500, "{direction}: {} is no race", reported.len());
    }
}

#[test]
fn proc_net_is_read_where_entering_a_namespace_is_denied() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    let (server, port) = socket_owner(&netns, V4, (20, 2), "");
    let home = Home::new("scan_interval = \"1s\"", "");
    let out = home.path("recorded.jsonl");
    let agent = home.command(&["record", "--log", "debug", "--out", out.to_str().unwrap()]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    command.arg(agent.get_program()).args(agent.get_args());
    let agent = Agent::spawn(command);
    let warning = agent.wait_for_log(Duration::from_secs(20), "/proc/PID/net is read instead");
    assert!(warning.text.contains("CAP_SYS_ADMIN"), "{}", warning.text);
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
