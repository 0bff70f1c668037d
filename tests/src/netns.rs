//! A network namespace of the test's own: nothing that happens in it leaves the machine.
#![expect(clippy::panic, reason = "a test ends with a panic")]

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

static MADE: AtomicU32 = AtomicU32::new(0);

/// A namespace with loopback up and the given addresses on it; gone when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes it. Addresses are IPv4 or IPv6, without prefix length. Needs root and iproute2.
    pub fn new(addresses: &[&str]) -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let netns = Self { name: format!("nst{}-{number}", std::process::id()) };
        run(Command::new("ip").args(["netns", "add", &netns.name]));
        run(netns.command("ip").args(["link", "set", "lo", "up"]));
        for address in addresses {
            let ip = ["address", "add", address, "dev", "lo"];
            let nodad = address.contains(':').then_some("nodad");
            run(netns.command("ip").args(ip).args(nodad));
        }
        netns
    }

    /// Inode number: what records of its sockets name.
    pub fn inode(&self) -> u64 {
        let path = format!("/run/netns/{}", self.name);
        let file = std::fs::metadata(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        file.ino()
    }

    /// `program`, to be run in this namespace. (`ip netns exec` would remount /sys, and cgroup and
    /// tracing folders with it.)
    pub fn command(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program.into());
        command
    }

    /// Makes packets to `address` vanish, without an answer.
    pub fn black_hole(&self, address: &str) {
        let ip = |words: &str| run(self.command("ip").args(words.split(' ')));
        ip("link add void type veth peer name nobody");
        ip("link set void up");
        ip("link set nobody up");
        ip(&format!("route add {address} dev void"));
        ip(&format!("neighbour add {address} lladdr 02:00:00:00:00:01 dev void"));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// Runs a command to its end; panics with what it said when it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    output
}
