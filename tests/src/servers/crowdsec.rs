//! `CrowdSec`'s Local API (Debian's), without its agent and without its Central API.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::free_port;
use super::medallion::write;
use super::process::{Process, output};

const PROGRAM: &str = "/usr/bin/crowdsec";

/// A Local API with one bouncer.
#[derive(Debug)]
pub struct CrowdSec {
    folder: TempDir,
    port: u16,
    key: String,
    process: Option<Process>,
}

impl CrowdSec {
    /// Starts it; `None` where it is not installed.
    pub fn start() -> Option<Self> {
        if !Path::new(PROGRAM).is_file() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let place = folder.path();
        std::fs::create_dir(place.join("data")).expect("a folder");
        write(
            place,
            "credentials.yaml",
            &format!("url: http://127.0.0.1:{port}/\nlogin: eye\npassword: eye"),
        );
        write(place, "profiles.yaml", "name: none\nfilters:\n - \"false\"\non_success: break");
        write(place, "simulation.yaml", "simulation: off");
        let config = config(&place.display().to_string(), port);
        std::fs::write(place.join("lapi.yaml"), config).expect("written");
        let mut server = Self { folder, port, key: String::new(), process: None };
        output(
            server
                .cscli(&["machines", "add", "eye", "--password", "eye", "--force"])
                .arg("-f")
                .arg(server.folder.path().join("credentials.yaml"))
                .arg("-u")
                .arg(server.url()),
        );
        server.restart();
        server.key = server.bouncer("eye");
        Some(server)
    }

    fn cscli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/cscli");
        command.arg("-c").arg(self.folder.path().join("lapi.yaml")).args(arguments);
        command
    }

    /// Ends it, where it runs.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Ends it, where it runs, and starts it anew; what it has it keeps.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(self.folder.path().join("lapi.yaml")).arg("-no-cs");
        let log = self.folder.path().join("log");
        self.process = Some(Process::start(&mut command, &log, self.port));
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Makes a bouncer and returns its key.
    pub fn bouncer(&self, name: &str) -> String {
        let text = output(&mut self.cscli(&["bouncers", "add", name, "-o", "raw"]));
        text.trim().lines().last().unwrap_or_default().to_owned()
    }

    /// A file with the key of its bouncer.
    pub fn key_file(&self) -> PathBuf {
        write(self.folder.path(), "key", &self.key)
    }

    /// Bans an address or network for four hours.
    pub fn ban(&self, value: &str) {
        let which = if value.contains('/') { "--range" } else { "--ip" };
        output(&mut self.cscli(&["decisions", "add", which, value, "--duration", "4h"]));
    }

    /// Takes the ban of an address back.
    pub fn unban(&self, value: &str) {
        output(&mut self.cscli(&["decisions", "delete", "--ip", value]));
    }
}

fn config(place: &str, port: u16) -> String {
    format!(
        "common:
  daemonize: false
  log_media: stdout
  log_level: info
config_paths:
  config_dir: {place}
  data_dir: {place}/data
  simulation_path: {place}/simulation.yaml
  hub_dir: /etc/crowdsec/hub
  index_path: /etc/crowdsec/hub/.index.json
  notification_dir: {place}
  plugin_dir: {place}
db_config:
  type: sqlite
  db_path: {place}/data/crowdsec.db
  use_wal: true
api:
  client:
    insecure_skip_verify: false
    credentials_path: {place}/credentials.yaml
  server:
    log_level: info
    listen_uri: 127.0.0.1:{port}
    profiles_path: {place}/profiles.yaml
prometheus:
  enabled: false
"
    )
}
