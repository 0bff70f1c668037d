//! Logins that fail, and succeed after a correction.

use std::path::PathBuf;

use sensor_tests::{RunningSinks, captured_logs, wait_until};
use sensor_user::deliver::SinkConfig;
use sensor_user::http::Secret;

use super::start;

/// A file with a secret that is wrong at first.
pub(super) struct SecretFile {
    _folder: tempfile::TempDir,
    pub(super) path: PathBuf,
}

impl SecretFile {
    pub(super) fn with(content: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("login");
        std::fs::write(&path, content).unwrap();
        Self { _folder: folder, path }
    }

    pub(super) fn secret(&self) -> Secret {
        Secret::File(self.path.clone())
    }
}

/// Waits until the sink has logged `part`; nothing has been delivered by then.
pub(super) fn wait_for_log(running: &RunningSinks, name: &str, part: &str) {
    let logged = || captured_logs(&format!("sink={name:?}")).iter().any(|line| line.contains(part));
    wait_until(part, logged);
    assert_eq!(running.stats.alerts_delivered.value(), 0);
}

/// Asserts that an alert stays pending with the error `error` while `secret_file` has its first
/// content, and is delivered after `right` is written to it. No log line contains any of `hidden`.
pub(super) fn assert_login_succeeds_after_correction(
    sink: &SinkConfig,
    (secret_file, error): (&SecretFile, &str),
    right: &str,
    hidden: &[&str],
) {
    let running = start(std::slice::from_ref(sink));
    running.alerts(&["a0"]);
    wait_for_log(&running, &sink.name, error);
    std::fs::write(&secret_file.path, right).unwrap();
    wait_until("the login succeeds", || running.stats.alerts_delivered.value() == 1);
    assert_eq!(running.drain().1, []);
    for secret in hidden {
        assert_eq!(captured_logs(secret), Vec::<String>::new());
    }
}
