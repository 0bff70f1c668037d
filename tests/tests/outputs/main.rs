//! What a sink sends, against what real receivers make of it: each item that was raised is found
//! there, field by field.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a suite stops where its machinery fails")]

mod documented;
mod ecs;
mod items;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod kafka_login;
mod login;
mod nats;
mod nats_login;
mod ocsf;
mod syslog;

use sensor_tests::{RunningSinks, wait_until};
use sensor_user::clock::SystemClock;
use sensor_user::deliver::{FileConfig, Format, SinkConfig, SinkKind};
use serde_json::Value;

fn start(sinks: &[SinkConfig]) -> RunningSinks {
    RunningSinks::start(sinks, SystemClock)
}

/// Raises everything that there is: alerts, rows of every table, notices.
fn raise_all(running: &RunningSinks) {
    running.outbox.alerts(items::alerts(), None);
    running.outbox.rows(items::rows());
    for notice in items::notices() {
        running.outbox.notice(notice);
    }
}

/// A sink of alerts, rows and notices.
fn of_all(name: &str, kind: SinkKind, format: Format) -> SinkConfig {
    SinkConfig { rows: true, format, ..SinkConfig::new(name.to_owned(), kind) }
}

/// What a file sink writes of everything in `format`: the file, and its lines by their ids.
fn written(format: Format) -> (tempfile::TempDir, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    let kind = SinkKind::File(FileConfig::new(path.clone()));
    let running = start(&[of_all("file", kind, format)]);
    raise_all(&running);
    assert_eq!(running.drain().1, []);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (folder, lines)
}
