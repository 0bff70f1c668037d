//! Tables of the host: bound ports, processes, the computer; and rows that match an indicator.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use sensor_tests::{Netns, run};
use serde_json::Value;

use crate::harness::{
    CLIENT_V4, Home, Server, V4, V6, early_in_a_minute, into_the_next_minute, skipped, text,
};

/// Listens on seven sockets, and replies to each 100 bytes with 250. A line of input closes the
/// listener on port 7006.
const SERVER: &str = "
import select, socket, sys
v4, with_v6 = sys.argv[1], sys.argv[2] == 'v6'
def listen(address, port, family=socket.AF_INET):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((address, port))
    listener.listen(16)
    return listener
listeners = [listen('0.0.0.0', 7001), listen(v4, 7002), listen('0.0.0.0', 7003), listen(v4, 7003),
    listen('0.0.0.0', 7005), listen('127.0.0.1', 7007)]
if with_v6:
    listeners.append(listen('::', 7004, socket.AF_INET6))
stops = listen(v4, 7006)
listeners.append(stops)
open_now = []
print('ready', '.', flush=True)
while True:
    ready, _, _ = select.select(listeners + open_now + [sys.stdin], [], [])
    for each in ready:
        if each is sys.stdin:
            if not sys.stdin.readline():
                sys.exit()
            listeners.remove(stops)
            stops.close()
        elif each in listeners:
            open_now.append(each.accept()[0])
        elif each.recv(100, socket.MSG_WAITALL):
            each.sendall(b'y' * 250)
        else:
            open_now.remove(each)
            each.close()
";

/// Connects twice to each target, briefly and permanently. A line of input sends another request on
/// each permanent connection; the end of input closes them.
const CLIENT: &str = "
import socket, sys
def exchange(connection):
    connection.sendall(b'x' * 100)
    assert len(connection.recv(250, socket.MSG_WAITALL)) == 250
stay = []
for each in sys.argv[1:]:
    address, port = each.rsplit('/', 1)
    for stays in (False, True):
        connection = socket.create_connection((address, int(port)))
        exchange(connection)
        stay.append(connection) if stays else connection.close()
print('ready', '.', flush=True)
for _ in sys.stdin:
    for connection in stay:
        exchange(connection)
";

fn python(netns: &Netns, program: &str, words: &[&str]) -> Server {
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", program]).args(words).stdin(Stdio::piped());
    Server::start(command).0
}

fn serve(netns: &Netns, with_v6: &str) -> Server {
    python(netns, SERVER, &[V4, with_v6])
}

fn connect(netns: &Netns, to: &[&str]) -> Server {
    python(netns, CLIENT, to)
}

fn line(server: &mut Server) {
    server.0.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
}

/// Address, port, wildcard bind, links established, terminated, live.
type PortSummary = (String, u64, bool, [u64; 3]);

/// Totals by minute, process and port: of connections, and of bound ports.
type Sums<'a> = BTreeMap<(&'a str, &'a str, u64), [[u64; 5]; 2]>;

/// Rows by minute, address and port.
type Ports<'a> = BTreeMap<(&'a str, &'a str, u64), &'a Value>;

fn number(row: &Value, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("{column} of {row}"))
}

const TOTALS: [&str; 5] =
    ["LinksEstablished", "LinksTerminated", "LinksLive", "BytesSent", "BytesReceived"];

/// Asserts that in each minute the bound ports of a process have the totals of its inbound TCP
/// rows.
fn assert_conserved(rows: &[Value]) {
    let mut sums = Sums::new();
    for row in rows.iter().filter(|row| row["Protocol"] == "tcp") {
        let (side, port) = match text(row, "Type") {
            "VMConnection" if text(row, "Direction") == "inbound" => (0, "DestinationPort"),
            "VMBoundPort" => (1, "Port"),
            _ => continue,
        };
        let key = (text(row, "TimeGenerated"), text(row, "Process"), number(row, port));
        for (sum, column) in sums.entry(key).or_default()[side].iter_mut().zip(TOTALS) {
            *sum += number(row, column);
        }
    }
    assert!(sums.values().filter(|[moved, _]| moved[0] > 0).count() >= 5, "{sums:?}");
    for (key, [connections, ports]) in sums {
        assert_eq!(connections, ports, "{key:?}");
    }
}

