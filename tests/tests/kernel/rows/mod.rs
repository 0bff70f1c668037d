//! `VMConnection` rows of real traffic, minute by minute.

mod rules;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sensor_tests::{Agent, Netns, run};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    CLIENT_V4, Home, SOON, Server, V4, early_in_a_minute, into_the_next_minute, peer, skipped, text,
};

const FILE: &str = "rows.jsonl";

/// An agent that writes its rows to a file.
struct Rows {
    folder: TempDir,
    agent: Agent,
}

impl Rows {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sink = format!(
            "[[sink]]\nname = \"rows\"\nkind = \"file\"\npath = \"{}\"\ntakes = [\"rows\"]\n\
             queue = 1000000\n",
            folder.path().join(FILE).display()
        );
        let agent = Home::new("scan_interval = \"5s\"", &sink).run();
        agent.wait_for_log(SOON, "open sockets read");
        Self { folder, agent }
    }

    /// Stops the agent, which flushes the current minute; returns the `VMConnection` rows with the
    /// suite's addresses.
    fn stop(self) -> Vec<Value> {
        let ended = self.agent.stop();
        assert!(ended.status.success(), "{ended:?}");
        let rows = std::fs::read_to_string(self.folder.path().join(FILE)).unwrap();
        let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        // The machine has other connections too, some of them older than the agent and without
        // owner.
        let own = |row: &Value| [V4, CLIENT_V4].contains(&text(row, "RemoteIp"));
        rows.filter(|row| text(row, "Type") == "VMConnection" && own(row)).collect()
    }
}

/// The rows of a port in a direction.
fn of<'a>(rows: &'a [Value], port: u16, direction: &str) -> Vec<&'a Value> {
    let fits = |row: &&Value| row["DestinationPort"] == port && text(row, "Direction") == direction;
    rows.iter().filter(fits).collect()
}

fn sum(rows: &[&Value], column: &str) -> u64 {
    rows.iter().map(|row| row[column].as_u64().unwrap_or(0)).sum()
}

/// Logs every request as the server counts it: connection, bytes received, bytes sent.
const NGINX: &str = "
daemon off; master_process on; worker_processes 2; pid FOLDER/pid; error_log FOLDER/error.log;
user root;
events { worker_connections 256; }
http {
    log_format counts '$connection $request_length $bytes_sent';
    access_log FOLDER/access.log counts;
    keepalive_requests 100000;
    server { listen ADDRESS; root FOLDER; }
}
";

/// nginx; killed with the test unless it has quit before.
struct Nginx(Child);

