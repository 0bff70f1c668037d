//! Sinks, each against a real server of its protocol where there is one, else against a fake of
//! ours: what arrives is compared with what was raised.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

mod azure;
mod elastic;
mod otlp;
mod reach;
mod splunk;

use std::time::Duration;

use sensor_tests::Running;
use sensor_user::clock::FixedClock;
use sensor_user::deliver::{SinkConfig, SinkKind};
use tokio::time::Instant;

fn start(sink: SinkConfig) -> Running {
    Running::start(&[sink], FixedClock("2026-11-24T10:00:00Z".parse().unwrap()))
}

/// A sink of alerts and rows.
fn sink(name: &str, kind: SinkKind) -> SinkConfig {
    SinkConfig { rows: true, queue: 1000, ..SinkConfig::new(name.to_owned(), kind) }
}

/// Waits until `there` is true; panics when it is not within 20 s.
fn wait_until(what: &str, there: impl Fn() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !there() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
    }
}
