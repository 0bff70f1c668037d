//! Skips a test visibly, and not at all where CI must run everything.
#![expect(clippy::panic, clippy::expect_used, reason = "a test ends with a panic")]

use std::io::Write as _;

/// Whether the running test must return because `condition` does not hold.
///
/// Prints `SKIPPED test: why` past libtest's capture and appends that line to the file that
/// `NETSENSOR_SKIP_LOG` names. With `CI=true` in the environment it panics instead: there, a test
/// that cannot run is a failure.
#[must_use]
pub fn skip_unless(condition: bool, why: &str) -> bool {
    if condition {
        return false;
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test} cannot run: {why}");
    let line = format!("SKIPPED {test}: {why}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).expect("standard output");
    if let Some(path) = std::env::var_os("NETSENSOR_SKIP_LOG") {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut log| log.write_all(line.as_bytes()))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    true
}