impl Nginx {
    /// Lets it finish pending responses and exit.
    fn quit(&mut self) {
        run(Command::new("kill").args(["-QUIT", &self.0.id().to_string()]));
        self.0.wait().unwrap();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ended_before = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Starts nginx with a page of 10,000 bytes; returns the number of connections refused before it
/// listened.
fn nginx(netns: &Netns, folder: &Path, port: u16) -> (Nginx, u64) {
    let configuration = NGINX
        .replace("FOLDER", folder.to_str().unwrap())
        .replace("ADDRESS", &format!("{V4}:{port}"));
    std::fs::write(folder.join("nginx.conf"), configuration).unwrap();
    std::fs::write(folder.join("page"), [b'x'; 10_000]).unwrap();
    let mut command = netns.command("/usr/sbin/nginx");
    let server = command.arg("-c").arg(folder.join("nginx.conf")).stderr(Stdio::null());
    let server = Nginx(server.spawn().unwrap());
    for refused in 0..100 {
        if netns
            .command("/usr/bin/curl")
            .args(["-sf", &page(port)])
            .output()
            .unwrap()
            .status
            .success()
        {
            return (server, refused);
        }
        run(Command::new("sleep").arg("0.1"));
    }
    panic!("nginx does not respond");
}

fn page(port: u16) -> String {
    format!("http://{V4}:{port}/page")
}

/// Sends a byte a second and receives it back, five times; idles; sends one more at end of input.
const SESSION: &str = "
import select, socket, sys, time
listener = socket.create_server((sys.argv[1], 0))
client = socket.create_connection(listener.getsockname())
server = listener.accept()[0]
print('ready', listener.getsockname()[1], flush=True)
sent = 0
while not select.select([sys.stdin], [], [], 1)[0]:
    if sent < 5:
        client.sendall(b'x')
        server.sendall(server.recv(1))
        client.recv(1)
        sent += 1
client.sendall(b'x')
server.sendall(server.recv(1))
client.recv(1)
";

#[test]
fn rows_of_real_traffic_match_the_microsoft_schema() {
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let folder = tempfile::tempdir().unwrap();
    let rows = Rows::start();
    early_in_a_minute();
    let mut session = netns.command("/usr/bin/python3");
    session.args(["-c", SESSION, V4]).stdin(Stdio::piped());
    let (mut session, session_port) = Server::start(session);
    let mut responder = netns.command(peer());
    responder.args(["udp-echo", &format!("{V4}:0")]);
    let (_udp, udp_port) = Server::start(responder);
    let udp_port: u16 = udp_port.rsplit(':').next().unwrap().parse().unwrap();
    let web_port = 8_080;
    let (mut web, refused) = nginx(&netns, folder.path(), web_port);
    let traffic = || {
        let ab = ["-q", "-k", "-n", "400", "-c", "8", &page(web_port)];
        run(netns.command("/usr/bin/ab").args(ab).stdout(Stdio::null()));
        run(netns.command("/usr/bin/curl").args(["-sf", "-o", "/dev/null", &page(web_port)]));
        run(netns.command(peer()).args(["udp-query", &format!("{V4}:{udp_port}"), "20"]));
        for _ in 0..3 {
            run(netns.command(peer()).args(["try", &format!("{V4}:9")]));
        }
    };
    traffic();
    into_the_next_minute();
    traffic();
    session.0.stdin.take().unwrap().flush().unwrap();
    session.0.wait().unwrap();
    web.quit();
    run(Command::new("sleep").arg("1"));
    let rows = rows.stop();
    rules::check(&rows);
    check_web(&rows, (web_port, refused), &folder.path().join("access.log"));
    check_session(&rows, session_port.parse().unwrap());

    let datagrams = of(&rows, udp_port, "outbound");
    assert_eq!((sum(&datagrams, "BytesSent"), sum(&datagrams, "BytesReceived")), (200, 200));
    assert_eq!(sum(&datagrams, "LinksEstablished"), 40);
    assert!(datagrams.iter().all(|row| text(row, "Protocol") == "udp"));

    let refused = of(&rows, 9, "outbound");
    assert_eq!((sum(&refused, "LinksFailed"), sum(&refused, "LinksEstablished")), (6, 0));
}

/// Number of minutes that have rows.
fn minutes(rows: &[&Value]) -> usize {
    rows.iter().map(|row| text(row, "TimeGenerated")).collect::<BTreeSet<_>>().len()
}

/// Compares nginx's own log with the rows of both ends; `refused` connections failed before.
fn check_web(rows: &[Value], (port, refused): (u16, u64), log: &Path) {
    let log = std::fs::read_to_string(log).unwrap();
    let requests: Vec<Vec<u64>> = log
        .lines()
        .map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect())
        .collect();
    let (served, called) = (of(rows, port, "inbound"), of(rows, port, "outbound"));
    assert!(minutes(&served) >= 2 && minutes(&called) >= 2);
    assert!(served.iter().all(|row| text(row, "ProcessName") == "nginx"), "{served:#?}");
    let sum_of = |field: usize| requests.iter().map(|request| request[field]).sum::<u64>();
    assert_eq!(sum(&served, "BytesReceived"), sum_of(1));
    assert_eq!(sum(&served, "BytesSent"), sum_of(2));
    assert_eq!(sum(&called, "BytesSent"), sum_of(1));
    assert_eq!(sum(&called, "BytesReceived"), sum_of(2));
    assert_eq!(sum(&served, "Responses"), requests.len() as u64);
    assert_eq!(sum(&called, "Responses"), requests.len() as u64);
    let mut connections: Vec<u64> = requests.iter().map(|request| request[0]).collect();
    connections.sort_unstable();
    connections.dedup();
    for (rows, failed) in [(&served, 0), (&called, refused)] {
        assert_eq!(sum(rows, "LinksEstablished"), connections.len() as u64, "{rows:#?}");
        assert_eq!(sum(rows, "LinksTerminated"), connections.len() as u64);
        assert_eq!(sum(rows, "LinksFailed"), failed);
    }
    let names: BTreeSet<&str> = called.iter().map(|row| text(row, "ProcessName")).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["ab", "curl"]);
}

