//! opentaxii, a second TAXII 2.1 server beside medallion. Its data is in `SQLite`.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::medallion::write;
use super::process::{ServerProcess, run_checked};
use super::{curl, free_port, server_python};

/// Fix of the published version, whose JSON encoder fails on UUIDs: collections return 500.
const APP: &str = "import json, uuid
_default = json.JSONEncoder.default
json.JSONEncoder.default = lambda self, it: str(it) if isinstance(it, uuid.UUID) else _default(self, it)
from opentaxii.http import app
";

/// Server with one API root and one collection.
#[derive(Debug)]
pub struct OpenTaxii {
    folder: TempDir,
    python: PathBuf,
    port: u16,
    root: String,
    process: Option<ServerProcess>,
}

impl OpenTaxii {
    /// Name of the only user.
    pub const USER: &str = "sensor";
    /// Password of the only user.
    pub const PASSWORD: &str = "pw";

    /// Starts the server; `None` if it is not installed.
    pub fn start() -> Option<Self> {
        let python = server_python("opentaxii")?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let directory = folder.path().display().to_string();
        std::fs::write(folder.path().join("taxii_app.py"), APP).expect("written");
        std::fs::write(folder.path().join("conf.yml"), config(&directory, port)).expect("written");
        let mut server = Self { folder, python, port, root: String::new(), process: None };
        let (user, password) = (Self::USER, Self::PASSWORD);
        run_checked(
            server.tool("opentaxii-create-account").args(["-u", user, "-p", password, "-a"]),
        );
        let root = server
            .tool("opentaxii-add-api-root")
            .args(["-t", "sensor", "-d", "sensor"])
            .arg("--default")
            .output();
        drop(root);
        let help = run_checked(server.tool("opentaxii-add-collection").arg("-h"));
        server.root = uuid_in(&help).expect("the API root's id");
        let arguments = ["-t", "iocs", "-d", "iocs", "-a", "iocs", "--public", "--public-write"];
        run_checked(
            server.tool("opentaxii-add-collection").args(["-r", &server.root]).args(arguments),
        );
        server.restart();
        Some(server)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.python.with_file_name(name));
        command.current_dir(self.folder.path());
        command.env("OPENTAXII_CONFIG", self.folder.path().join("conf.yml"));
        // gunicorn puts a socket into the home directory.
        command.env("HOME", self.folder.path());
        command
    }

    /// Stops the server if it is running.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Restarts the server, with its stored data.
    pub fn restart(&mut self) {
        self.stop();
        let address = format!("127.0.0.1:{}", self.port);
        let mut command = self.tool("gunicorn");
        command.args(["-b", &address, "-w", "1", "taxii_app:app"]);
        let log = self.folder.path().join("log");
        self.process = Some(ServerProcess::start(&mut command, &log, self.port));
    }

    /// URL of the discovery resource.
    pub fn discovery(&self) -> String {
        format!("http://127.0.0.1:{}/taxii2/", self.port)
    }

    /// Adds objects to the collection in one POST.
    pub fn add(&self, objects: &[Value]) {
        let url = format!("{}{}/collections/iocs/objects/", self.discovery(), self.root);
        let login = format!("{}:{}", Self::USER, Self::PASSWORD);
        let media = "application/taxii+json;version=2.1";
        let (kind, accept) = (format!("Content-Type: {media}"), format!("Accept: {media}"));
        let body = json!({ "objects": objects }).to_string();
        let response = curl(&["-u", &login, "-H", &kind, "-H", &accept], &url, Some(&body));
        assert_eq!(response.status, 202, "{}", response.body);
    }

    /// Path of a file with the password.
    pub fn password_file(&self) -> PathBuf {
        write(self.folder.path(), "password", Self::PASSWORD)
    }
}

fn config(directory: &str, port: u16) -> String {
    format!(
        "domain: \"127.0.0.1:{port}\"
support_basic_auth: yes
auth_api:
  class: opentaxii.auth.sqldb.SQLDatabaseAPI
  parameters:
    db_connection: sqlite:///{directory}/auth.db
    create_tables: yes
    secret: sensor
taxii1:
taxii2:
  title: sensor
  public_discovery: no
  max_content_length: 104857600
  persistence_api:
    class: opentaxii.persistence.sqldb.Taxii2SQLDatabaseAPI
    parameters:
      db_connection: sqlite:///{directory}/data.db
      create_tables: yes
"
    )
}

fn uuid_in(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_hexdigit() || c == '-';
    text.split(|c: char| !is_part(c)).find(|word| word.len() == 36).map(str::to_owned)
}
