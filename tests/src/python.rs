//! Finds a Python interpreter for the tests that compare with Python programs.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Python interpreter with `module`: the system's, or that of the venv of `cargo xtask test`.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let venv = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python/bin/python3");
    ["python3", venv].into_iter().map(PathBuf::from).find(|python| {
        let mut child = Command::new(python);
        let status = child.args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    })
}
