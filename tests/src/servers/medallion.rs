//! medallion, the TAXII 2.1 server of OASIS. It keeps all in memory: a restart forgets.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::Process;
use super::{curl, free_port, python_of};

/// A server with two API roots; the first has three collections, of which one may not be read.
#[derive(Debug)]
pub struct Medallion {
    folder: TempDir,
    python: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Medallion {
    /// Who may ask.
    pub const USER: &str = "eye";
    /// With this password.
    pub const PASSWORD: &str = "pw";
    /// Of the collection `indicators`.
    pub const ID: &str = "91a7b528-80eb-42ed-a74d-c6fbd5a26116";
    /// Of the collection `others`.
    pub const OTHER: &str = "52892447-4d7e-4f70-b94d-d7f22742ff63";
    /// Objects a page at most, whatever is asked for.
    pub const PAGE: u32 = 100;

    /// Starts it; `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let python = python_of("medallion")?;
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self { folder, python, port: free_port(), process: None };
        server.configure();
        server.restart();
        Some(server)
    }

    fn configure(&self) {
        let data = self.folder.path().join("data.json");
        let config = json!({
            "backend": {
                "module": "medallion.backends.memory_backend",
                "module_class": "MemoryBackend",
                "filename": data,
            },
            "users": { Self::USER: Self::PASSWORD },
            "taxii": { "max_page_size": Self::PAGE },
        });
        std::fs::write(self.folder.path().join("conf.json"), config.to_string()).expect("written");
        let collection = |id: &str, title: &str, can_read: bool| {
            json!({
                "id": id, "title": title, "can_read": can_read, "can_write": true,
                "media_types": ["application/stix+json;version=2.1"],
                "objects": [], "manifest": [],
            })
        };
        let root = |collections: Value| {
            json!({
                "information": {
                    "title": "root",
                    "versions": ["application/taxii+json;version=2.1"],
                    "max_content_length": 104_857_600,
                },
                "status": [],
                "collections": collections,
            })
        };
        let content = json!({
            "/discovery": {
                "title": "medallion",
                "default": self.url("feeds/"),
                "api_roots": [self.url("feeds/"), self.url("empty/")],
            },
            "feeds": root(json!([
                collection(Self::ID, "indicators", true),
                collection(Self::OTHER, "others", true),
                collection("472c94ae-3113-4e3e-a4dd-a9f4ac7471d4", "secret", false),
            ])),
            "empty": root(json!([])),
        });
        std::fs::write(data, content.to_string()).expect("written");
    }

    /// Ends it, where it runs.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Ends it, where it runs, and starts it anew, with nothing in it.
    pub fn restart(&mut self) {
        self.stop();
        let program = self.python.with_file_name("medallion");
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.arg(self.folder.path().join("conf.json"));
        self.process = Some(Process::start(&mut command, &self.log(), self.port));
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The URL of `path` in it; its discovery is `taxii2/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// The path of a collection.
    pub fn collection(id: &str) -> String {
        format!("feeds/collections/{id}/")
    }

    /// Puts objects into a collection, in one POST.
    pub fn add(&self, id: &str, objects: &[Value]) {
        let url = self.url(&format!("{}objects/", Self::collection(id)));
        let body = json!({ "objects": objects }).to_string();
        let login = format!("{}:{}", Self::USER, Self::PASSWORD);
        let media = "application/taxii+json;version=2.1";
        let (kind, accept) = (format!("Content-Type: {media}"), format!("Accept: {media}"));
        let answered = curl(&["-u", &login, "-H", &kind, "-H", &accept], &url, Some(&body));
        assert_eq!(answered.status, 202, "{}", answered.body);
        let status: Value = serde_json::from_str(&answered.body).expect("JSON");
        assert_eq!(status.get("success_count"), Some(&json!(objects.len())), "{status}");
    }

    /// The file with its password.
    pub fn password_file(&self) -> PathBuf {
        write(self.folder.path(), "password", Self::PASSWORD)
    }
}

/// A file with a line.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("{text}\n")).expect("written");
    path
}
