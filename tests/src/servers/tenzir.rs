//! Tenzir: accepts events in the protocols of other products and writes them as JSON lines.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::process::ServerProcess;
use super::{free_port, server_python, site_packages};

/// Running Tenzir pipeline with one listener.
#[derive(Debug)]
pub struct Tenzir {
    folder: TempDir,
    port: u16,
    _process: ServerProcess,
}

impl Tenzir {
    /// Starts the pipeline that `accept` returns for an address, such as
    /// `accept_otlp "127.0.0.1:4318"`. `None` if Tenzir is not installed.
    pub fn start(accept: impl FnOnce(&str) -> String) -> Option<Self> {
        let program = tenzir_binary()?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let pipeline = format!("{}\nwrite_ndjson", accept(&format!("127.0.0.1:{port}")));
        let mut command = Command::new(program);
        command.arg(pipeline).env("HOME", folder.path()).current_dir(folder.path());
        let process = ServerProcess::start(&mut command, &folder.path().join("log"), port);
        Some(Self { folder, port, _process: process })
    }

    /// URL of the listener.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Events received so far.
    pub fn received_events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        // The last line may be incomplete.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Path of the Tenzir binary; `None` if it is not installed.
pub fn tenzir_binary() -> Option<PathBuf> {
    let site = site_packages(&server_python("tenzir")?)?;
    Some(site.join("tenzir/bundled/bin/tenzir"))
}

/// Output of a pipeline.
#[derive(Debug)]
pub struct TenzirOutput {
    /// Parsed JSON lines of standard output.
    pub lines: Vec<Value>,
    /// Warnings and errors on standard error.
    pub diagnostics: String,
}

/// Runs `operators` over the JSON lines of the file at `path`.
pub fn run_tenzir(program: &Path, path: &Path, operators: &str) -> TenzirOutput {
    let pipeline =
        format!("from_file \"{}\" {{ read_ndjson }}\n{operators}\nwrite_ndjson", path.display());
    let output = Command::new(program)
        .arg(&pipeline)
        .stdin(Stdio::null())
        .output()
        .expect("a Tenzir that was found starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    TenzirOutput { lines, diagnostics: String::from_utf8_lossy(&output.stderr).into_owned() }
}
