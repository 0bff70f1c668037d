//! An agent with the test hook of `src/bin/confined`, and its processes' state from /proc.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sensor_tests::{Agent, agent_binary, run, skip_unless};
use tempfile::TempDir;

pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Loading a debug build's capture parses the kernel's BTF, which takes a second or two.
pub(crate) const START: Duration = Duration::from_mins(1);

/// True if the running test must return, because the suite needs root.
pub(crate) fn skipped() -> bool {
    skip_unless(nix::unistd::geteuid().is_root(), "loading BPF programs needs root")
}

/// Directory with a configuration.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("netsensor.toml"), config).unwrap();
        // The targets of the hook's attempts.
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

    /// Starts the agent with the hook, and returns once it runs.
    pub(crate) fn run(&self) -> Agent {
        self.start(Path::new(env!("CARGO_BIN_EXE_confined")))
    }

    /// Starts the agent without the hook, as users get it, and returns once it runs.
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

    /// Polls the status until it fits; returns it.
    pub(crate) fn wait_for_status(&self, fits: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        for _attempt in 0..100 {
            text = self.status();
            if fits(&text) {
                return text;
            }
            pause();
        }
        panic!("not within 20 s: {text}");
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

/// The workers of an agent, by name.
pub(crate) fn workers(agent: u32) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut parents = vec![agent];
    while let Some(parent) = parents.pop() {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let text = children.unwrap_or_default();
        for pid in text.split_ascii_whitespace().map(|pid| pid.parse::<u32>().unwrap()) {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut words = line.split('\0').skip_while(|word| *word != "worker").skip(1);
            if let Some(name) = words.next() {
                // A forked process has its parent's command line until it executes; the parent is
                // first.
                found.entry(name.to_owned()).or_insert(pid);
                parents.push(pid);
            }
        }
    }
    found
}

/// Waits until all five workers run.
pub(crate) fn all_workers(agent: u32) -> BTreeMap<String, u32> {
    for _attempt in 0..50 {
        let found = workers(agent);
        if found.len() == 5 {
            return found;
        }
        pause();
    }
    panic!("not all workers run: {:?}", workers(agent));
}
