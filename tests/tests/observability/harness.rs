//! A running agent with metrics, and its clients.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sensor_tests::{Agent, agent_command, run, skip_unless};
use tempfile::TempDir;

/// Loading a debug build's capture parses the kernel's BTF, which takes a second or two.
const START: Duration = Duration::from_mins(1);
/// A loopback address that nothing else uses; the suite's indicator.
pub(crate) const INDICATOR: &str = "127.78.9.1";

/// True if the running test must return, because the suite needs root.
pub(crate) fn skipped() -> bool {
    skip_unless(nix::unistd::geteuid().is_root(), "loading BPF programs needs root")
}

/// True if the test must return, because `program` of Prometheus is missing.
pub(crate) fn skipped_without(program: &str) -> bool {
    let mut command = Command::new(program);
    let version = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let installed = version.status().is_ok_and(|status| status.success());
    skip_unless(installed, &format!("no {program}; install the package prometheus"))
}

/// Directory with a configuration.
#[derive(Debug)]
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// Serves metrics at `listen`; `more` holds further lines of that section, and further
    /// sections.
    pub(crate) fn new(listen: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[agent]\ncomputer = \"host.example.net\"\n[health]\ncanary_interval = \"1s\"\n\
             [metrics]\nlisten = \"{}\"\n{more}\n\
             [[feed]]\nname = \"test\"\nkind = \"list\"\nurl = \"file:list.txt\"\n\
             allow_private = true\n",
            listen.replace("HOME", folder.path().to_str().unwrap())
        );
        std::fs::write(folder.path().join("netsensor.toml"), text).unwrap();
        std::fs::write(folder.path().join("list.txt"), format!("{INDICATOR}\nnonsense\n")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The agent's command line with this configuration.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let config = self.path("netsensor.toml");
        let words: Vec<&str> =
            words.iter().copied().chain(["--config", config.to_str().unwrap()]).collect();
        agent_command(self.folder.path(), &words)
    }

    /// Starts `netsensor run`, and returns once its probes are attached.
    pub(crate) fn run(&self) -> Agent {
        let agent = Agent::spawn(self.command(&["run"]));
        agent.wait_for_log(START, "state: ");
        agent
    }
}

/// A port of the loopback address that is currently free.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Makes a connection that matches the indicator.
pub(crate) fn hit() {
    let listener = TcpListener::bind((INDICATOR, 0)).unwrap();
    drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
}

/// A response: status line and headers, and the body.
pub(crate) type Response = (String, String);

/// Sends `request` verbatim, and reads until the peer closes.
pub(crate) fn send<T: std::io::Read + std::io::Write>(mut to: T, request: &str) -> Response {
    to.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    to.read_to_end(&mut response).unwrap();
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    (head.to_owned(), body.to_owned())
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: netsensor\r\n";

/// The page in the plain format, over a unix socket.
pub(crate) fn page_of(socket: &Path) -> String {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (head, body) = send(stream, &format!("{GET}\r\n"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    body
}

/// The page in the format of `accept`, over TCP, with its headers.
pub(crate) fn page_at(port: u16, accept: &str) -> Response {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    send(stream, &format!("{GET}Accept: {accept}\r\n\r\n"))
}

/// The value of the sample `name`, which includes its labels.
pub(crate) fn value(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

/// Polls `poll` until it returns a value.
pub(crate) fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    for _attempt in 0..150 {
        if let Some(response) = poll() {
            return response;
        }
        run(Command::new("sleep").arg("0.2"));
    }
    panic!("not within 30 s: {what}");
}

/// Runs a tool with `input`; returns its success and all of its output.
pub(crate) fn tool(program: &str, arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
