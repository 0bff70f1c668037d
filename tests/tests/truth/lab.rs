//! One test's namespace, programs, capture and recording.

use std::fmt::Write as _;
use std::fs::File;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use sensor_tests::{Netns, Recording, agent_command, run, skip_unless, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::ends::{self, End};
use crate::tables;
use crate::wire::{self, Exchange};

/// Addresses of a lab, all on its loopback interface.
pub(crate) const SERVER: &str = "203.0.113.7";
pub(crate) const CLIENT: &str = "198.51.100.9";
pub(crate) const SERVER_V6: &str = "2001:db8:51::7";

/// Port of the datagram that marks the end of a capture.
pub(crate) const MARKER_PORT: u16 = 9;
/// Bytes of each packet that are captured: all headers.
const CAPTURED_BYTES: &str = "128";
/// Capture buffer in KiB. A capture that loses a packet fails the test.
const CAPTURE_BUFFER: &str = "65536";

/// Directories of programs. Debian has a directory for each version of `PostgreSQL`, and others outside of the
/// `PATH` of an unprivileged user.
const DIRECTORIES: [&str; 3] = ["/usr/sbin", "/usr/bin", "/bin"];
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// Path of a program; none if it is not installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir(POSTGRESQL).into_iter().flatten().flatten();
    let postgresql = versions.map(|version| version.path().join("bin"));
    let mut directories = postgresql.chain(DIRECTORIES.map(PathBuf::from));
    directories.find_map(|directory| Some(directory.join(name)).filter(|path| path.is_file()))
}

/// True with root and all of the programs; otherwise the test is skipped.
pub(crate) fn can_run(programs: &[&str]) -> bool {
    if skip_unless(nix::unistd::geteuid().is_root(), "loading BPF programs needs root") {
        return false;
    }
    let mut names = programs.iter().chain(&["tcpdump", "ss"]);
    !names.any(|name| skip_unless(program(name).is_some(), &format!("{name} is not installed")))
}

