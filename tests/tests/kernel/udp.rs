//! UDP flows: one per socket and remote address, with exact counts.

use std::collections::BTreeMap;
use std::process::Command;

use sensor_tests::{Netns, run};
use serde_json::Value;

use crate::harness::{CLIENT_V4, CLIENT_V6, Home, Recording, Server, V4, V6, skipped, text};

/// One flow of a recording.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Its `opened` event.
    pub(crate) opened: Value,
    pub(crate) pid: u64,
    pub(crate) direction: String,
    pub(crate) remote: (String, u64),
    pub(crate) local: (String, u64),
    pub(crate) bytes: (u64, u64),
    pub(crate) packets: (u64, u64),
    pub(crate) closed: bool,
}

/// Collects the UDP flows of a namespace. Asserts that each is opened once, then established, and
/// closed at most once, as its last event.
pub(crate) fn flows(lines: &[Value], netns: &Netns) -> Vec<Flow> {
    let mut flows: BTreeMap<u64, Flow> = BTreeMap::new();
    let own =
        |line: &&Value| line["Protocol"] == "udp" && line["NetworkNamespace"] == netns.inode();
    let number = |line: &Value, column: &str| line[column].as_u64().unwrap();
    for line in lines.iter().filter(own) {
        let id = number(line, "ConnectionNumber");
        let event = text(line, "Event");
        let Some(flow) = flows.get_mut(&id) else {
            assert_eq!(event, "opened", "{line}");
            let end = |side: &str| {
                let port = number(line, &format!("{side}Port"));
                (text(line, &format!("{side}Ip")).to_owned(), port)
            };
            let (source, destination) = (end("Source"), end("Destination"));
            let direction = text(line, "Direction").to_owned();
            let inbound = direction == "inbound";
            let (local, remote) =
                if inbound { (destination, source) } else { (source, destination) };
            assert_eq!(text(line, "RemoteIp"), remote.0);
            let pid = line["ProcessId"].as_u64().unwrap_or(0);
            let opened = line.clone();
            let (bytes, packets, closed) = ((0, 0), (0, 0), false);
            let flow = Flow { opened, pid, direction, remote, local, bytes, packets, closed };
            flows.insert(id, flow);
            continue;
        };
        assert!(!flow.closed && event != "opened", "{line}");
        flow.bytes.0 += number(line, "BytesSent");
        flow.bytes.1 += number(line, "BytesReceived");
        flow.packets.0 += number(line, "PacketsSent");
        flow.packets.1 += number(line, "PacketsReceived");
        flow.closed = event == "closed";
        assert_eq!(line["ProcessId"], flow.opened["ProcessId"]);
    }
    flows.into_values().collect()
}

/// Stops the recording once `count` flows of the namespace are closed; returns them.
pub(crate) fn closed_flows(recording: Recording, netns: &Netns, count: usize) -> Vec<Flow> {
    let inode = format!("\"NetworkNamespace\":{},", netns.inode());
    let marks = ["\"Event\":\"closed\"", "\"Protocol\":\"udp\"", inode.as_str()];
    recording.wait_for_lines(&marks, count);
    let (lines, ledger) = recording.stop();
    ledger.assert_balances();
    let flows = flows(&lines, netns);
    assert_eq!(flows.len(), count, "{flows:#?}");
    assert!(flows.iter().all(|flow| flow.closed), "{flows:#?}");
    flows
}

/// Runs a Python program in the namespace to its end; returns its process id.
pub(crate) fn python(netns: &Netns, program: &str, words: &[&str]) -> u32 {
    let mut child =
        netns.command("/usr/bin/python3").args(["-c", program]).args(words).spawn().unwrap();
    assert!(child.wait().unwrap().success(), "{program}");
    child.id()
}

