//! Python, for what is compared with what others wrote in it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A Python that has `module`: the machine's, or the one that `cargo xtask test` made.
pub fn python_with(module: &str) -> Option<PathBuf> {
    let made = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python/bin/python3");
    ["python3", made].into_iter().map(PathBuf::from).find(|python| {
        let mut child = Command::new(python);
        let status = child.args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    })
}