/// Asserts that the session is live in each minute, and that each byte is in the minute of its
/// transfer.
fn check_session(rows: &[Value], port: u16) {
    for direction in ["inbound", "outbound"] {
        let session = of(rows, port, direction);
        assert_eq!((sum(&session, "BytesSent"), sum(&session, "BytesReceived")), (6, 6));
        assert_eq!(sum(&session, "Responses"), 6, "{session:#?}");
        assert!(session.len() >= 2);
        let first = session.iter().min_by_key(|row| text(row, "TimeGenerated")).unwrap();
        assert_eq!(first["LinksLive"], 1);
        assert_eq!(first["LinksEstablished"], 1);
        assert!(first["RttMinUs"].is_u64(), "{first}");
    }
}

/// Connects to itself, sequentially, and reads the number of bytes that it requests each time.
const STORM: &str = "
import socket, sys, threading
def serve(listener):
    while True:
        connection = listener.accept()[0]
        size = connection.recv(8)
        connection.sendall(b'x' * int(size))
        connection.recv(1)
        connection.close()
listener = socket.create_server((sys.argv[1], 0), backlog=1024)
threading.Thread(target=serve, args=(listener,), daemon=True).start()
to = listener.getsockname()
print('ready', to[1], flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    connection = socket.create_connection(to)
    count = number % 1000 + 1
    connection.sendall(b'%8d' % count)
    while count:
        count -= len(connection.recv(count))
    connection.close()
";

#[test]
fn row_totals_match_for_a_hundred_thousand_connections() {
    const EACH: u64 = 25_000;
    const PROCESSES: u64 = 4;
    if skipped() {
        return;
    }
    let netns = Netns::new(&[V4]);
    // The kernel first uses every other port only, and then searches long for each connection.
    netns.set("net/ipv4/ip_local_port_range", "1024 65535");
    let rows = Rows::start();
    let mut storms: Vec<(Server, String)> = (0..PROCESSES)
        .map(|_| {
            let mut storm = netns.command("/usr/bin/python3");
            storm.args(["-c", STORM, V4, &EACH.to_string()]).stdin(Stdio::piped());
            Server::start(storm)
        })
        .collect();
    for (storm, _) in &mut storms {
        storm.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
    for (storm, _) in &mut storms {
        storm.0.stdin.take();
        assert!(storm.0.wait().unwrap().success());
    }
    run(Command::new("sleep").arg("1"));
    let rows = rows.stop();
    rules::check(&rows);
    let requested = 8 * EACH;
    let responded = EACH / 1000 * (1..=1000).sum::<u64>();
    for (_, port) in &storms {
        let port: u16 = port.parse().unwrap();
        for (direction, (sent, received)) in
            [("outbound", (requested, responded)), ("inbound", (responded, requested))]
        {
            let rows = of(&rows, port, direction);
            let links = ["LinksEstablished", "LinksTerminated", "LinksFailed", "Responses"];
            assert_eq!(links.map(|column| sum(&rows, column)), [EACH, EACH, 0, EACH], "{rows:#?}");
            let bytes = (sum(&rows, "BytesSent"), sum(&rows, "BytesReceived"));
            assert_eq!(bytes, (sent, received), "{direction}: {rows:#?}");
            let last = rows.iter().max_by_key(|row| text(row, "TimeGenerated")).unwrap();
            assert_eq!(last["LinksLive"], 0);
        }
    }
}
