//! The built `netsensor`, run as a child whose lines arrive with their time.
#![expect(clippy::panic, clippy::expect_used, reason = "a test ends with a panic")]

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::time::Instant;

/// The agent's binary: what `NETSENSOR_BIN` names, else the one beside the running test, which
/// cargo (when it runs the test) brings up to date first, once a process.
pub fn agent_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("NETSENSOR_BIN") {
            return PathBuf::from(named);
        }
        // target/PROFILE/deps/TEST
        let test = std::env::current_exe().expect("path of the test");
        let profile = test.ancestors().nth(2).expect("folder of the profile");
        if let (Some(cargo), Some(target)) = (std::env::var_os("CARGO"), profile.parent()) {
            build(Path::new(&cargo), profile, target);
        }
        let binary = profile.join("netsensor");
        let shown = binary.display();
        assert!(binary.is_file(), "{shown}: is missing; run cargo build -p sensor-user first");
        binary
    })
}

fn build(cargo: &Path, profile: &Path, target: &Path) {
    let mut build = Command::new(cargo);
    // The whole workspace, so that features, and with them the dependencies, are those of the test.
    build.args(["build", "--quiet", "--workspace", "--bin", "netsensor"]);
    build.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    build.arg("--target-dir").arg(target);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    // What cargo tells this test about its package would look to build scripts (ring's) like a
    // change, and each run would build half of the dependencies again.
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO_PKG_") || shown.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&name);
        }
    }
    let status = build.status().expect("run cargo");
    assert!(status.success(), "cargo build of the agent: {status}");
}

/// The agent with `arguments`, in an environment of its own: nothing but `PATH`, and `home` for
/// `HOME` and the state.
pub fn agent_command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(agent_binary());
    command.args(arguments).env_clear().env("HOME", home).env("XDG_STATE_HOME", home);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A line and when it was read.
#[derive(Debug, Clone)]
pub struct OutputLine {
    /// When.
    pub at: Instant,
    /// Without its end.
    pub text: String,
}

/// How the agent ended.
#[derive(Debug)]
pub struct AgentExit {
    /// Its status.
    pub status: ExitStatus,
    /// All lines of its standard output.
    pub stdout: Vec<OutputLine>,
    /// All lines of its standard error.
    pub stderr: Vec<OutputLine>,
}

/// A running agent. Dropping it ends it.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    stdout: Arc<OutputLines>,
    stderr: Arc<OutputLines>,
    readers: Vec<JoinHandle<()>>,
}

impl Agent {
    /// Starts `netsensor arguments` with `home` as its home and state directory.
    pub fn start(home: &Path, arguments: &[&str]) -> Self {
        Self::spawn(agent_command(home, arguments))
    }

