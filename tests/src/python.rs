//! Python with packages from `PyPI`: oracles that read what netsensor reads, independently.
#![expect(clippy::expect_used, reason = "a harness stops where its own machinery fails")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

/// A Python that has `module`: the machine's, or the one that `cargo xtask test` made.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let made = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python/bin/python3");
    let import = format!("import {module}");
    ["python3", made].into_iter().map(PathBuf::from).find(|python| {
        let mut child = Command::new(python);
        let status = child.args(["-c", &import]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    })
}

/// What the script `name` of `tests/oracles` prints, which is JSON.
pub fn ask_oracle<T: DeserializeOwned>(
    python: &Path,
    name: &str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> T {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles").join(name);
    let mut child = Command::new(python);
    let output = child.arg(script).args(args).output().expect("a Python that was found starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON of an oracle")
}
