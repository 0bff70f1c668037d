//! `CrowdSec`'s Local API (Debian's package), without the `CrowdSec` agent and the Central API.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::free_port;
use super::medallion::write;
use super::process::{ServerProcess, run_checked};

const PROGRAM: &str = "/usr/bin/crowdsec";

/// Local API with one bouncer.
#[derive(Debug)]
pub struct CrowdSec {
    folder: TempDir,
    port: u16,
    key: String,
    process: Option<ServerProcess>,
}

impl CrowdSec {
    /// Starts the server; `None` if it is not installed.
    pub fn start() -> Option<Self> {
        if !Path::new(PROGRAM).is_file() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let directory = folder.path();
        std::fs::create_dir(directory.join("data")).expect("a folder");
        write(
            directory,
            "credentials.yaml",
            &format!("url: http://127.0.0.1:{port}/\nlogin: sensor\npassword: sensor"),
        );
        write(directory, "profiles.yaml", "name: none\nfilters:\n - \"false\"\non_success: break");
        write(directory, "simulation.yaml", "simulation: off");
        let config = config(&directory.display().to_string(), port);
        std::fs::write(directory.join("lapi.yaml"), config).expect("written");
        let mut server = Self { folder, port, key: String::new(), process: None };
        run_checked(
            server
                .cscli(&["machines", "add", "sensor", "--password", "sensor", "--force"])
                .arg("-f")
                .arg(server.folder.path().join("credentials.yaml"))
                .arg("-u")
                .arg(server.url()),
        );
        server.restart();
        server.key = server.add_bouncer("sensor");
        Some(server)
    }

    fn cscli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/cscli");
        command.arg("-c").arg(self.folder.path().join("lapi.yaml")).args(arguments);
        command
    }

    /// Stops the server if it is running.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Restarts the server, with its stored data.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(self.folder.path().join("lapi.yaml")).arg("-no-cs");
        let log = self.folder.path().join("log");
        self.process = Some(ServerProcess::start(&mut command, &log, self.port));
    }

    /// Base URL of the server.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Adds a bouncer and returns its API key.
    pub fn add_bouncer(&self, name: &str) -> String {
        let text = run_checked(&mut self.cscli(&["bouncers", "add", name, "-o", "raw"]));
        text.trim().lines().last().unwrap_or_default().to_owned()
    }

    /// Path of a file with the bouncer's API key.
    pub fn key_file(&self) -> PathBuf {
        write(self.folder.path(), "key", &self.key)
    }

    /// Bans an address or network for four hours.
    pub fn ban(&self, value: &str) {
        let option = if value.contains('/') { "--range" } else { "--ip" };
        run_checked(&mut self.cscli(&["decisions", "add", option, value, "--duration", "4h"]));
    }

    /// Adds a decision of the type `action` in any scope, for four hours.
    pub fn decide(&self, scope: &str, value: &str, action: &str) {
        let words = ["decisions", "add", "--scope", scope, "--value", value, "--type", action];
        run_checked(self.cscli(&words).args(["--duration", "4h"]));
    }

    /// Imports a ban of an address for a day, as of another origin than [`Self::ban`].
    pub fn import(&self, value: &str) {
        let rows = format!(
            r#"[{{"duration":"24h","scope":"ip","value":"{value}","type":"ban","reason":"community"}}]"#
        );
        let path = write(self.folder.path(), "import.json", &rows);
        run_checked(self.cscli(&["decisions", "import", "-i"]).arg(path));
    }

    /// Deletes a decision. Their ids count from 1.
    pub fn lift(&self, id: u32) {
        run_checked(&mut self.cscli(&["decisions", "delete", "--id", &id.to_string()]));
    }

    /// Deletes the ban of an address.
    pub fn unban(&self, value: &str) {
        run_checked(&mut self.cscli(&["decisions", "delete", "--ip", value]));
    }
}

fn config(directory: &str, port: u16) -> String {
    format!(
        "common:
  daemonize: false
  log_media: stdout
  log_level: info
config_paths:
  config_dir: {directory}
  data_dir: {directory}/data
  simulation_path: {directory}/simulation.yaml
  hub_dir: /etc/crowdsec/hub
  index_path: /etc/crowdsec/hub/.index.json
  notification_dir: {directory}
  plugin_dir: {directory}
db_config:
  type: sqlite
  db_path: {directory}/data/crowdsec.db
  use_wal: true
api:
  client:
    insecure_skip_verify: false
    credentials_path: {directory}/credentials.yaml
  server:
    log_level: info
    listen_uri: 127.0.0.1:{port}
    profiles_path: {directory}/profiles.yaml
prometheus:
  enabled: false
"
    )
}
