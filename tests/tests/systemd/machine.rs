//! A Debian tree, booted under systemd-nspawn in the test's own network namespace.
//!
//! It keeps all capabilities and may load BPF programs; everything else is systemd-nspawn's
//! default. It is killed when the test ends, for any reason.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sensor_tests::{Netns, run};
use tempfile::TempDir;
use tokio::time::Instant;

use super::tree;

/// System calls that systemd-nspawn refuses by default.
const CALLS: &str = "--system-call-filter=bpf perf_event_open seccomp landlock_create_ruleset \
                     landlock_add_rule landlock_restrict_self";
/// Time limit for boot and shutdown, generous for a busy host.
const LIMIT: Duration = Duration::from_mins(2);
/// Time limit of one command in the machine, seconds.
const COMMAND: &str = "180";

#[derive(Debug)]
pub(super) struct Machine {
    tree: TempDir,
    /// The machine's network namespace.
    pub(super) netns: Netns,
    nspawn: Child,
    /// The pid of its first process, on the host.
    leader: u32,
}

impl Machine {
    /// Boots a copy of the tree in this network namespace; `package` is in `/srv`.
    pub(super) fn boot(netns: Netns, package: &Path) -> Self {
        let tree = tree::copy();
        std::fs::copy(package, tree.path().join("srv/netsensor.deb")).unwrap();
        let nspawn = start(tree.path(), &netns);
        let mut machine = Self { tree, netns, nspawn, leader: 0 };
        machine.wait_for_boot();
        machine
    }

    /// The host's path of a file in the machine.
    pub(super) fn path(&self, inside: &str) -> std::path::PathBuf {
        self.tree.path().join(inside.trim_start_matches('/'))
    }

    /// Runs `script` in the machine; returns its output, successful or not.
    pub(super) fn attempt(&self, script: &str) -> Output {
        self.command(script).output().unwrap()
    }

    /// Runs `script`, which must succeed; returns its output.
    pub(super) fn sh(&self, script: &str) -> String {
        String::from_utf8(run(&mut self.command(script)).stdout).unwrap()
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args([COMMAND, "nsenter", "-a", "-t", &self.leader.to_string(), "--"]);
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]);
        command.args(["DEBIAN_FRONTEND=noninteractive", "sh", "-c", script]);
        command.stdin(Stdio::null());
        command
    }

    /// Writes a file in the machine, owned by root and readable by all.
    pub(super) fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        run(Command::new("chmod").arg("0644").arg(&path));
    }

    /// Runs `script` in the machine until it succeeds; returns its output.
    pub(super) fn wait_for(&self, description: &str, script: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let output = self.attempt(script);
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            let last = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                Instant::now() < deadline,
                "{description}: not in time: {last}\n{}",
                self.journal()
            );
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    /// The service's log and status, for the message of a failed assertion.
    pub(super) fn journal(&self) -> String {
        let output =
            self.attempt("journalctl -u netsensor --no-pager -n 60; systemctl status netsensor");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The host's pid of a process in the machine.
    pub(super) fn host_pid(&self, inside: &str) -> i32 {
        let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = space(&self.leader.to_string());
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let last = line.and_then(|line| line.split_whitespace().next_back());
            if last == Some(inside) && space(&pid) == own {
                return pid.parse().unwrap();
            }
        }
        panic!("no process {inside} in the machine")
    }

    /// Shuts the machine down in order and boots it again.
    pub(super) fn reboot(&mut self) {
        // The command is killed with the machine.
        let _gone = self.attempt("systemctl reboot");
        self.wait_for_shutdown();
        self.nspawn = start(self.tree.path(), &self.netns);
        self.wait_for_boot();
    }

    fn wait_for_shutdown(&mut self) {
        let deadline = Instant::now() + LIMIT;
        while self.nspawn.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the machine does not shut down");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn wait_for_boot(&mut self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let ended = self.nspawn.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.tree.path().with_extension("log"));
            assert!(ended.is_none(), "the machine ended: {}", log().unwrap_or_default());
            assert!(Instant::now() < deadline, "no boot in time: {}", log().unwrap_or_default());
            if let Some(leader) = child_of(self.nspawn.id()) {
                self.leader = leader;
                let state = self.attempt("systemctl is-system-running");
                if matches!(state.stdout.trim_ascii(), b"running" | b"degraded") {
                    return;
                }
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let first = i32::try_from(self.leader).unwrap_or_default();
        if first > 1 && self.nspawn.try_wait().is_ok_and(|ended| ended.is_none()) {
            // All other processes of its pid namespace are killed with the first one.
            let _gone = kill(Pid::from_raw(first), Signal::SIGKILL);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.nspawn.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                let _gone = self.nspawn.kill();
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _gone = std::fs::remove_file(self.tree.path().with_extension("log"));
    }
}

fn start(tree: &Path, netns: &Netns) -> Child {
    let log = File::options().append(true).create(true).open(tree.with_extension("log")).unwrap();
    let mut nspawn = Command::new("systemd-nspawn");
    nspawn.args(["--quiet", "--register=no", "--keep-unit", "--capability=all", CALLS]);
    nspawn.arg(format!("--network-namespace-path={}", netns.path().display()));
    nspawn.args(["--boot", "--console=pipe", "--machine=netsensor-test", "-D"]).arg(tree);
    nspawn.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    nspawn.spawn().unwrap()
}

/// The only child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
