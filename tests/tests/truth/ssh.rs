//! sshd: copies by scp, and a forwarded port.

use std::process::Command;

use sensor_tests::{run, skip_unless};

use crate::ends::End;
use crate::lab::{CLIENT, Daemon, Lab, SERVER, path};
use crate::nginx;

const PORT: u16 = 22;
/// Port of the client that the server forwards to nginx.
const FORWARDED: u16 = 9000;
/// Bytes of the file that is copied.
const SIZE: usize = 3_000_000;

/// More than what ssh does not count: its version, key exchange and authentication tags of packets.
const UNCOUNTED: u64 = 8192;

/// Root logs in with a key of the lab.
const CONFIGURATION: &str = "
ListenAddress 203.0.113.7:22
HostKey FOLDER/host_key
AuthorizedKeysFile FOLDER/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
LogLevel VERBOSE
Subsystem sftp internal-sftp
";
const CLIENT_OPTIONS: [&str; 11] = [
    "-v",
    "-F",
    "none",
    "-i",
    "key",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "BindAddress=198.51.100.9",
];

fn start(more: &[&str]) -> Option<(Lab, Daemon)> {
    let shadow = std::fs::read_to_string("/etc/shadow").unwrap_or_default();
    let is_locked = shadow.lines().any(|line| line.starts_with("root:!"));
    if skip_unless(!is_locked, "root's account is locked") {
        return None;
    }
    let lab = Lab::start(&[&["sshd", "ssh", "scp", "ssh-keygen"], more].concat())?;
    // sshd's package leaves this to its service.
    run(Command::new("mkdir").args(["-p", "/run/sshd"]));
    for key in ["host_key", "key"] {
        lab.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key]);
    }
    let folder = lab.path("").display().to_string();
    lab.write("sshd.conf", &CONFIGURATION.replace("FOLDER", folder.trim_end_matches('/')));
    let address = format!("{SERVER}:{PORT}");
    let sshd = lab.listening("sshd", &["-D", "-e", "-f", "sshd.conf"], &address);
    Some((lab, sshd))
}

/// The process that accepts is the listener, the one that reads first is its child.
fn assert_is_of_sshd(end: &End, listener: u64) {
    assert_eq!(end.path, path("sshd"), "{end:?}");
    let is_listener = end.pid == listener;
    assert_eq!(is_listener, end.attribution == "accept", "{end:?}");
}

#[test]
fn a_copy_by_scp_is_one_connection_with_the_bytes_that_ssh_counts() {
    let Some((lab, sshd)) = start(&[]) else { return };
    lab.write("file", &"0123456789".repeat(SIZE / 10));
    let remote = |name: &str| format!("root@{SERVER}:{}", lab.path(name).display());
    let mut counted = Vec::new();
    for [from, to] in [["file".to_owned(), remote("there")], [remote("there"), "back".to_owned()]] {
        let scp = lab.run("scp", &[&CLIENT_OPTIONS[..], &[&from, &to]].concat());
        counted.push(transferred(&scp.stderr));
    }
    assert_eq!(std::fs::read(lab.path("back")).unwrap().len(), SIZE);
    let listener = sshd.pid();
    let log = sshd.stop();
    let observed = lab.finish();

    let clients = observed.outbound(PORT);
    assert_eq!(clients.len(), 2, "{clients:?}");
    for client in &clients {
        assert_eq!(client.path, path("ssh"), "{client:?}");
        let source = client.connection.client;
        let line = format!("Connection from {} port {} on {SERVER}", source.ip(), source.port());
        assert!(log.contains(&line), "{line:?} in {log}");
        let is_of = |[sent, received]: &&[u64; 2]| {
            (*sent..sent + UNCOUNTED).contains(&client.connection.sent)
                && (*received..received + UNCOUNTED).contains(&client.connection.received)
        };
        assert_eq!(counted.iter().filter(is_of).count(), 1, "{counted:?} {client:?}");
    }
    for end in observed.inbound(PORT) {
        assert_is_of_sshd(end, listener);
    }
}

/// Bytes sent and received in the log of ssh.
fn transferred(log: &str) -> [u64; 2] {
    let counts = log.lines().find_map(|line| line.strip_prefix("Transferred: sent "));
    let counts = counts.unwrap_or_else(|| panic!("no count in {log}"));
    let numbers = counts.split([' ', ',']).filter_map(|word| word.parse().ok());
    numbers.take(2).collect::<Vec<u64>>().try_into().unwrap()
}

#[test]
fn a_forwarded_port_is_three_connections_of_their_owners() {
    let Some((lab, sshd)) = start(&["nginx", "ab"]) else { return };
    let nginx = nginx::start(&lab);
    let forward = format!("{CLIENT}:{FORWARDED}:{SERVER}:{}", nginx::PORT);
    let target = format!("root@{SERVER}");
    let words = [&CLIENT_OPTIONS[..], &["-N", "-L", &forward, &target]].concat();
    let ssh = lab.listening("ssh", &words, &format!("{CLIENT}:{FORWARDED}"));
    let url = format!("http://{CLIENT}:{FORWARDED}/");
    let ab = lab.run("ab", &["-q", "-n", "20", "-c", "4", &url]);
    let (listener, ssh_pid) = (sshd.pid(), ssh.pid());
    drop((ssh, sshd, nginx));
    let observed = lab.finish();

    for end in observed.outbound(FORWARDED) {
        assert_eq!((end.pid, &end.path), (ab.pid, &path("ab")), "{end:?}");
    }
    for end in observed.inbound(FORWARDED).iter().chain(&observed.outbound(PORT)) {
        assert_eq!((end.pid, &end.path), (ssh_pid, &path("ssh")), "{end:?}");
    }
    let session = observed.inbound(PORT);
    assert_eq!(session.len(), 1, "{session:?}");
    assert_is_of_sshd(session[0], listener);
    for end in observed.outbound(nginx::PORT) {
        assert_eq!(end.path, path("sshd"), "{end:?}");
        assert_ne!(end.pid, listener, "{end:?}");
    }
    let sum = |ends: &[&End]| -> u64 { ends.iter().map(|end| end.connection.sent).sum() };
    assert_eq!(sum(&observed.outbound(nginx::PORT)), sum(&observed.outbound(FORWARDED)));
    assert_eq!(sum(&observed.inbound(nginx::PORT)), sum(&observed.inbound(FORWARDED)));
}