#[test]
fn listening_ports_are_reported_with_their_connection_totals() {
    if skipped() {
        return;
    }
    let (netns, other) = (Netns::new(&[V4, CLIENT_V4, V6]), Netns::new(&[V4]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.jsonl");
    let sink = format!(
        "[[sink]]\nname = \"rows\"\nkind = \"file\"\ntakes = [\"rows\"]\npath = {file:?}\n"
    );
    early_in_a_minute();
    // One server is older than the agent, the other is not.
    let mut older = serve(&netns, "v6");
    let home = Home::new("", &sink);
    let agent = home.run();
    agent.wait_for_log(crate::harness::SOON, "open sockets read");
    let younger = serve(&other, "");
    let v6 = format!("{V6}/7004");
    let first = [
        &format!("{V4}/7001"),
        &format!("{CLIENT_V4}/7001"),
        &format!("{V4}/7002"),
        &format!("{V4}/7003"),
        &format!("{V4}/7004"),
        &v6,
        &format!("{V4}/7006"),
        "127.0.0.1/7007",
    ];
    let mut client = connect(&netns, &first);
    let inside = connect(&other, &[&format!("{V4}/7001"), "127.0.0.1/7007"]);
    line(&mut older);
    into_the_next_minute();
    // The row of the previous minute is written two seconds later.
    run(Command::new("sleep").arg("2"));
    line(&mut client);
    run(Command::new("sleep").arg("0.5"));
    let ended = agent.stop();
    assert!(ended.status.success(), "{ended:?}");

    let written = std::fs::read_to_string(&file).unwrap();
    let rows: Vec<Value> = written.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_conserved(&rows);
    let (ports, inner) = (ports_of(&rows, &netns), ports_of(&rows, &other));
    assert_ports(&ports, &inner);
    let last = ports.keys().last().unwrap().0;
    assert_flagged(&rows, last);
    assert_host(&rows, [older.0.id(), client.0.id(), younger.0.id(), inside.0.id()]);
}

fn ports_of<'a>(rows: &'a [Value], netns: &Netns) -> Ports<'a> {
    let own =
        |row: &&Value| row["Type"] == "VMBoundPort" && row["NetworkNamespace"] == netns.inode();
    let key = |row| (text(row, "TimeGenerated"), text(row, "Ip"), number(row, "Port"));
    rows.iter().filter(own).map(|row| (key(row), row)).collect()
}

fn ports_in(ports: &Ports<'_>, minute: &str) -> Vec<PortSummary> {
    let python = std::fs::canonicalize("/usr/bin/python3").unwrap();
    let in_minute = ports.iter().filter(|((it, _, _), _)| *it == minute);
    in_minute
        .map(|((_, ip, port), row)| {
            assert_eq!(text(row, "ProcessName"), python.file_name().unwrap().to_str().unwrap());
            let wildcard = row["IsWildcardBind"].as_bool().unwrap();
            ((*ip).to_owned(), *port, wildcard, [0, 1, 2].map(|index| number(row, TOTALS[index])))
        })
        .collect()
}

