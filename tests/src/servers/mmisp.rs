//! mmisp-api, an implementation of MISP's REST API by the Karlsruhe Institute of Technology, on
//! `SQLite`.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::medallion::write;
use super::process::{ServerProcess, run_checked};
use super::{curl, free_port, server_python};

/// Script that creates an organisation and a user with a key. mmisp's commands fail on `SQLite`.
const SEED: &str = include_str!("mmisp_seed.py");

/// Server with one user.
#[derive(Debug)]
pub struct Mmisp {
    folder: TempDir,
    python: PathBuf,
    port: u16,
    process: Option<ServerProcess>,
}

impl Mmisp {
    /// API key of the user.
    pub const KEY: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCD";

    /// Starts the server; `None` if it is not installed.
    pub fn start() -> Option<Self> {
        let python = server_python("mmisp")?;
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self { folder, python, port: free_port(), process: None };
        run_checked(server.tool("mmisp-db").arg("setup"));
        run_checked(server.tool("python3").args(["-c", SEED, Self::KEY]));
        server.restart();
        Some(server)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.python.with_file_name(name));
        let directory = self.folder.path();
        command
            .current_dir(directory)
            .env("DATABASE_URL", format!("sqlite+aiosqlite:///{}/m.db", directory.display()))
            .env("HASH_SECRET", "x")
            .env("WORKER_KEY", "wk")
            .env("WORKER_URL", "http://127.0.0.1:9")
            .env("OWN_URL", self.url());
        command
    }

    /// Stops the server if it is running.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Restarts the server, with its stored data.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = self.tool("uvicorn");
        let port = self.port.to_string();
        command.args(["--host", "127.0.0.1", "--port", &port, "mmisp.api.main:app"]);
        let log = self.folder.path().join("log");
        self.process = Some(ServerProcess::start(&mut command, &log, self.port));
    }

    /// Base URL of the server.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Path of a file with the user's API key.
    pub fn key_file(&self) -> PathBuf {
        write(self.folder.path(), "key", Self::KEY)
    }

    /// Sends a request as the user and returns the JSON response.
    pub fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.url());
        let key = format!("Authorization: {}", Self::KEY);
        let method = format!("-X{method}");
        let json = ["-H", "Content-Type: application/json", "-H", "Accept: application/json"];
        let arguments = [&[method.as_str(), "-H", &key], &json[..]].concat();
        let response = curl(&arguments, &url, Some(&body.to_string()));
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        serde_json::from_str(&response.body).expect("JSON")
    }

    /// Creates an event and returns its id.
    pub fn event(&self, info: &str) -> u64 {
        let created = self.request("POST", "events", &json!({ "info": info }));
        created.pointer("/Event/id").and_then(Value::as_u64).expect("an id")
    }

    /// Adds an attribute to an event and returns its id.
    pub fn attribute(&self, event: u64, kind: &str, value: &str, to_ids: bool) -> u64 {
        let body = json!({ "type": kind, "value": value, "to_ids": to_ids });
        let created = self.request("POST", &format!("attributes/{event}"), &body);
        created.pointer("/Attribute/id").and_then(Value::as_u64).expect("an id")
    }
}
