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
    say(test, why);
    true
}

/// Whether the running test must return because this machine's kernel does not have `part`: no
/// failure in CI either, since nothing can bring it in. `cargo xtask vm` has kernels that do.
#[must_use]
pub fn skip_unless_kernel_has(it_has: bool, part: &str) -> bool {
    if !it_has {
        let thread = std::thread::current();
        say(thread.name().unwrap_or("test"), &format!("this kernel has no {part}"));
    }
    !it_has
}

fn say(test: &str, why: &str) {
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
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{skip_unless, skip_unless_kernel_has};

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
            assert!(skip_unless_kernel_has(false, "such device"));
            return;
        }
        assert!(!skip_unless(true, "never said") && !skip_unless_kernel_has(true, "never said"));
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("skipped");
        let name = "skip::tests::a_skip_is_printed_and_logged_and_is_a_failure_in_ci";
        let line = |why: &str| format!("SKIPPED {name}: {why}\n");
        let (device, part) = (line("no such device"), line("this kernel has no such device"));
        for (which, ci, passes, said, logged) in [
            (CHILD, "", true, &device, device.clone()),
            (CHILD, "true", false, &device, device.clone()),
            (PART, "true", true, &part, format!("{device}{part}")),
        ] {
            let mut child = Command::new(std::env::current_exe().unwrap());
            let child = child.args(["--exact", name]).env(which, "1").env("CI", ci);
            let output = child.env("NETSENSOR_SKIP_LOG", &log).output().unwrap();
            assert_eq!(output.status.success(), passes, "{which} CI={ci}");
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(printed.contains(said), passes, "{printed}");
            assert_eq!(std::fs::read_to_string(&log).unwrap(), logged, "{which}");
        }
    }
}