    /// Starts what `command` describes; its output is collected here.
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, stderr) = (Arc::<OutputLines>::default(), Arc::<OutputLines>::default());
        let readers = vec![
            OutputLines::read(&stdout, child.stdout.take().expect("piped")),
            OutputLines::read(&stderr, child.stderr.take().expect("piped")),
        ];
        Self { child, stdout, stderr, readers }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first alert on standard output that fits, and when it was read; panics with
    /// all that the agent said when none came in time.
    pub fn wait_for_alert(
        &self,
        timeout: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> (Instant, Value) {
        let found = self.stdout.wait(timeout, |line| {
            let alert = serde_json::from_str::<Value>(&line.text).ok()?;
            fits(&alert).then_some((line.at, alert))
        });
        found.unwrap_or_else(|| {
            panic!("no such alert within {timeout:?}; {}", self.captured_output())
        })
    }

    /// Waits for a line on standard error that contains `part`; panics when none came in time.
    pub fn wait_for_log(&self, timeout: Duration, part: &str) -> OutputLine {
        let found =
            self.stderr.wait(timeout, |line| line.text.contains(part).then(|| line.clone()));
        found
            .unwrap_or_else(|| panic!("no {part:?} within {timeout:?}; {}", self.captured_output()))
    }

    /// The alerts so far.
    pub fn alerts(&self) -> Vec<Value> {
        let lines = self.stdout.all();
        lines.iter().filter_map(|line| serde_json::from_str(&line.text).ok()).collect()
    }

    /// Asks the agent to end (SIGTERM), kills it when it has not within 10 s, and returns how it
    /// ended.
    pub fn stop(mut self) -> AgentExit {
        self.signal(Signal::SIGTERM);
        self.ended(Duration::from_secs(10))
    }

    /// Waits until the agent ends by itself; kills it after `timeout`.
    pub fn wait(mut self, timeout: Duration) -> AgentExit {
        self.ended(timeout)
    }

    /// Sends `signal` to the agent.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("signal the agent");
    }

    fn ended(&mut self, timeout: Duration) -> AgentExit {
        let deadline = Instant::now() + timeout;
        let gate = (Mutex::new(()), Condvar::new());
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait for the agent") {
                break status;
            }
            if Instant::now() >= deadline {
                self.child.kill().expect("kill the agent");
                break self.child.wait().expect("wait for the agent");
            }
            let guard = gate.0.lock().expect("lock");
            drop(gate.1.wait_timeout(guard, LOOK).expect("lock"));
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("reader");
        }
        AgentExit { status, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    fn captured_output(&self) -> String {
        let text = |lines: &OutputLines| {
            let texts: Vec<String> = lines.all().into_iter().map(|line| line.text).collect();
            texts.join("\n  ")
        };
        format!("stdout:\n  {}\nstderr:\n  {}", text(&self.stdout), text(&self.stderr))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _killed = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// `netsensor run` for a benchmark, with its probes attached: `config` is its configuration, `state`
/// the folder of its state. Gives what it says from then on, too.
pub fn spawn_with_stderr(
    config: &Path,
    state: &Path,
    stdout: Stdio,
) -> (Child, std::io::Lines<BufReader<ChildStderr>>) {
    let mut agent = Command::new(agent_binary())
        .args(["run", "--config"])
        .arg(config)
        .env("XDG_STATE_HOME", state)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the agent");
    let mut said = BufReader::new(agent.stderr.take().expect("piped")).lines();
    said.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("state: ")))
        .expect("the agent has started")
        .expect("its words");
    (agent, said)
}

/// The same, with nobody to read what it says.
pub fn spawn_without_output(config: &Path, state: &Path) -> Child {
    spawn_with_stderr(config, state, Stdio::null()).0
}

/// How often a wait without an event looks again.
const LOOK: Duration = Duration::from_millis(5);

/// The lines of one stream so far.
#[derive(Debug, Default)]
struct OutputLines {
    lines: Mutex<Vec<OutputLine>>,
    more: Condvar,
}

impl OutputLines {
    /// Reads on a thread of its own until the stream ends.
    fn read(lines: &Arc<Self>, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = Arc::clone(lines);
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut bytes = Vec::new();
            while stream.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                lines.lines.lock().expect("lock").push(OutputLine { at: Instant::now(), text });
                lines.more.notify_all();
                bytes.clear();
            }
        })
    }

    /// The first line for which `find` has an answer, waiting for it.
    fn wait<T>(&self, timeout: Duration, find: impl Fn(&OutputLine) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut seen = 0;
        let mut lines = self.lines.lock().expect("lock");
        loop {
            if let Some(found) = lines.iter().skip(seen).find_map(&find) {
                return Some(found);
            }
            seen = lines.len();
            let left = deadline.checked_duration_since(Instant::now())?;
            lines = self.more.wait_timeout(lines, left).expect("lock").0;
        }
    }

    fn all(&self) -> Vec<OutputLine> {
        self.lines.lock().expect("lock").clone()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;
    use std::time::Duration;

    use super::Agent;

    fn shell(script: &str) -> Agent {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Agent::spawn(command)
    }

    #[test]
    fn lines_are_seen_as_they_come_and_the_child_is_ended() {
        let agent = shell("echo '{\"AlertId\":\"a\"}'; echo started >&2; exec sleep 60");
        let limit = Duration::from_secs(10);
        let (_, alert) = agent.wait_for_alert(limit, |alert| alert["AlertId"] == "a");
        assert_eq!(agent.alerts(), [alert]);
        assert_eq!(agent.wait_for_log(limit, "start").text, "started");
        let ended = agent.stop();
        assert_eq!(ended.status.signal(), Some(15));
        assert_eq!((ended.stdout.len(), ended.stderr.len()), (1, 1));
    }

    #[test]
    fn a_child_that_does_not_end_is_killed() {
        let agent = shell("exec sleep 60");
        assert_eq!(agent.wait(Duration::from_millis(50)).status.signal(), Some(9));
        assert_eq!(shell("exit 3").wait(Duration::from_secs(10)).status.code(), Some(3));
    }
}
