//! Datagrams that a cgroup's program or the host's firewall refuses, and sockets that change their
//! port.

use std::path::{Path, PathBuf};
use std::process::Command;

use sensor_tests::{Netns, run, skip_unless_kernel_has};
use serde_json::Value;

use crate::harness::{Home, Recording, V4, V6, skipped, text};
use crate::udp::{closed_flows, python, server};

/// Functions `refuse` and `allow`, which attach to the cgroup `sys.argv[1]` an egress program that
/// refuses each packet, and detach it (`bpf(2)`). Enters that cgroup first.
const REFUSE: &str = "
import ctypes, errno, os, platform, socket, struct, sys
open(sys.argv[1] + '/cgroup.procs', 'w').write('0')
libc = ctypes.CDLL(None, use_errno=True)
BPF = 280 if platform.machine() == 'aarch64' else 321
LOAD, ATTACH, DETACH, CGROUP_SKB, EGRESS, ALLOW_MULTI = 5, 8, 9, 8, 1, 2
def bpf(command, attribute):
    buffer = ctypes.create_string_buffer(attribute + bytes(128 - len(attribute)))
    result = libc.syscall(BPF, command, buffer, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), 'bpf')
    return result
# r0 = 0; exit
code = ctypes.create_string_buffer(bytes([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]))
license = ctypes.create_string_buffer(b'GPL')
program = bpf(LOAD, struct.pack('<IIQQ', CGROUP_SKB, 2, ctypes.addressof(code), ctypes.addressof(license)))
cgroup = os.open(sys.argv[1], os.O_RDONLY)
def refuse():
    bpf(ATTACH, struct.pack('<IIII', cgroup, program, EGRESS, ALLOW_MULTI))
def allow():
    bpf(DETACH, struct.pack('<III', cgroup, program, EGRESS))
def refused(call):
    try:
        call()
    except PermissionError:
        return
    raise AssertionError('the datagram was sent')
def new(address):
    return socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
";

/// A cgroup that is removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
        let root = Path::new(mount.split(' ').nth(1).unwrap());
        let folder = root.join(format!("netsensor-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir(&self.0);
    }
}

/// Runs a program that begins with `REFUSE`; returns its process id.
fn refusing(netns: &Netns, name: &str, program: &str, words: &[&str]) -> u32 {
    let cgroup = Cgroup::new(name);
    let folder = cgroup.0.to_str().unwrap();
    python(netns, &format!("{REFUSE}\n{program}"), &[&[folder], words].concat())
}

/// True if the kernel reports the result of each write (6.3), without which refusals are not seen.
fn has_write_tracepoint() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).filter_map(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}

/// Stops the recording once `count` flows of the namespace failed; returns all of its lines.
fn failed(recording: Recording, netns: &Netns, count: usize) -> Vec<Value> {
    let inode = format!("\"NetworkNamespace\":{},", netns.inode());
    recording.wait_for_lines(&["\"Event\":\"failed\"", "\"Protocol\":\"udp\"", &inode], count);
    let (lines, ledger) = recording.stop();
    ledger.assert_balances();
    let own = |line: &Value| line["Protocol"] == "udp" && line["NetworkNamespace"] == netns.inode();
    lines.into_iter().filter(own).collect()
}

#[test]
fn a_refused_datagram_is_a_failed_attempt_of_its_sender() {
    if skipped() || skip_unless_kernel_has(has_write_tracepoint(), "tracepoint of writes") {
        return;
    }
    // By address, connected, over IPv6, in large and in several datagrams.
    let program = "
refuse()
for number, address in enumerate(sys.argv[2:]):
    by_address = new(address)
    for _ in range(3):
        refused(lambda: by_address.sendto(b'x' * 3000, (address, 9000 + number)))
    connected = new(address)
    connected.connect((address, 9100 + number))
    refused(lambda: connected.send(b'x'))
";
    let netns = Netns::new(&[V4, V6]);
    let home = Home::new("", "");
    let recording = home.record();
    let pid = refusing(&netns, "refused", program, &[V4, V6]);
    let lines = failed(recording, &netns, 4);
    for (port, remote) in [(9000, V4), (9001, V6), (9100, V4), (9101, V6)] {
        let flow: Vec<&Value> =
            lines.iter().filter(|line| line["DestinationPort"] == port).collect();
        let events: Vec<&str> = flow.iter().map(|line| text(line, "Event")).collect();
        assert_eq!(events, ["opened", "failed"], "{flow:#?}");
        for line in flow {
            assert_eq!(line["ProcessId"], pid, "{line}");
            assert_eq!(text(line, "Attribution"), "connect");
            assert_eq!(text(line, "RemoteIp"), remote);
            assert_eq!((&line["BytesSent"], &line["PacketsSent"]), (&0.into(), &0.into()));
        }
    }
    let errors = lines.iter().filter(|line| text(line, "Event") == "failed");
    assert!(errors.clone().all(|line| line["ErrorNumber"] == 1 && line["LinksFailed"] == 1));
}

