//! Tenzir: pipelines that read what a sink wrote as a security team's receiver would.
#![expect(clippy::expect_used, reason = "a harness stops where its machinery fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program `tenzir`; `None` where it is not installed.
pub fn tenzir() -> Option<PathBuf> {
    let home = super::process::home_of("tenzir")?;
    let found = super::process::in_packages(&home, "tenzir/bundled/bin/tenzir");
    found.filter(|path| path.is_file())
}

/// What a pipeline printed, and what it warned of.
#[derive(Debug)]
pub struct Read {
    /// JSON lines.
    pub lines: Vec<serde_json::Value>,
    /// Warnings and errors, as text.
    pub said: String,
}

/// Runs `operators` over the JSON lines of the file at `path`.
pub fn read_with_tenzir(program: &Path, path: &Path, operators: &str) -> Read {
    let pipeline =
        format!("from_file \"{}\" {{ read_ndjson }}\n{operators}\nwrite_ndjson", path.display());
    let output = Command::new(program)
        .arg(&pipeline)
        .stdin(Stdio::null())
        .output()
        .expect("a Tenzir that was found starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    Read { lines, said: String::from_utf8_lossy(&output.stderr).into_owned() }
}
