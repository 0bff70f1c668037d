//! A recording of two namespaces, and the programs that are run in them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sensor_tests::{Agent, Ended, Netns, run};
use serde_json::Value;

use super::claim::{Claim, check};
use crate::harness::{Home, Ledger, Recording};

/// Addresses of the side that calls, and of the one that is called.
pub(crate) const CALLER_V4: &str = "192.0.2.1";
pub(crate) const CALLER_V6: &str = "2001:db8:77::1";
pub(crate) const CALLED_V4: &str = "192.0.2.2";
pub(crate) const CALLED_V6: &str = "2001:db8:77::2";
pub(crate) const CALLED_MAPPED: &str = "::ffff:192.0.2.2";

/// How often each case is run.
pub(crate) const TIMES: usize = 1000;

const LIMIT: Duration = Duration::from_mins(1);
pub(crate) const PRELUDE: &str = include_str!("prelude.py");

/// Two namespaces and a recording. Programs add to what must have been recorded of them.
pub(crate) struct Case {
    pub(crate) caller: Netns,
    pub(crate) called: Netns,
    pub(crate) recording: Recording,
    pub(crate) claims: Vec<Claim>,
    /// Programs that outlive the recording.
    pub(crate) left: Vec<Agent>,
    home: Home,
}

impl Case {
    pub(crate) fn new() -> Self {
        let with = |v4: &str, v6: &str| [format!("{v4}/24"), format!("{v6}/64")];
        let (left, right) = (with(CALLER_V4, CALLER_V6), with(CALLED_V4, CALLED_V6));
        let (caller, called) = Netns::joined(&[&left[0], &left[1]], &[&right[0], &right[1]]);
        let home = Home::new("", "");
        let recording = home.record();
        Self { caller, called, recording, claims: Vec::new(), left: Vec::new(), home }
    }

    /// Path of a file of this test's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    /// A server that is called `times` times, then ended.
    pub(crate) fn dialogue(&mut self, server: &str, bind: &str, client: &str, call: &str) {
        let server = python(&self.called, server, &[bind]);
        let port = ready(&server);
        let times = TIMES.to_string();
        let client = python(&self.caller, client, &[call, &port, &times]);
        self.finish(client);
        self.stop(server);
    }

    /// A counter of the kernel, such as `TcpExt` `TCPFastOpenActive`, of the caller's namespace and
    /// of the called one's.
    pub(crate) fn kernel_counts(&self, group: &str, name: &str) -> (u64, u64) {
        let count = |netns: &Netns| {
            let output = run(netns.command("cat").arg("/proc/net/netstat")).stdout;
            let text = String::from_utf8(output).unwrap();
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
            let (names, counts) = (lines.next().unwrap(), lines.next().unwrap());
            let mut pairs = names.split(' ').zip(counts.split(' '));
            let found = pairs.find(|(found, _)| *found == name);
            found.unwrap_or_else(|| panic!("no {name} in {text}")).1.parse().unwrap()
        };
        (count(&self.caller), count(&self.called))
    }

    /// Waits for a program's own end; what it says counts.
    pub(crate) fn finish(&mut self, program: Agent) {
        self.take(&program.wait(LIMIT));
    }

    /// Waits until no connection is left, then ends a program that would not end; what it has said
    /// counts.
    pub(crate) fn stop(&mut self, program: Agent) {
        self.settle();
        self.take(&program.stop());
    }

    fn take(&mut self, ended: &Ended) {
        assert!(ended.status.success(), "{ended:?}");
        self.claims.extend(ended.stdout.iter().map(|line| Claim::parse(&line.text)));
    }

    /// Waits until the kernel shows no connection in either namespace.
    pub(crate) fn settle(&self) {
        let mut left = String::new();
        for _look in 0..200 {
            left.clear();
            for netns in [&self.caller, &self.called] {
                let words = ["-Htan", "exclude", "listening", "exclude", "time-wait"];
                left += &String::from_utf8_lossy(&run(netns.command("ss").args(words)).stdout);
            }
            if left.is_empty() {
                return;
            }
            run(Command::new("sleep").arg("0.05"));
        }
        panic!("connections that do not end:\n{left}");
    }

    /// Ends the recording: all that was said must be in it, and nothing else of these namespaces.
    pub(crate) fn check(self) -> (Vec<Value>, Ledger) {
        let namespaces = [self.caller.number(), self.called.number()];
        let (lines, ledger) = self.recording.stop();
        ledger.assert_balances();
        assert_eq!(ledger.count("tcp_ring_full") + ledger.count("process_ring_full"), 0);
        let missed = ledger.count("tcp_missed").min(ledger.count("connections_without_close"));
        check(&lines, namespaces, &self.claims, missed);
        (lines, ledger)
    }
}

/// A program on top of the prelude, started.
pub(crate) fn python(netns: &Netns, script: &str, words: &[&str]) -> Agent {
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", &format!("{PRELUDE}\n{script}")]).args(words);
    Agent::spawn(command)
}

/// Waits until a program says `ready`; gives its port.
pub(crate) fn ready(program: &Agent) -> String {
    let line = program.wait_for_log(LIMIT, "ready ");
    line.text.split(' ').nth(1).unwrap().to_owned()
}