#[test]
fn only_what_leaves_is_counted_while_a_refusal_comes_and_goes() {
    if skipped() || skip_unless_kernel_has(has_write_tracepoint(), "tracepoint of writes") {
        return;
    }
    let program = "
to = (sys.argv[2], int(sys.argv[3]))
def two_then_refused(client):
    client.sendto(b'12345', to)
    client.sendto(b'12345', to)
    refuse()
    for _ in range(4):
        refused(lambda: client.sendto(b'x' * 100, to))
    allow()
    client.sendto(b'123', to)
def refused_then_one(client):
    refuse()
    refused(lambda: client.sendto(b'x' * 100, to))
    allow()
    client.sendto(b'1234567', to)
for each in (two_then_refused, refused_then_one):
    client = new(sys.argv[2])
    each(client)
    client.close()
";
    let netns = Netns::new(&[V4]);
    let (_server, server_pid, port) = server(&netns, V4);
    let home = Home::new("", "");
    let recording = home.record();
    let pid = refusing(&netns, "while", program, &[V4, &port]);
    let inode = format!("\"NetworkNamespace\":{},", netns.inode());
    let marks = ["\"Event\":\"closed\"", "\"Direction\":\"outbound\"", inode.as_str()];
    recording.wait_for_lines(&marks, 2);
    let (lines, _) = recording.stop();
    let flows = crate::udp::flows(&lines, &netns);
    let mut sent: Vec<((u64, u64), bool)> = flows
        .iter()
        .filter(|flow| flow.direction == "outbound" && flow.pid != server_pid)
        .map(|flow| ((flow.bytes.0, flow.packets.0), flow.pid == u64::from(pid)))
        .collect();
    sent.sort_unstable();
    assert_eq!(sent, [((7, 1), true), ((13, 3), true)], "{flows:#?}");
}

#[test]
fn a_datagram_that_the_firewall_drops_takes_no_earlier_one_back() {
    let has_nft = Command::new("nft").arg("--version").output().is_ok();
    if skipped() || skip_unless_kernel_has(has_nft, "nft") {
        return;
    }
    let program = "
import socket, subprocess, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to = (sys.argv[1], int(sys.argv[2]))
client.sendto(b'12345', to)
subprocess.run(['nft', '-f', '-'], input=b'''
table inet test {
  chain output { type filter hook output priority 0; udp dport %d drop; }
}''' % to[1], check=True)
for _ in range(3):
    try:
        client.sendto(b'x' * 50, to)
        raise AssertionError('the datagram was sent')
    except PermissionError:
        pass
";
    let netns = Netns::new(&[V4]);
    let (_server, server_pid, port) = server(&netns, V4);
    let home = Home::new("", "");
    let recording = home.record();
    let nft = netns.command("nft").args(["list", "tables"]).output().unwrap();
    if skip_unless_kernel_has(nft.status.success(), "nf_tables") {
        return;
    }
    python(&netns, program, &[V4, &port]);
    let inode = format!("\"NetworkNamespace\":{},", netns.inode());
    let marks = ["\"Event\":\"closed\"", "\"Direction\":\"outbound\"", inode.as_str()];
    recording.wait_for_lines(&marks, 1);
    let (lines, _) = recording.stop();
    let flows = crate::udp::flows(&lines, &netns);
    let sent: Vec<(u64, u64)> = flows
        .iter()
        .filter(|flow| flow.direction == "outbound" && flow.pid != server_pid)
        .map(|flow| (flow.bytes.0, flow.packets.0))
        .collect();
    assert_eq!(sent, [(5, 1)], "{flows:#?}");
}

#[test]
fn a_socket_that_changes_its_port_has_a_flow_for_each() {
    if skipped() {
        return;
    }
    // Disconnecting gives the port back; the next datagram gets another.
    let program = "
import ctypes, socket, sys
libc = ctypes.CDLL(None)
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to = (sys.argv[1], int(sys.argv[2]))
ports = []
for number in range(3):
    client.connect(to)
    client.send(b'?' * (number + 1))
    client.recv(100)
    ports.append(client.getsockname()[1])
    assert libc.connect(client.fileno(), bytes(16), 16) == 0
print(*ports, file=open(sys.argv[3], 'w'))
";
    let netns = Netns::new(&[V4]);
    let (server, _, port) = server(&netns, V4);
    let home = Home::new("", "");
    let recording = home.record();
    let out = home.path("ports");
    python(&netns, program, &[V4, &port, out.to_str().unwrap()]);
    run(Command::new("sleep").arg("0.2"));
    drop(server);
    let flows = closed_flows(recording, &netns, 6);
    let ports = std::fs::read_to_string(out).unwrap();
    let ports: Vec<u64> = ports.split_whitespace().map(|port| port.parse().unwrap()).collect();
    for (number, port) in (1_u64..).zip(ports) {
        let own: Vec<_> = flows
            .iter()
            .filter(|flow| flow.direction == "outbound" && flow.local.1 == port)
            .collect();
        assert_eq!(own.len(), 1, "{port} {flows:#?}");
        assert_eq!((own[0].bytes, own[0].packets), ((number, number * 3), (1, 1)), "{own:?}");
    }
}
