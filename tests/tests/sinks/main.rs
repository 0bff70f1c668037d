//! Sinks, each against a real server of its protocol where there is one, else against a fake of
//! ours: what arrives is compared with what was raised.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends with a panic"
)]

mod azure;
mod certificate;
mod elastic;
mod otlp;
mod partly;
mod reach;
mod splunk;

use sensor_tests::{RunningSinks, wait_until};
use sensor_user::clock::FixedClock;
use sensor_user::deliver::{SinkConfig, SinkKind};

fn start(sink: SinkConfig) -> RunningSinks {
    RunningSinks::start(&[sink], FixedClock("2026-11-24T10:00:00Z".parse().unwrap()))
}

/// A sink of alerts and rows.
fn sink(name: &str, kind: SinkKind) -> SinkConfig {
    SinkConfig { rows: true, queue: 1000, ..SinkConfig::new(name.to_owned(), kind) }
}
