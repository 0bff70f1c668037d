//! osmem, a server with the API of `OpenSearch` that keeps all in memory: it forgets when it ends.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::{curl, free_port, python_of, site_packages};

/// A running server.
#[derive(Debug)]
pub struct Osmem {
    _folder: TempDir,
    port: u16,
    _process: Process,
}

impl Osmem {
    /// Starts it; `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let site = site_packages(&python_of("osmem")?)?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let mut command = Command::new(site.join("osmem_server/bin/osmem-server"));
        let address = format!("127.0.0.1:{port}");
        command.args(["-addr", &address, "-no-stdin-watch"]).current_dir(folder.path());
        let process = Process::start(&mut command, &folder.path().join("log"), port);
        Some(Self { _folder: folder, port, _process: process })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// What it answers.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let method = format!("-X{method}");
        let url = format!("{}{path}", self.url());
        let arguments = [method.as_str(), "-H", "Content-Type: application/json"];
        let body = body.map(Value::to_string);
        let answered = curl(&arguments, &url, body.as_deref());
        assert_eq!(answered.status, 200, "{path}: {}", answered.body);
        serde_json::from_str(&answered.body).expect("JSON")
    }
}
