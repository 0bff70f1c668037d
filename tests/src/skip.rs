//! Skips a test with a visible message. In CI a skip is a failure.
#![expect(clippy::panic, clippy::expect_used, reason = "a test ends with a panic")]

use std::io::Write as _;

/// True if the running test must return because `condition` is false.
///
/// Prints `SKIPPED <test>: <reason>`, bypassing libtest's output capture, and appends the line to
/// the file named by `NETSENSOR_SKIP_LOG`. With `CI=true` in the environment it panics instead:
/// there, a test that cannot run is a failure.
#[must_use]
pub fn skip_unless(condition: bool, reason: &str) -> bool {
    if condition {
        return false;
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test} cannot run: {reason}");
    report(test, reason);
    true
}

/// True if the running test must return because this machine's kernel lacks `feature`. This is no
/// failure in CI either, since it cannot be installed. `cargo xtask vm` has kernels with it.
#[must_use]
pub fn skip_unless_kernel_has(is_present: bool, feature: &str) -> bool {
    if !is_present {
        let thread = std::thread::current();
        report(thread.name().unwrap_or("test"), &format!("this kernel has no {feature}"));
    }
    !is_present
}

fn report(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}\n");
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

    /// Runs this test again in child processes, because the outcome depends on the environment.
    #[test]
    fn a_skip_is_printed_and_logged_and_is_a_failure_in_ci() {
        const CHILD: &str = "NETSENSOR_TEST_SKIP";
        const FEATURE: &str = "NETSENSOR_TEST_SKIP_FEATURE";
        if std::env::var_os(CHILD).is_some() {
            assert!(skip_unless(false, "no such device"));
            return;
        }
        if std::env::var_os(FEATURE).is_some() {
            assert!(skip_unless_kernel_has(false, "such device"));
            return;
        }
        assert!(
            !skip_unless(true, "never printed") && !skip_unless_kernel_has(true, "never printed")
        );
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("skipped");
        let name = "skip::tests::a_skip_is_printed_and_logged_and_is_a_failure_in_ci";
        let line = |reason: &str| format!("SKIPPED {name}: {reason}\n");
        let (device, feature) = (line("no such device"), line("this kernel has no such device"));
        for (variable, ci, passes, message, logged) in [
            (CHILD, "", true, &device, device.clone()),
            (CHILD, "true", false, &device, device.clone()),
            (FEATURE, "true", true, &feature, format!("{device}{feature}")),
        ] {
            let mut child = Command::new(std::env::current_exe().unwrap());
            let child = child.args(["--exact", name]).env(variable, "1").env("CI", ci);
            let output = child.env("NETSENSOR_SKIP_LOG", &log).output().unwrap();
            assert_eq!(output.status.success(), passes, "{variable} CI={ci}");
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(printed.contains(message), passes, "{printed}");
            assert_eq!(std::fs::read_to_string(&log).unwrap(), logged, "{variable}");
        }
    }
}
