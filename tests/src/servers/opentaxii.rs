//! opentaxii, another TAXII 2.1 server than medallion: it keeps all in `SQLite`.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::medallion::write;
use super::process::{Process, output};
use super::{curl, free_port, python_of};

/// As published, it answers its collections with 500: a UUID is no JSON.
const APP: &str = "import json, uuid
_default = json.JSONEncoder.default
json.JSONEncoder.default = lambda self, it: str(it) if isinstance(it, uuid.UUID) else _default(self, it)
from opentaxii.http import app
";

/// A server with one API root and one collection.
#[derive(Debug)]
pub struct OpenTaxii {
    folder: TempDir,
    python: PathBuf,
    port: u16,
    root: String,
    process: Option<Process>,
}

impl OpenTaxii {
    /// Who may ask.
    pub const USER: &str = "eye";
    /// With this password.
    pub const PASSWORD: &str = "pw";

    /// Starts it; `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let python = python_of("opentaxii")?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let place = folder.path().display().to_string();
        std::fs::write(folder.path().join("eyetaxii.py"), APP).expect("written");
        std::fs::write(folder.path().join("conf.yml"), config(&place, port)).expect("written");
        let mut server = Self { folder, python, port, root: String::new(), process: None };
        let (user, password) = (Self::USER, Self::PASSWORD);
        output(server.tool("opentaxii-create-account").args(["-u", user, "-p", password, "-a"]));
        let root = server
            .tool("opentaxii-add-api-root")
            .args(["-t", "eye", "-d", "eye"])
            .arg("--default")
            .output();
        drop(root);
        let help = output(server.tool("opentaxii-add-collection").arg("-h"));
        server.root = uuid_in(&help).expect("the API root's id");
        let arguments = ["-t", "iocs", "-d", "iocs", "-a", "iocs", "--public", "--public-write"];
        output(server.tool("opentaxii-add-collection").args(["-r", &server.root]).args(arguments));
        server.restart();
        Some(server)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.python.with_file_name(name));
        command.current_dir(self.folder.path());
        command.env("OPENTAXII_CONFIG", self.folder.path().join("conf.yml"));
        // gunicorn has a socket there.
        command.env("HOME", self.folder.path());
        command
    }

    /// Ends it, where it runs.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Ends it, where it runs, and starts it anew; what it has it keeps.
    pub fn restart(&mut self) {
        self.stop();
        let address = format!("127.0.0.1:{}", self.port);
        let mut command = self.tool("gunicorn");
        command.args(["-b", &address, "-w", "1", "eyetaxii:app"]);
        let log = self.folder.path().join("log");
        self.process = Some(Process::start(&mut command, &log, self.port));
    }

    /// The URL of its discovery.
    pub fn discovery(&self) -> String {
        format!("http://127.0.0.1:{}/taxii2/", self.port)
    }

    /// Puts objects into the collection, in one POST.
    pub fn add(&self, objects: &[Value]) {
        let url = format!("{}{}/collections/iocs/objects/", self.discovery(), self.root);
        let login = format!("{}:{}", Self::USER, Self::PASSWORD);
        let media = "application/taxii+json;version=2.1";
        let (kind, accept) = (format!("Content-Type: {media}"), format!("Accept: {media}"));
        let body = json!({ "objects": objects }).to_string();
        let answered = curl(&["-u", &login, "-H", &kind, "-H", &accept], &url, Some(&body));
        assert_eq!(answered.status, 202, "{}", answered.body);
    }

    /// The file with its password.
    pub fn password_file(&self) -> PathBuf {
        write(self.folder.path(), "password", Self::PASSWORD)
    }
}

fn config(place: &str, port: u16) -> String {
    format!(
        "domain: \"127.0.0.1:{port}\"
support_basic_auth: yes
auth_api:
  class: opentaxii.auth.sqldb.SQLDatabaseAPI
  parameters:
    db_connection: sqlite:///{place}/auth.db
    create_tables: yes
    secret: eye
taxii1:
taxii2:
  title: eye
  public_discovery: no
  max_content_length: 104857600
  persistence_api:
    class: opentaxii.persistence.sqldb.Taxii2SQLDatabaseAPI
    parameters:
      db_connection: sqlite:///{place}/data.db
      create_tables: yes
"
    )
}

fn uuid_in(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_hexdigit() || c == '-';
    text.split(|c: char| !is_part(c)).find(|word| word.len() == 36).map(str::to_owned)
}
