//! A running `netsensor record`, its lines and its ledger.
#![expect(clippy::panic, clippy::expect_used, reason = "a test ends with a panic")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sensor_user::pipeline::enrich::DnsAnswer;
use serde_json::Value;

use crate::{Agent, AgentExit, run};

/// Maximum time in which a debug build parses the kernel's BTF and attaches its probes.
const START: Duration = Duration::from_mins(1);

/// Running `netsensor record`.
#[derive(Debug)]
pub struct Recording {
    /// Its process.
    pub agent: Agent,
    out: PathBuf,
}

impl Recording {
    /// Starts `netsensor record` by a command that writes to `out`, and returns once its probes are
    /// attached.
    pub fn start(command: Command, out: PathBuf) -> Self {
        let agent = Agent::spawn(command);
        agent.wait_for_log(START, "processes read");
        Self { agent, out }
    }

    /// Complete lines so far.
    pub fn lines(&self) -> Vec<Value> {
        // The last line may be incomplete.
        self.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.out).expect("the recording")
    }

    /// Waits for `count` closed events of connections to `port`. The last state change comes only
    /// after the other end has closed too.
    pub fn wait_for_closed(&self, port: u16, count: usize) {
        self.wait_for_lines(
            &["\"Event\":\"closed\"", &format!("\"DestinationPort\":{port},")],
            count,
        );
    }

    /// Waits until `count` lines contain all `marks`.
    pub fn wait_for_lines(&self, marks: &[&str], count: usize) {
        let mut found = 0;
        for _attempt in 0..100 {
            let text = self.text();
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
    pub fn wait_for(&self, mark: &str, fits: impl Fn(&Value) -> bool) {
        for _attempt in 0..100 {
            let text = self.text();
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
    pub fn stop(self) -> (Vec<Value>, Ledger) {
        let (lines, ended) = self.end();
        (lines, Ledger::of(&ended))
    }

    /// Stops the agent; returns the recorded lines, without the DNS answers that this host received
    /// meanwhile, and the agent's exit status and log.
    pub fn end(self) -> (Vec<Value>, AgentExit) {
        let Self { agent, out } = self;
        let ended = agent.stop();
        assert!(ended.status.success(), "{ended:?}");
        let text = std::fs::read_to_string(out).expect("the recording");
        let lines = text.lines().filter(|line| !line.contains(DnsAnswer::TYPE));
        let lines = lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        (lines, ended)
    }
}

/// The ledger that the agent logs at shutdown.
#[derive(Debug)]
pub struct Ledger(String);

impl Ledger {
    /// Reads the ledger of an agent that has exited.
    pub fn of(ended: &AgentExit) -> Self {
        let line = ended.stderr.iter().find(|line| line.text.contains(" ledger "));
        Self(line.unwrap_or_else(|| panic!("no ledger in {ended:?}")).text.clone())
    }

    /// A counter of the ledger.
    pub fn count(&self, name: &str) -> u64 {
        let prefix = format!("{name}=");
        let count = self.0.split(' ').find_map(|word| word.strip_prefix(&prefix));
        count.unwrap_or_else(|| panic!("no {name} in {}", self.0)).parse().expect("a number")
    }

    /// Asserts attempted = received + ring full, and received = sum over the kinds + simulated
    /// drops; also per kind where no drops were simulated. Nothing else may be lost.
    pub fn assert_balances(&self) {
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
