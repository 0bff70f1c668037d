//! A recording of two namespaces, and the programs that run in them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sensor_tests::{Agent, AgentExit, Netns, run};
use serde_json::Value;

use super::expectation::{Expectation, check};
use crate::harness::{Home, Ledger, Recording};

/// Addresses of the client's and the server's namespace.
pub(crate) const CLIENT_V4: &str = "192.0.2.1";
pub(crate) const CLIENT_V6: &str = "2001:db8:77::1";
pub(crate) const SERVER_V4: &str = "192.0.2.2";
pub(crate) const SERVER_V6: &str = "2001:db8:77::2";
pub(crate) const SERVER_MAPPED: &str = "::ffff:192.0.2.2";

pub(crate) const TIMES: usize = 1000;

const LIMIT: Duration = Duration::from_mins(1);
pub(crate) const PRELUDE: &str = include_str!("prelude.py");

/// Two namespaces and a recording. Each program adds the connections that must be recorded.
pub(crate) struct Case {
    pub(crate) client_netns: Netns,
    pub(crate) server_netns: Netns,
    pub(crate) recording: Recording,
    pub(crate) expectations: Vec<Expectation>,
    /// Programs that outlive the recording.
    pub(crate) left: Vec<Agent>,
    home: Home,
}

impl Case {
    pub(crate) fn new() -> Self {
        let with = |v4: &str, v6: &str| [format!("{v4}/24"), format!("{v6}/64")];
        let (left, right) = (with(CLIENT_V4, CLIENT_V6), with(SERVER_V4, SERVER_V6));
        let (client_netns, server_netns) =
            Netns::veth_pair(&[&left[0], &left[1]], &[&right[0], &right[1]]);
        let home = Home::new("", "");
        let recording = home.record();
        Self {
            client_netns,
            server_netns,
            recording,
            expectations: Vec::new(),
            left: Vec::new(),
            home,
        }
    }

    /// Path of a file in this test's directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    /// Runs a client that connects `TIMES` times to a server, then stops the server.
    pub(crate) fn exchanges(&mut self, server: &str, bind: &str, client: &str, target: &str) {
        let server = python(&self.server_netns, server, &[bind]);
        let port = ready(&server);
        let times = TIMES.to_string();
        let client = python(&self.client_netns, client, &[target, &port, &times]);
        self.finish(client);
        self.stop(server);
    }

    /// A counter of the kernel, such as `TcpExt` `TCPFastOpenActive`, in the client's and in the
    /// server's namespace.
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
        (count(&self.client_netns), count(&self.server_netns))
    }

    /// Waits for a program to exit, and adds the connections that it reports.
    pub(crate) fn finish(&mut self, program: Agent) {
        self.take(&program.wait(LIMIT));
    }

    /// Waits until no connection is open, then stops the program; adds the connections that it
    /// reports.
    pub(crate) fn stop(&mut self, program: Agent) {
        self.wait_until_closed();
        self.take(&program.stop());
    }

    fn take(&mut self, ended: &AgentExit) {
        assert!(ended.status.success(), "{ended:?}");
        self.expectations.extend(ended.stdout.iter().map(|line| Expectation::parse(&line.text)));
    }

    /// Waits until the kernel shows no connection in either namespace.
    pub(crate) fn wait_until_closed(&self) {
        let mut left = String::new();
        for _attempt in 0..200 {
            left.clear();
            for netns in [&self.client_netns, &self.server_netns] {
                let words = ["-Htan", "exclude", "listening", "exclude", "time-wait"];
                left += &String::from_utf8_lossy(&run(netns.command("ss").args(words)).stdout);
            }
            if left.is_empty() {
                return;
            }
            run(Command::new("sleep").arg("0.05"));
        }
        panic!("connections that stay open:\n{left}");
    }

    /// Stops the recording. Asserts that it has all expected connections, and no others of these
    /// namespaces.
    pub(crate) fn check(self) -> (Vec<Value>, Ledger) {
        let namespaces = [self.client_netns.inode(), self.server_netns.inode()];
        let (lines, ledger) = self.recording.stop();
        ledger.assert_balances();
        assert_eq!(ledger.count("tcp_ring_full") + ledger.count("process_ring_full"), 0);
        let missed = ledger.count("tcp_missed").min(ledger.count("connections_without_close"));
        check(&lines, namespaces, &self.expectations, missed);
        (lines, ledger)
    }
}

/// Starts a Python program with the prelude.
pub(crate) fn python(netns: &Netns, script: &str, words: &[&str]) -> Agent {
    let mut command = netns.command("/usr/bin/python3");
    command.args(["-c", &format!("{PRELUDE}\n{script}")]).args(words);
    Agent::spawn(command)
}

/// Waits until a program prints `ready`; returns its port.
pub(crate) fn ready(program: &Agent) -> String {
    let line = program.wait_for_log(LIMIT, "ready ");
    line.text.split(' ').nth(1).unwrap().to_owned()
}
