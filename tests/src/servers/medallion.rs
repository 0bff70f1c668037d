//! medallion, the TAXII 2.1 server of OASIS. Its data is in memory and lost at a restart.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::ServerProcess;
use super::{curl, free_port, server_python};

/// Server with two API roots. The first has three collections, one of which is not readable.
#[derive(Debug)]
pub struct Medallion {
    folder: TempDir,
    python: PathBuf,
    port: u16,
    process: Option<ServerProcess>,
}

impl Medallion {
    /// Name of the only user.
    pub const USER: &str = "sensor";
    /// Password of the only user.
    pub const PASSWORD: &str = "pw";
    /// Id of the collection `indicators`.
    pub const ID: &str = "91a7b528-80eb-42ed-a74d-c6fbd5a26116";
    /// Id of the collection `others`.
    pub const OTHER: &str = "52892447-4d7e-4f70-b94d-d7f22742ff63";
    /// Maximum number of objects per page, whatever limit the client requests.
    pub const PAGE: u32 = 100;

    /// Starts the server; `None` if it is not installed.
    pub fn start() -> Option<Self> {
        let python = server_python("medallion")?;
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

    /// Stops the server if it is running.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Restarts the server without data.
    pub fn restart(&mut self) {
        self.stop();
        let program = self.python.with_file_name("medallion");
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.arg(self.folder.path().join("conf.json"));
        self.process = Some(ServerProcess::start(&mut command, &self.log(), self.port));
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Port on which it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// URL of `path`; the discovery resource is `taxii2/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// Path of the collection with this id.
    pub fn collection(id: &str) -> String {
        format!("feeds/collections/{id}/")
    }

    /// Adds objects to a collection in one POST.
    pub fn add(&self, id: &str, objects: &[Value]) {
        let url = self.url(&format!("{}objects/", Self::collection(id)));
        let body = json!({ "objects": objects }).to_string();
        let login = format!("{}:{}", Self::USER, Self::PASSWORD);
        let media = "application/taxii+json;version=2.1";
        let (kind, accept) = (format!("Content-Type: {media}"), format!("Accept: {media}"));
        let response = curl(&["-u", &login, "-H", &kind, "-H", &accept], &url, Some(&body));
        assert_eq!(response.status, 202, "{}", response.body);
        let status: Value = serde_json::from_str(&response.body).expect("JSON");
        assert_eq!(status.get("success_count"), Some(&json!(objects.len())), "{status}");
    }

    /// Path of a file with the password.
    pub fn password_file(&self) -> PathBuf {
        write(self.folder.path(), "password", Self::PASSWORD)
    }
}

/// Writes a file with one line and returns its path.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("{text}\n")).expect("written");
    path
}
