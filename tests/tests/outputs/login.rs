//! A sink that is let in when what is wrong is put right.

use std::path::PathBuf;

use sensor_tests::{RunningSinks, captured_logs, wait_until};
use sensor_user::deliver::SinkConfig;
use sensor_user::web::Secret;

use super::start;

/// A file whose first content lets nobody in.
pub(super) struct Place {
    _folder: tempfile::TempDir,
    pub(super) path: PathBuf,
}

impl Place {
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

/// Waits until the sink says `what`, and nothing has got through.
pub(super) fn wait_for_word(running: &RunningSinks, name: &str, what: &str) {
    let said = || captured_logs(&format!("sink={name:?}")).iter().any(|line| line.contains(what));
    wait_until(what, said);
    assert_eq!(running.stats.alerts_delivered.value(), 0);
}

/// An alert waits while `place` has what it has, which the sink tells as `told`; with `right` in it,
/// it goes out. No log line has any of `hidden`.
pub(super) fn let_in_when_right(
    sink: &SinkConfig,
    (place, told): (&Place, &str),
    right: &str,
    hidden: &[&str],
) {
    let running = start(std::slice::from_ref(sink));
    running.alerts(&["a0"]);
    wait_for_word(&running, &sink.name, told);
    std::fs::write(&place.path, right).unwrap();
    wait_until("it is let in", || running.stats.alerts_delivered.value() == 1);
    assert_eq!(running.drain().1, []);
    for secret in hidden {
        assert_eq!(captured_logs(secret), Vec::<String>::new());
    }
}
