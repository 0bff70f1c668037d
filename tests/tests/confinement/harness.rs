//! An agent with the hook of `src/bin/confined`, and what /proc says of its processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sensor_tests::{Agent, agent_binary, run, skip_unless};
use tempfile::TempDir;

pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Opening a debug build's capture reads the kernel's types, which takes a second or two.
pub(crate) const START: Duration = Duration::from_mins(1);

/// Whether the running test must return: the suite needs root.
pub(crate) fn skipped() -> bool {
    skip_unless(nix::unistd::geteuid().is_root(), "loading BPF programs needs root")
}

/// A folder with a configuration.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("netsensor.toml"), config).unwrap();
        // What the hook tries to change.
        std::fs::write(folder.path().join("outside"), "").unwrap();
        std::fs::create_dir(folder.path().join("mount")).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, program: &Path, word: &str) -> Command {
        let mut command = Command::new(program);
        command.args([word, "--config"]).arg(self.path("netsensor.toml")).env_clear();
        command.env("HOME", self.0.path()).env("XDG_STATE_HOME", self.0.path());
        command
    }

    /// The agent with the hook, once it runs.
    pub(crate) fn run(&self) -> Agent {
        self.start(Path::new(env!("CARGO_BIN_EXE_confined")))
    }

    /// The agent that users get, once it runs.
    pub(crate) fn run_plain(&self) -> Agent {
        self.start(agent_binary())
    }

    fn start(&self, program: &Path) -> Agent {
        let agent = Agent::spawn(self.command(program, "run"));
        agent.wait_for_log(START, "state: ");
        agent
    }

    pub(crate) fn status(&self) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_confined"));
        let output = self.command(program, "status").output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Asks until the state fits; gives it.
    pub(crate) fn wait_for_status(&self, fits: impl Fn(&str) -> bool) -> String {
        let mut said = String::new();
        for _look in 0..100 {
            said = self.status();
            if fits(&said) {
                return said;
            }
            pause();
        }
        panic!("not within 20 s: {said}");
    }
}

pub(crate) fn pause() {
    run(Command::new("sleep").arg("0.2"));
}

/// The fields of `/proc/PID/status`.
pub(crate) fn status_of(pid: u32) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// The helpers of an agent, by name.
pub(crate) fn helpers(agent: u32) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut parents = vec![agent];
    while let Some(parent) = parents.pop() {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let text = children.unwrap_or_default();
        for pid in text.split_ascii_whitespace().map(|pid| pid.parse::<u32>().unwrap()) {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut words = line.split('\0').skip_while(|word| *word != "helper").skip(1);
            if let Some(name) = words.next() {
                // What a starter has forked has its command line until it executes: the first is it.
                found.entry(name.to_owned()).or_insert(pid);
                parents.push(pid);
            }
        }
    }
    found
}

/// Waits until all five run.
pub(crate) fn all_helpers(agent: u32) -> BTreeMap<String, u32> {
    for _look in 0..50 {
        let found = helpers(agent);
        if found.len() == 5 {
            return found;
        }
        pause();
    }
    panic!("not all helpers run: {:?}", helpers(agent));
}
