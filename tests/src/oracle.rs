//! Test oracles (`tests/oracles`): scripts that read netsensor's input with independent programs.
#![expect(clippy::expect_used, reason = "a harness stops where its own machinery fails")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde::de::DeserializeOwned;

/// Runs the script `name` of `tests/oracles` and parses its JSON output.
pub fn run_oracle<T: DeserializeOwned>(
    python: &Path,
    name: &str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> T {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles").join(name);
    let mut child = Command::new(python);
    let output = child.arg(script).args(args).output().expect("a Python that was found starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {stderr}");
    serde_json::from_slice(&output.stdout).expect("JSON of an oracle")
}
