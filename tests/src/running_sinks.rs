//! Running sinks, in this process, behind a spool in a folder of their own.
#![expect(clippy::expect_used, reason = "a test ends with a panic")]

use std::sync::Arc;
use std::time::Duration;

use sensor_user::base::clock::Clock;
use sensor_user::base::counters::Stats;
use sensor_user::deliver::spool::SpoolConfig;
use sensor_user::deliver::{Deliverer, Delivery, Leftover, Outbox, Pace, SinkConfig};
use sensor_user::schema::notice::{Loss, Notice};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::{captured_logs, sample_alert, sample_row};

/// Sinks, and what a test holds of them.
#[derive(Debug)]
pub struct RunningSinks {
    /// Where the sinks run.
    pub runtime: Runtime,
    /// Where alerts and rows are put.
    pub outbox: Outbox,
    /// Ends the sinks.
    pub deliverer: Deliverer,
    /// Their counters.
    pub stats: Arc<Stats>,
    /// The folder of the spool.
    pub spool: TempDir,
}

impl RunningSinks {
    /// Waits of tests: short, so that no test takes long.
    pub const PACE: Pace =
        Pace { retry_first: Duration::from_millis(20), retry_most: Duration::from_millis(100) };

    /// Starts them, by this clock. From here on log lines are kept for [`logged`].
    pub fn start(sinks: &[SinkConfig], clock: impl Clock + 'static) -> Self {
        let spool = tempfile::tempdir().expect("a folder");
        Self::start_in(spool, &SpoolConfig::USUAL, sinks, clock)
    }

    /// Starts them with a spool that may have alerts of an earlier run.
    pub fn start_in(
        spool: TempDir,
        config: &SpoolConfig,
        sinks: &[SinkConfig],
        clock: impl Clock + 'static,
    ) -> Self {
        let _collecting = captured_logs("");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let stats = Arc::new(Stats::default());
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let entered = runtime.enter();
        let delivery = Delivery { sinks, folder: spool.path(), spool: config, pace: Self::PACE };
        let started = Deliverer::start(delivery, &stats, &clock);
        let (outbox, deliverer, _nothing) = started.expect("sinks that start");
        drop(entered);
        Self { runtime, outbox, deliverer, stats, spool }
    }

    /// Raises an alert of each of these ids.
    pub fn alerts(&self, ids: &[&str]) {
        for id in ids {
            self.outbox.alerts(vec![sample_alert(id)], None);
        }
    }

    /// Puts a row of each of these ids.
    pub fn rows(&self, ids: &[&str]) {
        self.outbox.rows(ids.iter().map(|id| sample_row(id)).collect());
    }

    /// The agent says that it has lost something.
    pub fn report_loss(&self) {
        let time = "2026-11-24T09:59:00Z".parse().expect("a time");
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
    pub fn value(&self, name: &str) -> u64 {
        let snapshot = self.stats.snapshot();
        let counter = snapshot.iter().find(|(counter, _)| *counter == name);
        counter.map(|(_, value)| *value).expect("a counter")
    }

    /// Ends the sinks within 10 s; their counters by name, and what was left.
    pub fn drain(self) -> (impl Fn(&str) -> u64, Vec<Leftover>) {
        let left = self.runtime.block_on(self.deliverer.drain(Duration::from_secs(10)));
        let snapshot = self.stats.snapshot();
        let value = move |name: &str| {
            let counter = snapshot.iter().find(|(counter, _)| *counter == name);
            counter.map(|(_, value)| *value).expect("a counter")
        };
        (value, left)
    }
}

/// Waits until `there` is true; panics when it is not within 30 s. Not in a runtime.
pub fn wait_until(what: &str, there: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
