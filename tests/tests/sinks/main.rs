//! Sinks, each against a real server of its protocol where there is one, else against a fake of
//! ours: what arrives is compared with what was raised.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends with a panic"
)]

mod azure;
mod elastic;
mod otlp;
mod partly;
mod reach;
mod splunk;

use std::time::Duration;

use sensor_tests::{alert, row};
use sensor_user::clock::FixedClock;
use sensor_user::deliver::{Leftover, SinkConfig, SinkKind};
use sensor_user::notice::{Loss, Notice};
use tokio::time::Instant;

/// One running sink.
struct Running(sensor_tests::Running);

impl Running {
    fn start(sink: SinkConfig) -> Self {
        let clock = FixedClock("2026-11-24T10:00:00Z".parse().unwrap());
        Self(sensor_tests::Running::start(&[sink], clock))
    }

    fn alerts(&self, ids: &[&str]) {
        self.0.outbox.alerts(ids.iter().map(|id| alert(id)).collect(), None);
    }

    fn rows(&self, ids: &[&str]) {
        self.0.outbox.rows(ids.iter().map(|id| row(id)).collect());
    }

    /// The agent says that it has lost something.
    fn loss(&self) {
        let time = "2026-11-24T09:59:00Z".parse().unwrap();
        self.0.outbox.notice(Notice::Loss(Loss {
            time_generated: time,
            computer: "web01".to_owned(),
            agent_id: "agent".to_owned(),
            first_seen: time,
            last_seen: time,
            reason: "ring_full".to_owned(),
            kind: "tcp".to_owned(),
            count: 7,
        }));
    }

    /// The counter of that name.
    fn value(&self, name: &str) -> u64 {
        let snapshot = self.0.stats.snapshot();
        snapshot.iter().find(|(counter, _)| *counter == name).map(|(_, value)| *value).unwrap()
    }

    /// Ends the sink within 10 s; the counters by name, and what was left.
    fn drain(self) -> (impl Fn(&str) -> u64, Vec<Leftover>) {
        self.0.drain()
    }
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
