//! Process of a test server. It has its own process group, and is killed with all its children.
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

/// Time limit for a server to start or stop, also on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(2);

/// Free port of 127.0.0.1.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Python interpreter with the packages of the server `name`; `None` if it is not installed.
pub fn server_python(name: &str) -> Option<PathBuf> {
    install_dir(name).map(|directory| directory.join("bin/python3"))
}

/// Directory of the installed server `name`; `None` if it is not installed.
pub(super) fn install_dir(name: &str) -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers").join(name);
    let is_complete = directory.join("installed").is_file();
    is_complete.then_some(directory)
}

/// Directory `site-packages` of `python`.
pub(super) fn site_packages(python: &Path) -> Option<PathBuf> {
    let library = python.parent()?.parent()?.join("lib");
    let mut versions = std::fs::read_dir(library).ok()?.filter_map(Result::ok);
    let version = versions.find(|it| it.file_name().to_string_lossy().starts_with("python3"))?;
    Some(version.path().join("site-packages"))
}

#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    log: PathBuf,
    port: u16,
}

impl ServerProcess {
    /// Starts `command` with its output in `log`, and waits until it accepts connections at `port`.
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
        process.wait_until_listening();
        process
    }

    fn wait_until_listening(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        while !self.is_listening() {
            if let Some(status) = self.child.try_wait().expect("wait for the server") {
                panic!("the server ended, {status}: {}", self.log_text());
            }
            assert!(Instant::now() < deadline, "no server at {}: {}", self.port, self.log_text());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn is_listening(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn kill(&mut self) {
        let group = i32::try_from(self.child.id()).expect("a pid");
        // The process may have exited by itself.
        let _no_such_process = killpg(Pid::from_raw(group), Signal::SIGKILL).is_err();
        self.child.wait().expect("the server's end");
        // Its children keep the port open until they have exited too.
        let deadline = Instant::now() + START_LIMIT;
        while self.is_listening() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `command` to completion and returns its standard output. Panics if it fails.
pub(super) fn run_checked(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {stderr}\n{text}");
    text
}