/// Binds to an address and replies to each datagram that begins with `?` with three times its
/// length, until it is killed.
pub(crate) const SERVER: &str = "
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
server = socket.socket(family, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
if family == socket.AF_INET6:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind((sys.argv[1], 0))
print('ready', server.getsockname()[1], flush=True)
while True:
    data, peer = server.recvfrom(65535)
    if data[:1] == b'?':
        server.sendto(data * 3, peer)
";

pub(crate) fn server(netns: &Netns, address: &str) -> (Server, u64, String) {
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", SERVER, address]);
    let (server, port) = Server::start(command);
    let pid = server.0.id();
    (server, pid.into(), port)
}

/// The flows of both ends of an exchange: (outbound, inbound).
pub(crate) fn ends(mut flows: Vec<Flow>) -> (Vec<Flow>, Vec<Flow>) {
    let inbound = flows.extract_if(.., |flow| flow.direction == "inbound").collect();
    (flows, inbound)
}

#[test]
fn a_connected_socket_is_one_flow_for_both_address_families() {
    if skipped() {
        return;
    }
    let client = "
import socket, sys
bind, to, port = sys.argv[1:4]
family = socket.AF_INET6 if ':' in to else socket.AF_INET
client = socket.socket(family, socket.SOCK_DGRAM)
client.settimeout(10)
client.bind((bind, 0))
client.connect((to, int(port)))
for _ in range(50):
    client.send(b'?' * 100)
    assert len(client.recv(1000)) == 300
client.send(b'!' * 7)
";
    let mapped = |address: &str| format!("::ffff:{address}");
    for (listen, bind, to, from) in [
        (V4, CLIENT_V4, V4.to_owned(), CLIENT_V4),
        (V6, CLIENT_V6, V6.to_owned(), CLIENT_V6),
        // A dual-stack server, then a client that uses an IPv4-mapped IPv6 address.
        ("::", "0.0.0.0", V4.to_owned(), V4),
        (V4, "::", mapped(V4), V4),
    ] {
        let netns = Netns::new(&[V4, V6, CLIENT_V4, CLIENT_V6]);
        let home = Home::new("", "");
        let recording = home.record();
        let (server, server_pid, port) = server(&netns, listen);
        let pid = python(&netns, client, &[bind, &to, &port]);
        drop(server);
        let (outbound, inbound) = ends(closed_flows(recording, &netns, 2));
        let (outbound, inbound) = (&outbound[0], &inbound[0]);
        let remote = to.trim_start_matches("::ffff:");
        assert_eq!((outbound.remote.0.as_str(), outbound.remote.1.to_string()), (remote, port));
        assert_eq!(outbound.local.0, from);
        assert_eq!((outbound.pid, inbound.pid), (pid.into(), server_pid));
        assert_eq!((&inbound.remote, &inbound.local), (&outbound.local, &outbound.remote));
        assert_eq!(outbound.bytes, (5007, 15000));
        assert_eq!(outbound.packets, (51, 50));
        assert_eq!(inbound.bytes, (15000, 5007));
        assert_eq!(inbound.packets, (50, 51));
        assert_eq!(text(&outbound.opened, "Attribution"), "connect");
        assert_eq!(text(&inbound.opened, "Attribution"), "first_io");
    }
}

#[test]
fn a_thousand_client_sockets_give_one_server_flow_per_peer() {
    if skipped() {
        return;
    }
    // Each query has its own socket; every second one ignores the sender of the reply. A source
    // port may be used twice: the server then has one peer for both.
    let client = "
import socket, sys
ports = set()
for number in range(1000):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(10)
    client.sendto(b'?' * (20 + number % 50), (sys.argv[1], int(sys.argv[2])))
    client.recvfrom(1000) if number % 2 else client.recv(1000)
    ports.add(client.getsockname()[1])
    client.close()
with open(sys.argv[3], 'w') as out:
    print(len(ports), file=out)
";
    let netns = Netns::new(&[V4]);
    let home = Home::new("", "");
    let recording = home.record();
    let (server, server_pid, port) = server(&netns, V4);
    let out = home.path("peers");
    let pid = python(&netns, client, &[V4, &port, out.to_str().unwrap()]);
    drop(server);
    let peers: usize = std::fs::read_to_string(out).unwrap().trim().parse().unwrap();
    let (outbound, inbound) = ends(closed_flows(recording, &netns, 1000 + peers));
    assert_eq!((outbound.len(), inbound.len()), (1000, peers));
    for (number, flow) in (0..).zip(&outbound) {
        let sent = 20 + number % 50;
        assert_eq!((flow.pid, flow.bytes, flow.packets), (pid.into(), (sent, 3 * sent), (1, 1)));
        assert_eq!(text(&flow.opened, "Attribution"), "connect");
        assert!(text(&flow.opened, "CommandLine").starts_with("/usr/bin/python3 -c"));
    }
    for flow in &inbound {
        assert_eq!((flow.pid, flow.packets.0), (server_pid, flow.packets.1), "{flow:?}");
        assert_eq!(flow.bytes.0, 3 * flow.bytes.1);
        assert_eq!(text(&flow.opened, "Attribution"), "first_io");
    }
    assert_eq!(inbound.iter().map(|flow| flow.packets.1).sum::<u64>(), 1000);
}

#[test]
fn a_server_that_never_replies_has_a_flow_per_sender() {
    if skipped() {
        return;
    }
    let client = "
import socket, sys
clients = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(200)]
for client in clients:
    for _ in range(3):
        client.sendto(b'!' * 9, (sys.argv[1], int(sys.argv[2])))
";
    let netns = Netns::new(&[V6]);
    let home = Home::new("", "");
    let recording = home.record();
    let (server, server_pid, port) = server(&netns, V6);
    python(&netns, client, &[V6, &port]);
    run(Command::new("sleep").arg("0.3"));
    drop(server);
    let (outbound, inbound) = ends(closed_flows(recording, &netns, 400));
    assert_eq!((outbound.len(), inbound.len()), (200, 200));
    assert!(outbound.iter().all(|flow| (flow.bytes, flow.packets) == ((27, 0), (3, 0))));
    assert!(inbound.iter().all(|flow| (flow.bytes, flow.packets) == ((0, 27), (0, 3))));
    assert!(inbound.iter().all(|flow| flow.pid == server_pid));
}

