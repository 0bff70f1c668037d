//! NATS server with `JetStream`.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::process::{ServerProcess, free_port, install_dir};

/// Running NATS server with `JetStream`.
#[derive(Debug)]
pub struct Nats {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    process: Option<ServerProcess>,
}

impl Nats {
    /// Starts the server with `extra` lines in its configuration; `None` if it is not installed.
    pub fn start(extra: &str) -> Option<Self> {
        let program = install_dir("nats").map(|home| home.join("bin/nats-server"))?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let store = folder.path().join("store");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\n{extra}\n",
            store.display()
        );
        std::fs::write(folder.path().join("conf"), text).expect("a configuration");
        let mut nats = Self { program, folder, port, process: None };
        nats.restart();
        Some(nats)
    }

    /// Restarts the server at its port, with its stored data.
    pub fn restart(&mut self) {
        self.process = None;
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.folder.path().join("conf"));
        let log = self.folder.path().join("log");
        self.process = Some(ServerProcess::start(&mut command, &log, self.port));
    }

    /// Kills the server process.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Address of the server, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
