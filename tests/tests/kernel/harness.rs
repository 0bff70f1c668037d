//! A running agent with a test configuration, a recording, and small servers.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use sensor_tests::{Agent, agent_command, run, skip_unless};
pub(crate) use sensor_tests::{Ledger, Recording};
use sensor_user::base::clock::{Clock as _, SystemClock};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const SOON: Duration = Duration::from_secs(10);
/// Loading a debug build's capture parses the kernel's BTF, which takes a second or two.
pub(crate) const START: Duration = Duration::from_mins(1);

/// Addresses of the suite's namespaces; all are indicators of the test feed.
pub(crate) const V4: &str = "203.0.113.7";
pub(crate) const V6: &str = "2001:db8:51::7";
pub(crate) const CLIENT_V4: &str = "198.51.100.9";
pub(crate) const CLIENT_V6: &str = "2001:db8:52::9";
const INDICATORS: &str = "203.0.113.7\n2001:db8:51::/48\n198.51.100.9\n2001:db8:52::9\n";

/// Connections a second that another network namespace makes beside every test of this process.
const BACKGROUND_RATE: &str = "NETSENSOR_TEST_BACKGROUND_RATE";

/// True if the running test must return, because the suite needs root. Starts the background traffic.
pub(crate) fn skipped() -> bool {
    static BACKGROUND: OnceLock<Option<BackgroundTraffic>> = OnceLock::new();
    let skipped = skip_unless(nix::unistd::geteuid().is_root(), "loading BPF programs needs root");
    if !skipped {
        BACKGROUND.get_or_init(|| {
            std::env::var(BACKGROUND_RATE).ok().map(|rate| BackgroundTraffic::start(&rate))
        });
    }
    skipped
}

/// Connections of a program in a network namespace of its own, on loopback. They end with this value, or
/// with this process.
#[derive(Debug)]
pub(crate) struct BackgroundTraffic {
    _program: Server,
}

impl BackgroundTraffic {
    /// Makes `rate` connections a second.
    pub(crate) fn start(rate: &str) -> Self {
        let script = "ip link set lo up && exec \"$0\" steady \"$1\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]).arg(peer()).arg(rate).stdin(Stdio::piped());
        Self { _program: Server::start(command).0 }
    }
}

/// Directory with a configuration and the suite's indicators.
#[derive(Debug)]
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// Writes the configuration; `capture` is the body of that section, `more` holds further
    /// sections.
    pub(crate) fn new(capture: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::from("[agent]\ncomputer = \"host.example.net\"\n[capture]\n");
        if let Some(object) = std::env::var_os("NETSENSOR_TEST_OBJECT") {
            writeln!(text, "object = {:?}", object.to_str().unwrap()).unwrap();
        }
        writeln!(text, "{capture}\n{more}").unwrap();
        text.push_str("[[feed]]\nname = \"test\"\nkind = \"list\"\nurl = \"file:list.txt\"\n");
        // Some of the suite's addresses are the host's own, because it is one end of their cables.
        text.push_str("allow_private = true\n");
        std::fs::write(folder.path().join("netsensor.toml"), text).unwrap();
        std::fs::write(folder.path().join("list.txt"), INDICATORS).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> String {
        self.path("netsensor.toml").to_str().unwrap().to_owned()
    }

    /// The agent's command line with this configuration.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let config = self.config();
        let words: Vec<&str> = words.iter().copied().chain(["--config", &config]).collect();
        agent_command(self.folder.path(), &words)
    }

    /// Starts `netsensor run`, and returns once its probes are attached.
    pub(crate) fn run(&self) -> Agent {
        let agent = Agent::spawn(self.command(&["run"]));
        agent.wait_for_log(START, "state: ");
        agent
    }

    /// Starts `netsensor record`, and returns once its probes are attached.
    pub(crate) fn record(&self) -> Recording {
        self.record_with(&[])
    }

    /// Like `record`, with more flags.
    pub(crate) fn record_with(&self, more: &[&str]) -> Recording {
        let out = self.path("recorded.jsonl");
        let words = ["record", "--log", "debug", "--out", out.to_str().unwrap()];
        Recording::start(self.command(&[&words, more].concat()), out)
    }
}

/// A program that is killed when the test ends.
#[derive(Debug)]
pub(crate) struct Server(pub(crate) Child);

impl Server {
    /// Starts the program and waits for a line with the prefix `ready`; returns the rest of that
    /// line.
    pub(crate) fn start(mut command: Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| Some(line.ok()?.strip_prefix("ready ")?.to_owned()));
        (Self(child), ready.expect("the server is ready"))
    }

    /// The suite's own server on `address`, on any port.
    pub(crate) fn peer(netns: &sensor_tests::Netns, address: &str) -> (Self, u16) {
        let mut command = netns.command(peer());
        command.args(["serve", &format!("{}:0", bracketed(address))]);
        let (server, ready) = Self::start(command);
        (server, ready.rsplit(':').next().unwrap().parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The `peer` program of this crate.
pub(crate) fn peer() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_peer"))
}

/// Formats an IPv6 address in brackets, as in a URL.
pub(crate) fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// A column as text.
pub(crate) fn text<'a>(value: &'a Value, column: &str) -> &'a str {
    value[column].as_str().unwrap_or_else(|| panic!("{column} of {value}"))
}

/// The timestamp of a line.
pub(crate) fn time(line: &Value) -> Timestamp {
    text(line, "TimeGenerated").parse().unwrap()
}

/// True if a line has this event and direction.
pub(crate) fn is(line: &Value, event: &str, direction: &str) -> bool {
    text(line, "Event") == event && text(line, "Direction") == direction
}

/// Waits for the next minute if less than 20 s of this one are left. For tests that compare the
/// rows of one minute with later ones: the connections must be open and scanned within the minute.
pub(crate) fn early_in_a_minute() {
    if left_of_the_minute() < 20 {
        into_the_next_minute();
    }
}

pub(crate) fn into_the_next_minute() {
    run(Command::new("sleep").arg((left_of_the_minute() + 1).to_string()));
}

/// Seconds left of the current minute, 1 to 60.
fn left_of_the_minute() -> i64 {
    60 - SystemClock.now().as_second().rem_euclid(60)
}