fn assert_ports(ports: &Ports<'_>, inner: &Ports<'_>) {
    let mut minutes: Vec<&str> = ports.keys().map(|(minute, _, _)| *minute).collect();
    minutes.dedup();
    let [before, after] = minutes[..] else { panic!("two minutes: {minutes:?}") };
    let connected = |ip: &str, port, wildcard| (ip.to_owned(), port, wildcard, [2, 1, 1]);
    let mut expected = vec![
        connected(V4, 7001, true),
        connected(CLIENT_V4, 7001, true),
        connected(V4, 7002, false),
        connected(V4, 7003, true),
        connected(V4, 7004, true),
        connected(V6, 7004, true),
        ("0.0.0.0".to_owned(), 7005, true, [0, 0, 0]),
        connected(V4, 7006, false),
        connected("127.0.0.1", 7007, false),
    ];
    expected.sort();
    assert_eq!(ports_in(ports, before), expected);
    // The closed listener has a row for the connection that it accepted before.
    for port in &mut expected {
        port.3 = [0, 0, port.3[2]];
    }
    assert_eq!(ports_in(ports, after), expected);
    let inner = ports_in(inner, before);
    for expected in [
        connected(V4, 7001, true),
        connected("127.0.0.1", 7007, false),
        (V4.to_owned(), 7006, false, [0, 0, 0]),
    ] {
        assert!(inner.contains(&expected), "{expected:?} {inner:?}");
    }
}

/// Asserts that rows with a remote address of the suite's list have its threat columns, in each
/// minute.
fn assert_flagged(rows: &[Value], last: &str) {
    let mut flagged = 0;
    for row in rows.iter().filter(|row| row["Type"] == "VMConnection") {
        let remote = text(row, "RemoteIp");
        if ![V4, CLIENT_V4, V6].contains(&remote) {
            assert_eq!((text(row, "MaliciousIp"), &row["Severity"]), ("", &Value::Null), "{row}");
            continue;
        }
        assert_eq!((text(row, "MaliciousIp"), text(row, "IsActive")), (remote, "True"), "{row}");
        assert_eq!((number(row, "Severity"), text(row, "Confidence")), (3, ""));
        assert!(text(row, "LastReportedDateTime").parse::<Timestamp>().is_ok(), "{row}");
        flagged += u32::from(text(row, "TimeGenerated") == last);
    }
    assert!(flagged >= 8, "{flagged} in the last minute");
}

/// Asserts the computer and process rows of the test machine.
fn assert_host(rows: &[Value], pids: [u32; 4]) {
    let of = |kind: &str| rows.iter().filter(|row| row["Type"] == kind).collect::<Vec<_>>();
    let computers = of("VMComputer");
    assert!(!computers.is_empty());
    for row in &computers {
        assert_eq!(text(row, "Computer"), "host.example.net");
        assert_eq!((text(row, "HostName"), text(row, "OperatingSystemFamily")), ("host", "linux"));
        let cpus = std::thread::available_parallelism().unwrap().get() as u64;
        assert!(number(row, "Cpus") >= cpus && number(row, "PhysicalMemoryMB") > 64, "{row}");
        assert!(text(row, "BootTime").parse::<Timestamp>().unwrap() < time_of(row));
        assert_eq!(text(row, "DependencyAgentVersion"), env!("CARGO_PKG_VERSION"));
    }
    let python = std::fs::canonicalize("/usr/bin/python3").unwrap();
    let processes = of("VMProcess");
    let own = |row: &&&Value| text(row, "ExecutablePath") == python.to_str().unwrap();
    let [row] = processes.iter().filter(own).collect::<Vec<_>>()[..] else {
        panic!("one row: {processes:?}")
    };
    assert!(pids.contains(&u32::try_from(number(row, "FirstPid")).unwrap()), "{row} {pids:?}");
    assert!(text(row, "CommandLine").starts_with("/usr/bin/python3 -c"), "{row}");
    assert_eq!(text(row, "WorkingDirectory"), std::env::current_dir().unwrap().to_str().unwrap());
    let started = text(row, "StartTime").parse::<Timestamp>().unwrap();
    let after = time_of(row).duration_since(started).abs();
    assert!(after.as_secs() < 120, "{row}");
    assert_eq!((text(row, "UserName"), text(row, "Role")), ("root", ""));
    let machines: std::collections::HashSet<&str> = rows
        .iter()
        .filter(|row| row["Machine"].is_string())
        .map(|it| text(it, "Machine"))
        .collect();
    assert_eq!(machines.len(), 1);
}

fn time_of(row: &Value) -> Timestamp {
    text(row, "TimeGenerated").parse().unwrap()
}