/// Datagrams sent by uncommon calls or with unusual contents. Server and client are two processes.
#[test]
fn datagrams_are_counted_for_every_send_method() {
    if skipped() {
        return;
    }
    // Sends by the method of its first argument.
    let client = "
import ctypes, socket, struct, sys
method, to, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_DGRAM)
if method == 'mmsg':
    # struct mmsghdr: name, its length, vector, its length, control, its length, flags, result.
    data = ctypes.create_string_buffer(b'!' * 11)
    vector = ctypes.create_string_buffer(struct.pack('PN', ctypes.addressof(data), 11))
    client.connect((to, port))
    message = struct.pack('PIxxxxPNPNIxxxxIxxxx', 0, 0, ctypes.addressof(vector), 1, 0, 0, 0, 0)
    messages = ctypes.create_string_buffer(message * 20)
    sent = ctypes.CDLL(None).sendmmsg(client.fileno(), messages, 20, 0)
    assert sent == 20, sent
elif method == 'segments':
    client.setsockopt(socket.IPPROTO_UDP, 103, 1000)  # UDP_SEGMENT
    client.sendto(b'!' * 9500, (to, port))
elif method == 'fragments':
    client.sendto(b'!' * 20000, (to, port))
elif method == 'empty':
    client.sendto(b'', (to, port))
elif method == 'options':
    client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 1, 1, 1]))
    client.sendto(b'!' * 30, (to, port))
elif method == 'extensions':
    client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
    client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
    client.sendto(b'!' * 40, (to, port))
elif method == 'elsewhere':
    # The datagram is not sent to the peer of the connected socket.
    client.connect((to, 9))
    client.sendto(b'!' * 50, (to, port))
";
    for (method, to, bytes, packets) in [
        ("mmsg", V4, 220, 20),
        ("segments", V4, 9500, 10),
        ("fragments", V4, 20000, 1),
        ("fragments", V6, 20000, 1),
        ("empty", V6, 0, 1),
        ("options", V4, 30, 1),
        ("extensions", V6, 40, 1),
        ("elsewhere", V4, 50, 1),
    ] {
        let netns = Netns::new(&[V4, V6]);
        run(netns.command("ip").args(["link", "set", "lo", "mtu", "1500"]));
        let home = Home::new("", "");
        let recording = home.record();
        let (server, server_pid, port) = server(&netns, to);
        let pid = python(&netns, client, &[method, to, &port]);
        run(Command::new("sleep").arg("0.2"));
        drop(server);
        let (outbound, inbound) = ends(closed_flows(recording, &netns, 2));
        let (outbound, inbound) = (&outbound[0], &inbound[0]);
        assert_eq!(outbound.remote.1.to_string(), port, "{method}");
        assert_eq!((outbound.pid, inbound.pid), (pid.into(), server_pid), "{method}");
        assert_eq!((outbound.bytes, outbound.packets), ((bytes, 0), (packets, 0)), "{method}");
        assert_eq!((inbound.bytes, inbound.packets), ((0, bytes), (0, packets)), "{method}");
    }
}
