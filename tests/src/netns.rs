//! Network namespaces of a test: no packet leaves the machine.
#![expect(clippy::panic, reason = "a test ends with a panic")]

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// Interface name at both ends of [`Netns::veth_pair`].
pub const VETH: &str = "veth0";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Network namespace with loopback up and the given addresses on it. Dropping it deletes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Creates the namespace, which needs root and iproute2. Addresses have no prefix length.
    pub fn new(addresses: &[&str]) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
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

    /// Two namespaces connected by a veth pair, so that the two ends of a connection are in
    /// different namespaces. `left` and `right` are their addresses, with prefix length.
    pub fn veth_pair(left: &[&str], right: &[&str]) -> (Self, Self) {
        let (one, other) = (Self::new(&[]), Self::new(&[]));
        let words = ["link", "add", VETH, "type", "veth", "peer", "name", VETH, "netns"];
        run(one.command("ip").args(words).arg(&other.name));
        for (end, addresses) in [(&one, left), (&other, right)] {
            for address in addresses {
                let nodad = address.contains(':').then_some("nodad");
                run(end.command("ip").args(["address", "add", address, "dev", VETH]).args(nodad));
            }
            run(end.command("ip").args(["link", "set", VETH, "up"]));
        }
        (one, other)
    }

    /// Inode of the namespace, which identifies it in records.
    pub fn inode(&self) -> u64 {
        let path = format!("/run/netns/{}", self.name);
        std::fs::metadata(&path).unwrap_or_else(|error| panic!("{path}: {error}")).ino()
    }

    /// Path of the namespace file under `/run/netns`.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Calls `perform` on a thread in this namespace, which its sockets and children share.
    pub fn inside<T: Send>(&self, perform: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let entered = || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|error| panic!("setns: {error}"));
            perform()
        };
        std::thread::scope(|scope| scope.spawn(entered).join())
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    }

    /// Sets a kernel parameter of this namespace, such as `net/ipv4/tcp_fastopen`.
    pub fn set(&self, parameter: &str, value: &str) {
        let script = "printf '%s' \"$2\" > \"/proc/sys/$1\"";
        run(self.command("sh").args(["-c", script, "sh", parameter, value]));
    }

    /// Command that runs `program` in this namespace. (`ip netns exec` would remount /sys, and with
    /// it the cgroup and tracing directories.)
    pub fn command(&self, program: impl Into<PathBuf>) -> Command {
        let mut command = self.enter();
        command.arg(program.into());
        command
    }

    /// Wraps `command` to run in this namespace.
    pub fn wrap_command(&self, command: &Command) -> Command {
        wrap_command(self.enter(), command)
    }

    fn enter(&self) -> Command {
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--net=/run/netns/{}", self.name)).arg("--");
        enter
    }

    /// Connects this namespace with another by a veth pair in a /30 network, with these addresses
    /// for this and the other namespace. This namespace forwards packets.
    pub fn link_to(&self, other: &Self, (own_address, other_address): (&str, &str)) {
        let words = ["link", "add", "peer0", "type", "veth", "peer", "name", "peer0", "netns"];
        run(self.command("ip").args(words).arg(&other.name));
        for (netns, address) in [(self, own_address), (other, other_address)] {
            let network = format!("{address}/30");
            run(netns.command("ip").args(["address", "add", &network, "dev", "peer0"]));
            run(netns.command("ip").args(["link", "set", "peer0", "up"]));
        }
        run(self.command("sysctl").args(["-q", "-w", "net.ipv4.ip_forward=1"]));
    }

    /// Drops packets to `address` without a response.
    pub fn black_hole(&self, address: &str) {
        let ip = |words: &str| run(self.command("ip").args(words.split(' ')));
        ip("link add void type veth peer name unused");
        ip("link set void up");
        ip("link set unused up");
        ip(&format!("route add {address} dev void"));
        ip(&format!("neighbour add {address} lladdr 02:00:00:00:00:01 dev void"));
    }
}

/// Wraps `command` to be executed by `launcher`, with only the environment set on `command`.
pub fn wrap_command(mut launcher: Command, command: &Command) -> Command {
    launcher.arg(command.get_program()).args(command.get_args()).env_clear();
    launcher.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    launcher
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _deleted = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// Runs a command to completion. Panics with its standard error if it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    output
}