/// Path of an installed program, as the kernel knows it: without links.
pub(crate) fn path(name: &str) -> String {
    program(name).unwrap().canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// Network namespace in which programs run, the packets in it, and the agent's recording.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) netns: Netns,
    folder: TempDir,
    recording: Recording,
    capture: Daemon,
    marker: [&'static str; 2],
}

/// The agent's records of a lab, which equal the packets.
#[derive(Debug)]
pub(crate) struct Observed {
    ends: Vec<End>,
}

impl Lab {
    /// Starts the capture and the recording in a namespace of its own. Skips the test without root or one of
    /// the programs.
    pub(crate) fn start(programs: &[&str]) -> Option<Self> {
        can_run(programs).then(|| {
            let netns = Netns::new(&[SERVER, CLIENT, SERVER_V6]);
            Self::start_in(netns, "lo", [CLIENT, SERVER])
        })
    }

    /// Starts the capture on an interface of a namespace. The marker goes from one address to the other.
    pub(crate) fn start_in(netns: Netns, interface: &str, marker: [&'static str; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Programs that drop their privileges read their configuration from here.
        run(Command::new("chmod").arg("0755").arg(folder.path()));
        let recording = record(folder.path());
        let words = ["-i", interface, "-n", "-U", "--immediate-mode", "-Z", "root"];
        let sizes = ["-s", CAPTURED_BYTES, "-B", CAPTURE_BUFFER, "-w", "capture.pcap"];
        let capture = spawn(&netns, folder.path(), "tcpdump", &[&words[..], &sizes].concat());
        let lab = Self { netns, folder, recording, capture, marker };
        wait_until("tcpdump captures", || lab.capture.log().contains("listening on"));
        lab
    }

    /// Path of a file in the lab's folder, the working directory of its programs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the lab's folder.
    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Command for a program in the namespace, with the lab's folder as working directory.
    pub(crate) fn command(&self, name: &str) -> Command {
        command(&self.netns, self.folder.path(), name)
    }

    /// Starts a program that runs until it is stopped.
    pub(crate) fn daemon(&self, name: &str, words: &[&str]) -> Daemon {
        spawn(&self.netns, self.folder.path(), name, words)
    }

    /// Like `daemon`, in another namespace.
    pub(crate) fn daemon_in(&self, netns: &Netns, name: &str, words: &[&str]) -> Daemon {
        spawn(netns, self.folder.path(), name, words)
    }

    /// Like `daemon`, and waits until it listens on `address`.
    pub(crate) fn listening(&self, name: &str, words: &[&str], address: &str) -> Daemon {
        let daemon = self.daemon(name, words);
        self.wait_for_listener(address);
        daemon
    }

    /// Waits for a TCP listener or a UDP socket that is bound to `address`.
    pub(crate) fn wait_for_listener(&self, address: &str) {
        wait_until(&format!("a program listens on {address}"), || {
            let sockets = run(self.command("ss").args(["-Hlntu"]));
            let text = String::from_utf8(sockets.stdout).unwrap();
            text.lines().any(|line| line.split_whitespace().nth(4) == Some(address))
        });
    }

    /// Runs a program to its end, which must be a success.
    pub(crate) fn run(&self, name: &str, words: &[&str]) -> Finished {
        let mut command = self.command(name);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let pid = u64::from(child.id());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{name} {words:?}: {}\n{stdout}{stderr}", output.status);
        Finished { pid, stdout, stderr }
    }

    /// Stops the capture and the recording once all connections have ended. Asserts that the records of
    /// both ends equal the packets (connections, directions, bytes each way), and that rows and alerts equal
    /// the records.
    pub(crate) fn finish(self) -> Observed {
        let netns = self.netns.inode();
        self.finish_with(|lines| ends::ends(lines, netns))
    }

    /// Like `finish`, with the ends that `collect` finds in the recorded lines.
    pub(crate) fn finish_with(self, collect: impl Fn(&[Value]) -> Vec<End>) -> Observed {
        let wire = self.finish_capture();
        let ends_of = |lines: &[Value]| {
            let mut ends = collect(lines);
            ends.retain(|end| end.connection.server.port() != MARKER_PORT);
            ends
        };
        for _attempt in 0..100 {
            if ends::differences(&wire, &ends_of(&self.recording.lines())).is_empty() {
                break;
            }
            run(Command::new("sleep").arg("0.2"));
        }
        let (lines, ledger) = self.recording.stop();
        ledger.assert_balances();
        let ends = ends_of(&lines);
        let differences = ends::differences(&wire, &ends);
        assert!(differences.is_empty(), "{differences}");
        tables::assert_equal(self.folder.path(), &lines, &ends);
        Observed { ends }
    }

    /// Sends the marker, and reads the packets before it.
    fn finish_capture(&self) -> Vec<Exchange> {
        self.netns.inside(|| {
            let [from, to] = self.marker;
            let socket = UdpSocket::bind((from, 0)).unwrap();
            socket.send_to(b"end", (to, MARKER_PORT)).unwrap();
        });
        let is_marker = |exchange: &Exchange| exchange.ends[0].server.port() == MARKER_PORT;
        let path = self.path("capture.pcap");
        wait_until("the capture has the marker", || wire::connections(&path).iter().any(is_marker));
        let mut wire = wire::connections(&path);
        wire.retain(|exchange| !is_marker(exchange));
        wire
    }
}

impl Observed {
    /// Inbound ends of connections to a port; at least one.
    pub(crate) fn inbound(&self, port: u16) -> Vec<&End> {
        self.of_port(false, port)
    }

    /// Outbound ends of connections to a port; at least one.
    pub(crate) fn outbound(&self, port: u16) -> Vec<&End> {
        self.of_port(true, port)
    }

    fn of_port(&self, is_outbound: bool, port: u16) -> Vec<&End> {
        let ends = self.ends.iter().filter(|end| end.is_outbound == is_outbound);
        let ends: Vec<_> = ends.filter(|end| end.connection.server.port() == port).collect();
        assert!(!ends.is_empty(), "no connection to port {port} in {:#?}", self.ends);
        ends
    }
}

/// Program that ran to its end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) pid: u64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Program that runs until it is dropped: SIGTERM, and for what is left of its process group SIGKILL.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn pid(&self) -> u64 {
        u64::from(self.child.id())
    }

    pub(crate) fn has_exited(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.group()), flags) != Ok(WaitStatus::StillAlive)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Its output so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// Stops the program, and returns its output.
    pub(crate) fn stop(self) -> String {
        let log = self.log.clone();
        drop(self);
        String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let group = self.group();
        let _may_have_exited = kill(group, Signal::SIGTERM);
        for _attempt in 0..50 {
            if self.has_exited() {
                break;
            }
            run(Command::new("sleep").arg("0.1"));
        }
        let _may_be_empty = killpg(group, Signal::SIGKILL);
        let _reaped = self.child.wait();
    }
}

fn command(netns: &Netns, folder: &Path, name: &str) -> Command {
    let mut command = netns.command(program(name).unwrap());
    command.current_dir(folder).env("HOME", folder).stdin(Stdio::null());
    command
}

/// Starts a program in a process group of its own, which writes its output to a file.
fn spawn(netns: &Netns, folder: &Path, name: &str, words: &[&str]) -> Daemon {
    let mut log = folder.join(format!("{name}.log"));
    // The second program of a name.
    while log.exists() {
        log.as_mut_os_string().push("+");
    }
    let output = File::create(&log).unwrap();
    let mut command = command(netns, folder, name);
    command.args(words).stdout(output.try_clone().unwrap()).stderr(output).process_group(0);
    Daemon { child: command.spawn().unwrap(), log }
}

/// Starts `netsensor record` with the object under test.
fn record(folder: &Path) -> Recording {
    let mut config = String::from("[agent]\ncomputer = \"host.example.net\"\n[capture]\n");
    // Each connection that is open meanwhile is counted by several scans, and at its end.
    config.push_str("scan_interval = \"1s\"\n");
    if let Some(object) = std::env::var_os("NETSENSOR_TEST_OBJECT") {
        writeln!(config, "object = {:?}", object.to_str().unwrap()).unwrap();
    }
    config.push_str("[[feed]]\nname = \"test\"\nkind = \"list\"\nurl = \"file:list.txt\"\n");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    std::fs::write(path("netsensor.toml"), config).unwrap();
    std::fs::write(path("list.txt"), "192.0.2.1\n").unwrap();
    let (out, config) = (path("recorded.jsonl"), path("netsensor.toml"));
    let words = ["record", "--log", "debug", "--out", &out, "--config", &config];
    Recording::start(agent_command(folder, &words), out.into())
}
