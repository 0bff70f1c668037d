//! Runs the built `netsensor` as a child process and records its output lines with timestamps.
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

/// Path of the agent's binary: `NETSENSOR_BIN` if set, else the one in the target directory of the
/// running test. Under cargo, the latter is rebuilt first, once per process.
pub fn agent_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("NETSENSOR_BIN") {
            return PathBuf::from(named);
        }
        // target/PROFILE/deps/TEST
        let test = std::env::current_exe().expect("path of the test");
        let profile = test.ancestors().nth(2).expect("directory of the profile");
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
    // The whole workspace: features, and with them the dependencies, are then those of the test.
    build.args(["build", "--quiet", "--workspace", "--bin", "netsensor"]);
    build.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    build.arg("--target-dir").arg(target);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    // Cargo sets these variables for the test's package. Build scripts (ring's) watch them, so each
    // run would rebuild half of the dependencies.
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO_PKG_") || shown.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&name);
        }
    }
    let status = build.status().expect("run cargo");
    assert!(status.success(), "cargo build of the agent: {status}");
}

/// Command for the agent with `arguments`. Its environment has only `PATH`, and `home` as `HOME`
/// and `XDG_STATE_HOME`.
pub fn agent_command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(agent_binary());
    command.args(arguments).env_clear().env("HOME", home).env("XDG_STATE_HOME", home);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Line of output and the time at which it was read.
#[derive(Debug, Clone)]
pub struct OutputLine {
    /// Time at which the line was read.
    pub at: Instant,
    /// Text without the line ending.
    pub text: String,
}

/// Exit status and output of an agent that ended.
#[derive(Debug)]
pub struct AgentExit {
    /// Exit status of the process.
    pub status: ExitStatus,
    /// All lines of its standard output.
    pub stdout: Vec<OutputLine>,
    /// All lines of its standard error.
    pub stderr: Vec<OutputLine>,
}

/// Running agent. Dropping it kills the process.
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

    /// Starts `command` and collects its output.
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

    /// Process id of the agent.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first alert on standard output for which `fits` is true. Returns it with the
    /// time at which it was read. Panics with the agent's whole output after `timeout`.
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

    /// Waits for a line on standard error that contains `part`. Panics after `timeout`.
    pub fn wait_for_log(&self, timeout: Duration, part: &str) -> OutputLine {
        let found =
            self.stderr.wait(timeout, |line| line.text.contains(part).then(|| line.clone()));
        found
            .unwrap_or_else(|| panic!("no {part:?} within {timeout:?}; {}", self.captured_output()))
    }

    /// Alerts on standard output so far.
    pub fn alerts(&self) -> Vec<Value> {
        let lines = self.stdout.all();
        lines.iter().filter_map(|line| serde_json::from_str(&line.text).ok()).collect()
    }

    /// Sends SIGTERM, kills the agent if it does not exit within 10 s, and returns its exit status
    /// and output.
    pub fn stop(mut self) -> AgentExit {
        self.signal(Signal::SIGTERM);
        self.wait_for_exit(Duration::from_secs(10))
    }

    /// Waits until the agent exits by itself. Kills it after `timeout`.
    pub fn wait(mut self, timeout: Duration) -> AgentExit {
        self.wait_for_exit(timeout)
    }

    /// Sends `signal` to the agent.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("signal the agent");
    }

    fn wait_for_exit(&mut self, timeout: Duration) -> AgentExit {
        let deadline = Instant::now() + timeout;
        let (lock, never) = (Mutex::new(()), Condvar::new());
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait for the agent") {
                break status;
            }
            if Instant::now() >= deadline {
                self.child.kill().expect("kill the agent");
                break self.child.wait().expect("wait for the agent");
            }
            let guard = lock.lock().expect("lock");
            drop(never.wait_timeout(guard, POLL_INTERVAL).expect("lock"));
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

/// Starts `netsensor run` for a benchmark, with `config` as its configuration and `state` as its
/// state directory. Returns once its probes are attached, with the rest of its standard error.
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
    let mut stderr = BufReader::new(agent.stderr.take().expect("piped")).lines();
    stderr
        .find(|line| line.as_ref().is_ok_and(|line| line.starts_with("state: ")))
        .expect("the agent has started")
        .expect("a line of its log");
    (agent, stderr)
}

/// Starts `netsensor run` like [`spawn_with_stderr`], with nobody reading its output.
pub fn spawn_without_output(config: &Path, state: &Path) -> Child {
    spawn_with_stderr(config, state, Stdio::null()).0
}

/// Poll interval of a wait for the child's exit.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Lines of one stream so far.
#[derive(Debug, Default)]
struct OutputLines {
    lines: Mutex<Vec<OutputLine>>,
    more: Condvar,
}

impl OutputLines {
    /// Reads on its own thread until the stream ends.
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

    /// Waits for the first line for which `find` returns a value.
    fn wait<T>(&self, timeout: Duration, find: impl Fn(&OutputLine) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut checked = 0;
        let mut lines = self.lines.lock().expect("lock");
        loop {
            if let Some(found) = lines.iter().skip(checked).find_map(&find) {
                return Some(found);
            }
            checked = lines.len();
            let remaining = deadline.checked_duration_since(Instant::now())?;
            lines = self.more.wait_timeout(lines, remaining).expect("lock").0;
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
    fn lines_are_returned_as_they_arrive_and_stop_ends_the_child() {
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
    fn a_child_that_does_not_exit_is_killed() {
        let agent = shell("exec sleep 60");
        assert_eq!(agent.wait(Duration::from_millis(50)).status.signal(), Some(9));
        assert_eq!(shell("exit 3").wait(Duration::from_secs(10)).status.code(), Some(3));
    }
}
