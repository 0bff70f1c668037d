//! Sink output, compared with the contents of real receivers: each raised item is found there,
//! field by field.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends with a panic")]

mod cef;
mod community_id;
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
use sensor_user::base::clock::SystemClock;
use sensor_user::deliver::{FileConfig, Format, SinkConfig, SinkKind};
use sensor_user::pipeline::dedup::Alert;
use serde_json::Value;

fn start(sinks: &[SinkConfig]) -> RunningSinks {
    RunningSinks::start(sinks, SystemClock)
}

/// Raises all items: alerts, rows of every table, health and loss records.
fn raise_all(running: &RunningSinks) {
    running.outbox.alerts(items::alerts(), None);
    running.outbox.rows(items::rows());
    for event in items::events() {
        running.outbox.agent_event(event);
    }
}

/// A sink for alerts, rows, health and loss records.
fn sink_for_all(name: &str, kind: SinkKind, format: Format) -> SinkConfig {
    SinkConfig { rows: true, format, ..SinkConfig::new(name.to_owned(), kind) }
}

/// Writes `alerts` with a file sink in CEF; returns the text of the file.
fn written_cef(alerts: Vec<Alert>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts");
    let kind = SinkKind::File(FileConfig::new(path.clone()));
    let sink = SinkConfig { format: Format::Cef, ..SinkConfig::new("cef".to_owned(), kind) };
    let running = start(&[sink]);
    running.outbox.alerts(alerts, None);
    assert_eq!(running.drain().1, []);
    std::fs::read_to_string(&path).unwrap()
}

/// Writes all items with a file sink in `format`; returns the file's directory and its lines.
fn written(format: Format) -> (tempfile::TempDir, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    let kind = SinkKind::File(FileConfig::new(path.clone()));
    let running = start(&[sink_for_all("file", kind, format)]);
    raise_all(&running);
    assert_eq!(running.drain().1, []);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (folder, lines)
}
