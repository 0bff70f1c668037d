//! osmem, a server with the API of `OpenSearch`. Its data is in memory and lost when it stops.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::process::ServerProcess;
use super::{curl, free_port, server_python, site_packages};

/// Running osmem server without data.
#[derive(Debug)]
pub struct Osmem {
    _folder: TempDir,
    port: u16,
    _process: ServerProcess,
}

impl Osmem {
    /// Starts the server; `None` if it is not installed.
    pub fn start() -> Option<Self> {
        let site = site_packages(&server_python("osmem")?)?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let mut command = Command::new(site.join("osmem_server/bin/osmem-server"));
        let address = format!("127.0.0.1:{port}");
        command.args(["-addr", &address, "-no-stdin-watch"]).current_dir(folder.path());
        let process = ServerProcess::start(&mut command, &folder.path().join("log"), port);
        Some(Self { _folder: folder, port, _process: process })
    }

    /// Base URL of the server.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Sends a request and returns the JSON response.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let method = format!("-X{method}");
        let url = format!("{}{path}", self.url());
        let arguments = [method.as_str(), "-H", "Content-Type: application/json"];
        let body = body.map(Value::to_string);
        let response = curl(&arguments, &url, body.as_deref());
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        serde_json::from_str(&response.body).expect("JSON")
    }
}
