//! A running agent with a test configuration, a recording, and small servers.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use sensor_tests::{Agent, AgentExit, agent_command, run, skip_unless};
use sensor_user::base::clock::{Clock as _, SystemClock};
use sensor_user::pipeline::enrich::DnsAnswer;
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
        let agent = Agent::spawn(self.command(&[&words, more].concat()));
        agent.wait_for_log(START, "processes read");
        Recording { agent, out }
    }
}

#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) agent: Agent,
    out: PathBuf,
}

impl Recording {
    /// Waits for `count` closed events of connections to `port`. The last state change comes only
    /// after the other end has closed too.
    pub(crate) fn wait_for_closed(&self, port: u16, count: usize) {
        self.wait_for_lines(
            &["\"Event\":\"closed\"", &format!("\"DestinationPort\":{port},")],
            count,
        );
    }

    /// Waits until `count` lines contain all `marks`.
    pub(crate) fn wait_for_lines(&self, marks: &[&str], count: usize) {
        let mut found = 0;
        for _attempt in 0..100 {
            let text = std::fs::read_to_string(&self.out).unwrap();
            let fits = |line: &&str| marks.iter().all(|mark| line.contains(mark));
            found = text.lines().filter(fits).count();
            if found >= count {
                return;
            }
            run(Command::new("sleep").arg("0.2"));
        }
        panic!("{found} of {count} lines with {marks:?} after 20 s");
    }

    /// Waits for a line that contains `mark` and fits.
    pub(crate) fn wait_for(&self, mark: &str, fits: impl Fn(&Value) -> bool) {
        for _attempt in 0..100 {
            let text = std::fs::read_to_string(&self.out).unwrap();
            // The last line may be incomplete.
            let marked = text.lines().filter(|line| line.contains(mark));
            let mut lines = marked.filter_map(|line| serde_json::from_str(line).ok());
            if lines.any(|line| fits(&line)) {
                return;
            }
            run(Command::new("sleep").arg("0.2"));
        }
        panic!("no such line after 20 s");
    }

    /// Stops the agent; returns the recorded lines and the ledger.
    pub(crate) fn stop(self) -> (Vec<Value>, Ledger) {
        let (lines, ended) = self.end();
        (lines, Ledger::of(&ended))
    }

    /// Stops the agent; returns the recorded lines, without the DNS answers that this host received
    /// meanwhile, and the agent's exit status and log.
    pub(crate) fn end(self) -> (Vec<Value>, AgentExit) {
        let ended = self.agent.stop();
        assert!(ended.status.success(), "{ended:?}");
        let text = std::fs::read_to_string(&self.out).unwrap();
        let lines = text.lines().filter(|line| !line.contains(DnsAnswer::TYPE));
        let lines = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines, ended)
    }
}

/// The ledger that the agent logs at shutdown.
#[derive(Debug)]
pub(crate) struct Ledger(String);

impl Ledger {
    pub(crate) fn of(ended: &AgentExit) -> Self {
        let line = ended.stderr.iter().find(|line| line.text.contains(" ledger "));
        Self(line.unwrap_or_else(|| panic!("no ledger in {ended:?}")).text.clone())
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        let prefix = format!("{name}=");
        let count = self.0.split(' ').find_map(|word| word.strip_prefix(&prefix));
        count.unwrap_or_else(|| panic!("no {name} in {}", self.0)).parse().unwrap()
    }

    /// Asserts attempted = received + ring full, and received = sum over the kinds + simulated
    /// drops; also per kind where no drops were simulated. Nothing else may be lost.
    pub(crate) fn assert_balances(&self) {
        const KINDS: [&str; 4] = ["tcp", "process", "udp", "dns"];
        let sum = |name: &str| -> u64 {
            KINDS.iter().map(|kind| self.count(&format!("{kind}_{name}"))).sum()
        };
        let (received, simulated) = (self.count("received"), self.count("simulated"));
        assert_eq!(sum("attempted"), received + sum("ring_full"), "{}", self.0);
        assert_eq!(received, sum("received") + simulated, "{}", self.0);
        for kind in KINDS.iter().filter(|_| simulated == 0) {
            let count = |name: &str| self.count(&format!("{kind}_{name}"));
            assert_eq!(count("attempted"), count("received") + count("ring_full"), "{}", self.0);
        }
        assert_eq!(self.count("discarded"), 0, "{}", self.0);
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
