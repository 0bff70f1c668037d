//! Sinks, each against a real server of its protocol where there is one, else against a fake of
//! ours: what arrives is compared with what was raised.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

mod azure;
mod elastic;
mod otlp;
mod reach;
mod splunk;

use std::sync::Arc;
use std::time::Duration;

use sensor_tests::{alert, logged, row};
use sensor_user::clock::{Clock, FixedClock};
use sensor_user::deliver::{Deliverer, Leftover, Outbox, Pace, SinkConfig, SinkKind};
use sensor_user::notice::{Loss, Notice};
use sensor_user::stats::Stats;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Waits of the tests: short, so that no test takes long.
const PACE: Pace = Pace {
    row_wait: Duration::from_millis(300),
    retry_first: Duration::from_millis(20),
    retry_most: Duration::from_millis(100),
};

/// One running sink.
struct Running {
    runtime: Runtime,
    outbox: Outbox,
    deliverer: Deliverer,
    stats: Arc<Stats>,
}

impl Running {
    fn start(sink: SinkConfig) -> Self {
        let _collecting = logged("");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let stats = Arc::new(Stats::default());
        let clock: Arc<dyn Clock> = Arc::new(FixedClock("2026-11-24T10:00:00Z".parse().unwrap()));
        let entered = runtime.enter();
        let (outbox, deliverer) = Deliverer::start(&[sink], PACE, &stats, &clock).unwrap();
        drop(entered);
        Self { runtime, outbox, deliverer, stats }
    }

    fn alerts(&self, ids: &[&str]) {
        for id in ids {
            self.outbox.alerts(alert(id));
        }
    }

    fn rows(&self, ids: &[&str]) {
        self.outbox.rows(ids.iter().map(|id| row(id)).collect());
    }

    /// The agent says that it has lost something.
    fn loss(&self) {
        let time = "2026-11-24T09:59:00Z".parse().unwrap();
        self.outbox.notice(Notice::Loss(Loss {
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
        value(&self.stats, name)
    }

    /// Ends the sink within 10 s; the counters by name, and what was left.
    fn drain(self) -> (impl Fn(&str) -> u64, Vec<Leftover>) {
        let left = self.runtime.block_on(self.deliverer.drain(Duration::from_secs(10)));
        let stats = self.stats;
        (move |name: &str| value(&stats, name), left)
    }
}

fn value(stats: &Stats, name: &str) -> u64 {
    let snapshot = stats.snapshot();
    snapshot.iter().find(|(counter, _)| *counter == name).map(|(_, value)| *value).unwrap()
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
