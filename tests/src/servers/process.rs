//! A server's process: in a group of its own, ended with all its children.
#![expect(clippy::expect_used, clippy::panic, reason = "a harness stops where its machinery fails")]

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::time::Instant;

/// A server takes no longer to start, however busy the machine is.
const START: Duration = Duration::from_mins(2);

/// A port of 127.0.0.1 that nobody has.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// The Python that has the packages of the server `name`; `None` where it is not installed.
pub fn python_of(name: &str) -> Option<PathBuf> {
    home_of(name).map(|home| home.join("bin/python3"))
}

/// The folder that the server `name` is installed in; `None` where it is not.
pub(super) fn home_of(name: &str) -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers").join(name);
    let is_whole = home.join("installed").is_file();
    is_whole.then_some(home)
}

/// The folder of the packages of `python`.
pub(super) fn site_packages(python: &Path) -> Option<PathBuf> {
    let library = python.parent()?.parent()?.join("lib");
    let mut versions = std::fs::read_dir(library).ok()?.filter_map(Result::ok);
    let version = versions.find(|it| it.file_name().to_string_lossy().starts_with("python3"))?;
    Some(version.path().join("site-packages"))
}

/// A running server.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Process {
    /// Starts `command` with its output in `log`, and waits until something answers at `port`.
    pub(super) fn start(command: &mut Command, log: &Path, port: u16) -> Self {
        let output = File::options().append(true).create(true).open(log).expect("a log");
        let errors = output.try_clone().expect("a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut process = Self { child, log: log.to_owned(), port };
        process.wait();
        process
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + START;
        while !self.answers() {
            if let Some(status) = self.child.try_wait().expect("wait for the server") {
                panic!("the server ended, {status}: {}", self.said());
            }
            assert!(Instant::now() < deadline, "no server at {}: {}", self.port, self.said());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end(&mut self) {
        let group = i32::try_from(self.child.id()).expect("a pid");
        // It may have ended by itself.
        let _gone = killpg(Pid::from_raw(group), Signal::SIGKILL).is_err();
        self.child.wait().expect("the server's end");
        // Its children hold the port until they are gone too.
        let deadline = Instant::now() + START;
        while self.answers() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs `command` to its good end and returns what it printed.
pub(super) fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}\n{text}");
    text
}
