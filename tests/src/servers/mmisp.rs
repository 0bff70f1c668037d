//! mmisp-api: MISP's REST API by the Karlsruhe Institute of Technology, on `SQLite`.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::medallion::write;
use super::process::{Process, output};
use super::{curl, free_port, python_of};

/// Makes an organisation, and a user with a key; the commands of the package fail on `SQLite`.
const SEED: &str = include_str!("mmisp_seed.py");

/// A server with one user.
#[derive(Debug)]
pub struct Mmisp {
    folder: TempDir,
    python: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Mmisp {
    /// The key of its user.
    pub const KEY: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCD";

    /// Starts it; `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let python = python_of("mmisp")?;
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self { folder, python, port: free_port(), process: None };
        output(server.tool("mmisp-db").arg("setup"));
        output(server.tool("python3").args(["-c", SEED, Self::KEY]));
        server.restart();
        Some(server)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.python.with_file_name(name));
        let place = self.folder.path();
        command
            .current_dir(place)
            .env("DATABASE_URL", format!("sqlite+aiosqlite:///{}/m.db", place.display()))
            .env("HASH_SECRET", "x")
            .env("WORKER_KEY", "wk")
            .env("WORKER_URL", "http://127.0.0.1:9")
            .env("OWN_URL", self.url());
        command
    }

    /// Ends it, where it runs.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Ends it, where it runs, and starts it anew; what it has it keeps.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = self.tool("uvicorn");
        let port = self.port.to_string();
        command.args(["--host", "127.0.0.1", "--port", &port, "mmisp.api.main:app"]);
        let log = self.folder.path().join("log");
        self.process = Some(Process::start(&mut command, &log, self.port));
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// A file with the key of its user.
    pub fn key_file(&self) -> PathBuf {
        write(self.folder.path(), "key", Self::KEY)
    }

    /// What it answers to a request by its user.
    pub fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.url());
        let key = format!("Authorization: {}", Self::KEY);
        let method = format!("-X{method}");
        let json = ["-H", "Content-Type: application/json", "-H", "Accept: application/json"];
        let arguments = [&[method.as_str(), "-H", &key], &json[..]].concat();
        let answered = curl(&arguments, &url, Some(&body.to_string()));
        assert_eq!(answered.status, 200, "{path}: {}", answered.body);
        serde_json::from_str(&answered.body).expect("JSON")
    }

    /// Makes an event and returns its id.
    pub fn event(&self, info: &str) -> u64 {
        let made = self.request("POST", "events", &json!({ "info": info }));
        made.pointer("/Event/id").and_then(Value::as_u64).expect("an id")
    }

    /// Adds an attribute to an event and returns its id.
    pub fn attribute(&self, event: u64, kind: &str, value: &str, to_ids: bool) -> u64 {
        let body = json!({ "type": kind, "value": value, "to_ids": to_ids });
        let made = self.request("POST", &format!("attributes/{event}"), &body);
        made.pointer("/Attribute/id").and_then(Value::as_u64).expect("an id")
    }
}
