//! Tenzir, which takes events in the protocols of others and writes them as lines of JSON.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::process::Process;
use super::{free_port, python_of, site_packages};

/// A pipeline with one listener.
#[derive(Debug)]
pub struct Tenzir {
    folder: TempDir,
    port: u16,
    _process: Process,
}

impl Tenzir {
    /// Starts what `accept` makes of an address, such as `accept_otlp "127.0.0.1:4318"`; `None` where
    /// it is not installed.
    pub fn start(accept: impl FnOnce(&str) -> String) -> Option<Self> {
        let program = tenzir_binary()?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let pipeline = format!("{}\nwrite_ndjson", accept(&format!("127.0.0.1:{port}")));
        let mut command = Command::new(program);
        command.arg(pipeline).env("HOME", folder.path()).current_dir(folder.path());
        let process = Process::start(&mut command, &folder.path().join("log"), port);
        Some(Self { folder, port, _process: process })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// What has come so far.
    pub fn received_events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        // The last line may not be whole yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// The program; `None` where it is not installed.
pub fn tenzir_binary() -> Option<PathBuf> {
    let site = site_packages(&python_of("tenzir")?)?;
    Some(site.join("tenzir/bundled/bin/tenzir"))
}

/// What a pipeline printed, and what it warned of.
#[derive(Debug)]
pub struct TenzirOutput {
    /// JSON lines.
    pub lines: Vec<Value>,
    /// Warnings and errors, as text.
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
