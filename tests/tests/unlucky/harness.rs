//! An agent with a list, and connections to indicators.

use std::path::Path;
use std::time::Duration;

use sensor_tests::{Agent, Netns, agent_command, run, skip_unless};
use serde_json::Value;
use tempfile::TempDir;

/// Loading a debug build's capture parses the kernel's BTF, which takes a second or two.
pub(crate) const START: Duration = Duration::from_mins(1);
/// Time within which a connection must be reported.
pub(crate) const ALERT: Duration = Duration::from_secs(2);

/// True if the running test must return, because the suite needs root.
pub(crate) fn skipped() -> bool {
    skip_unless(nix::unistd::geteuid().is_root(), "mounts and probes need root")
}

/// Directory with a configuration and the agent's state.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    /// Home whose configuration has a list with all of 203.0.113.0/24, and alerts on standard output.
    pub(crate) fn with_list() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let hosts: Vec<String> = (1..255).map(|host| format!("203.0.113.{host}")).collect();
        let list = hosts.join("\n");
        let path = home.path().join("list.txt");
        std::fs::write(&path, list).unwrap();
        let feed = format!(
            "[[feed]]\nname = \"lab\"\nkind = \"list\"\nurl = \"file:{}\"\n\
             allow_private = true\n[[sink]]\nname = \"out\"\nkind = \"stdout\"\n",
            path.display()
        );
        std::fs::write(home.path().join("netsensor.toml"), feed).unwrap();
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(&self) -> String {
        self.path().join("netsensor.toml").display().to_string()
    }

    /// Starts the agent, and returns once it runs.
    pub(crate) fn run(&self) -> Agent {
        let agent = Agent::start(self.path(), &["run", "--config", &self.config()]);
        agent.wait_for_log(START, "state: ");
        agent
    }

    /// Output of `netsensor status`.
    pub(crate) fn status(&self) -> String {
        let output = agent_command(self.path(), &["status", "--config", &self.config()]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    }
}

/// Namespace in which all of 203.0.113.0/24 and 198.51.100.0/24 is local.
pub(crate) fn lab() -> Netns {
    let netns = Netns::new(&[]);
    for network in ["203.0.113.1/24", "198.51.100.1/24"] {
        run(netns.command("ip").args(["address", "add", network, "dev", "lo"]));
    }
    netns
}

/// Makes a connection to `address`, which refuses it.
pub(crate) fn connect(netns: &Netns, address: &str) {
    let script = format!("exec 3<>/dev/tcp/{address}/9");
    // Nothing listens there.
    let refused = netns.command("bash").args(["-c", &script]).output().unwrap();
    assert!(!refused.status.success());
}

/// Makes a connection to `address`, and waits for its alert.
pub(crate) fn assert_alert(agent: &Agent, netns: &Netns, address: &str) {
    connect(netns, address);
    let is_its = |alert: &Value| alert["MaliciousIp"] == address || alert["RemoteIp"] == address;
    agent.wait_for_alert(ALERT, is_its);
}
