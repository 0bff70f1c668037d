//! Sinks, each against a real server of its protocol where one exists, else against a fake server.
//! The received items are compared with the raised ones.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends with a panic"
)]

mod azure;
mod certificate;
mod elastic;
mod login;
mod otlp;
mod partial_acceptance;
mod splunk;

use sensor_tests::{RunningSinks, wait_until};
use sensor_user::base::clock::FixedClock;
use sensor_user::deliver::{SinkConfig, SinkKind};

fn start(sink: SinkConfig) -> RunningSinks {
    RunningSinks::start(&[sink], FixedClock("2026-11-24T10:00:00Z".parse().unwrap()))
}

/// A sink for alerts and rows.
fn sink(name: &str, kind: SinkKind) -> SinkConfig {
    SinkConfig { rows: true, queue: 1000, ..SinkConfig::new(name.to_owned(), kind) }
}
