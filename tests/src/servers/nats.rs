//! NATS with `JetStream`, in a folder of its own.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::process::{Process, free_port, home_of};

/// A running server.
#[derive(Debug)]
pub struct Nats {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

impl Nats {
    /// Starts one with `more` in its configuration; `None` where it is not installed.
    pub fn start(more: &str) -> Option<Self> {
        let program = home_of("nats").map(|home| home.join("bin/nats-server"))?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let store = folder.path().join("store");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\n{more}\n",
            store.display()
        );
        std::fs::write(folder.path().join("conf"), text).expect("a configuration");
        let mut nats = Self { program, folder, port, process: None };
        nats.restart();
        Some(nats)
    }

    /// Starts it again at its port, with what it has stored.
    pub fn restart(&mut self) {
        self.process = None;
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.folder.path().join("conf"));
        let log = self.folder.path().join("log");
        self.process = Some(Process::start(&mut command, &log, self.port));
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
