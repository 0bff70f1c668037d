//! Owners of UDP flows.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::Stdio;

use sensor_tests::Netns;

use crate::harness::{Home, Server, V4, V6, skipped, text};
use crate::udp::{closed_flows, ends, python, server};

#[test]
fn workers_sharing_a_socket_own_the_flows_they_read_first() {
    if skipped() {
        return;
    }
    // Replies to each datagram with the process id of the worker that read it.
    let workers = "
import os, socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
server.bind((sys.argv[1], 0))
for worker in range(3):
    if os.fork() == 0:
        while True:
            data, peer = server.recvfrom(100)
            server.sendto(str(os.getpid()).encode(), peer)
print('ready', server.getsockname()[1], flush=True)
os.wait()
";
    // All clients send before any reads its reply, so that many datagrams queue up at the server.
    let clients = "
import socket, sys
clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(500)]
for client in clients:
    client.settimeout(10)
    client.sendto(b'?', (sys.argv[1], int(sys.argv[2])))
with open(sys.argv[3], 'w') as out:
    for client in clients:
        reply = client.recv(100).decode()
        print(client.getsockname()[1], reply, file=out)
";
    let netns = Netns::new(&[V4]);
    let home = Home::new("", "");
    let recording = home.record();
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", workers, V4]);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let (server, port) = Server::start(command);
    let replies = home.path("replies");
    python(&netns, clients, &[V4, &port, replies.to_str().unwrap()]);
    let group = nix::unistd::Pid::from_raw(i32::try_from(server.0.id()).unwrap());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    drop(server);
    let (_, inbound) = ends(closed_flows(recording, &netns, 1000));
    let replies = std::fs::read_to_string(replies).unwrap();
    let replied: HashMap<u64, u64> = replies
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(port, worker)| (port.parse().unwrap(), worker.parse().unwrap()))
        .collect();
    assert_eq!((replied.len(), inbound.len()), (500, 500));
    for flow in inbound {
        assert_eq!(Some(&flow.pid), replied.get(&flow.remote.1), "{flow:?}");
        assert_eq!(text(&flow.opened, "Attribution"), "first_io");
    }
}

#[test]
fn children_sharing_a_socket_own_the_flows_they_send_first() {
    if skipped() {
        return;
    }
    let children = "
import os, socket, sys
shared = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
children = []
for child in range(2):
    pid = os.fork()
    if pid == 0:
        for port in range(20000 + 500 * child, 20500 + 500 * child):
            shared.sendto(b'!', (sys.argv[1], port))
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
with open(sys.argv[2], 'w') as out:
    print(*children, file=out)
";
    let netns = Netns::new(&[V4]);
    // ICMP errors would end a sender's call early.
    netns.black_hole("192.0.2.77");
    let home = Home::new("", "");
    let recording = home.record();
    let out = home.path("children");
    python(&netns, children, &["192.0.2.77", out.to_str().unwrap()]);
    let flows = closed_flows(recording, &netns, 1000);
    let children = std::fs::read_to_string(out).unwrap();
    let children: Vec<u64> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    for flow in flows {
        let child = usize::from(flow.remote.1 >= 20500);
        assert_eq!(flow.pid, children[child], "{flow:?}");
        assert_eq!(text(&flow.opened, "Attribution"), "connect");
    }
}

#[test]
fn a_socket_passed_to_a_service_belongs_to_the_reader() {
    if skipped() {
        return;
    }
    // Like a service manager: binds the socket, and starts the service with the socket as its
    // standard input. The service reads without an address.
    let activator = "
import os, socket, sys
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 0))
print('ready', server.getsockname()[1], flush=True)
service = '''
import os, socket
server = socket.socket(fileno=0)
for _ in range(2):
    server.recv(100)
print('service', os.getpid(), flush=True)
'''
if os.fork() == 0:
    os.dup2(server.fileno(), 0)
    os.dup2(2, 1)
    os.execv(sys.executable, [sys.executable, '-c', service])
os.wait()
";
    let client = "
import socket, sys
for _ in range(2):
    socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'!', (sys.argv[1], int(sys.argv[2])))
";
    let netns = Netns::new(&[V6]);
    let home = Home::new("", "");
    let recording = home.record();
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", activator, V6]);
    let (mut server, port) = Server::start(command);
    python(&netns, client, &[V6, &port]);
    server.0.wait().unwrap();
    let (_, inbound) = ends(closed_flows(recording, &netns, 4));
    for flow in inbound {
        assert_ne!(flow.pid, u64::from(server.0.id()), "the activator: {flow:?}");
        assert_eq!(flow.opened["ParentProcessId"], server.0.id());
        assert_eq!(text(&flow.opened, "Attribution"), "first_io");
    }
}

#[test]
fn unread_datagrams_belong_to_the_binding_process() {
    if skipped() {
        return;
    }
    let idle = "
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 0))
print('ready', server.getsockname()[1], flush=True)
sys.stdin.read()
";
    let client = "
import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'!', (sys.argv[1], int(sys.argv[2])))
";
    let netns = Netns::new(&[V4]);
    let home = Home::new("", "");
    let recording = home.record();
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", idle, V4]).stdin(Stdio::piped());
    let (mut server, port) = Server::start(command);
    python(&netns, client, &[V4, &port]);
    sensor_tests::run(std::process::Command::new("sleep").arg("0.2"));
    drop(server.0.stdin.take());
    server.0.wait().unwrap();
    let (_, inbound) = ends(closed_flows(recording, &netns, 2));
    assert_eq!(inbound[0].pid, u64::from(server.0.id()));
    assert_eq!(text(&inbound[0].opened, "Attribution"), "listener");
}

#[test]
fn preexisting_sockets_get_their_owner_at_the_first_io() {
    if skipped() {
        return;
    }
    // Connects before the agent starts, and sends on a line of input.
    let client = "
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(10)
client.connect((sys.argv[1], int(sys.argv[2])))
print('ready', client.getsockname()[1], flush=True)
for line in sys.stdin:
    client.send(b'?')
    client.recv(10)
";
    let netns = Netns::new(&[V4]);
    let (server, server_pid, port) = server(&netns, V4);
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", client, V4, &port]).stdin(Stdio::piped());
    let (mut client, local_port) = Server::start(command);
    let home = Home::new("", "");
    let recording = home.record();
    let mut input = client.0.stdin.take().unwrap();
    input.write_all(b"\n\n").unwrap();
    drop(input);
    client.0.wait().unwrap();
    drop(server);
    let (outbound, inbound) = ends(closed_flows(recording, &netns, 2));
    assert_eq!(outbound[0].local.1.to_string(), local_port);
    assert_eq!((outbound[0].pid, inbound[0].pid), (client.0.id().into(), server_pid));
    assert_eq!(text(&outbound[0].opened, "Attribution"), "connect");
    assert_eq!((outbound[0].packets, inbound[0].packets), ((2, 2), (2, 2)));
}
