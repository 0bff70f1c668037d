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
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!ci, "{} cannot run: {why}", test());
    say(why);
    true
}

/// As [`skip_unless`], for what is a part of some kernels only: in CI too it is no failure.
#[must_use]
pub fn skip_without(part_of_kernel: bool, why: &str) -> bool {
    if !part_of_kernel {
        say(why);
    }
    !part_of_kernel
}

/// Name of the running test.
fn test() -> String {
    std::thread::current().name().unwrap_or("test").to_owned()
}

fn say(why: &str) {
    let line = format!("SKIPPED {}: {why}\n", test());
    std::io::stdout().lock().write_all(line.as_bytes()).expect("standard output");
    if let Some(path) = std::env::var_os("NETSENSOR_SKIP_LOG") {
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut log| log.write_all(line.as_bytes()))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{skip_unless, skip_without};

    /// In a process of its own (this test, started again), because the environment decides.
    #[test]
    fn a_skip_is_printed_and_logged_and_is_a_failure_in_ci() {
        const CHILD: &str = "NETSENSOR_TEST_SKIP";
        const PART: &str = "NETSENSOR_TEST_SKIP_PART";
        if std::env::var_os(CHILD).is_some() {
            assert!(skip_unless(false, "no such device"));
            return;
        }
        if std::env::var_os(PART).is_some() {
            assert!(skip_without(false, "no such device"));
            return;
        }
        assert!(!skip_unless(true, "never said") && !skip_without(true, "never said"));
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("skipped");
        let name = "skip::tests::a_skip_is_printed_and_logged_and_is_a_failure_in_ci";
        let line = format!("SKIPPED {name}: no such device\n");
        for (which, ci, passes, lines) in
            [(CHILD, "", true, 1), (CHILD, "true", false, 1), (PART, "true", true, 2)]
        {
            let mut child = Command::new(std::env::current_exe().unwrap());
            let child = child.args(["--exact", name]).env(which, "1").env("CI", ci);
            let output = child.env("NETSENSOR_SKIP_LOG", &log).output().unwrap();
            assert_eq!(output.status.success(), passes, "{which} CI={ci}");
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(printed.contains(&line), passes, "{printed}");
            assert_eq!(std::fs::read_to_string(&log).unwrap(), line.repeat(lines), "{which}");
        }
    }
}
