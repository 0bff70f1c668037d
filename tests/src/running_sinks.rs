//! Runs sinks in this process, behind a spool in a temporary directory.
#![expect(clippy::expect_used, reason = "a test ends with a panic")]

use std::sync::Arc;
use std::time::Duration;

use sensor_user::base::clock::Clock;
use sensor_user::base::counters::Stats;
use sensor_user::deliver::spool::SpoolConfig;
use sensor_user::deliver::{Deliverer, Delivery, Leftover, Outbox, RetryPolicy, SinkConfig};
use sensor_user::schema::agent_event::{AgentEvent, Loss};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::{captured_logs, sample_alert, sample_row};

/// Running sinks and the handles that a test needs.
#[derive(Debug)]
pub struct RunningSinks {
    /// Runtime of the sinks.
    pub runtime: Runtime,
    /// Queue for alerts and rows.
    pub outbox: Outbox,
    /// Handle that drains and stops the sinks.
    pub deliverer: Deliverer,
    /// Counters of the sinks.
    pub stats: Arc<Stats>,
    /// Directory of the spool.
    pub spool: TempDir,
}

impl RunningSinks {
    /// Retry delays of the tests; short, to keep the tests fast.
    pub const RETRY: RetryPolicy = RetryPolicy {
        retry_first: Duration::from_millis(20),
        retry_max: Duration::from_millis(100),
    };

    /// Starts the sinks with this clock, and the log capture of [`captured_logs`].
    pub fn start(sinks: &[SinkConfig], clock: impl Clock + 'static) -> Self {
        let spool = tempfile::tempdir().expect("a folder");
        Self::start_in(spool, &SpoolConfig::USUAL, sinks, clock)
    }

    /// Starts the sinks with a spool that may contain alerts of an earlier run.
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
        let delivery = Delivery { sinks, folder: spool.path(), spool: config, retry: Self::RETRY };
        let started = Deliverer::start(delivery, &stats, &clock);
        let (outbox, deliverer, _leftover) = started.expect("sinks that start");
        drop(entered);
        Self { runtime, outbox, deliverer, stats, spool }
    }

    /// Puts an alert with each of these ids into the outbox.
    pub fn alerts(&self, ids: &[&str]) {
        for id in ids {
            self.outbox.alerts(vec![sample_alert(id)], None);
        }
    }

    /// Puts a row with each of these ids into the outbox.
    pub fn rows(&self, ids: &[&str]) {
        self.outbox.rows(ids.iter().map(|id| sample_row(id)).collect());
    }

    /// Puts a loss event into the outbox.
    pub fn report_loss(&self) {
        let time = "2026-11-24T09:59:00Z".parse().expect("a time");
        self.outbox.agent_event(AgentEvent::Loss(Loss {
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

    /// Value of the counter `name`.
    pub fn value(&self, name: &str) -> u64 {
        let counter = self.stats.snapshot().find(|(counter, _)| counter.name == name);
        counter.map(|(_, value)| value).expect("a counter")
    }

    /// Drains the sinks within 10 s. Returns their counters by name, and the undelivered items.
    pub fn drain(self) -> (impl Fn(&str) -> u64, Vec<Leftover>) {
        let left = self.runtime.block_on(self.deliverer.drain(Duration::from_secs(10)));
        let snapshot: Vec<_> = self.stats.snapshot().collect();
        let value = move |name: &str| {
            let counter = snapshot.iter().find(|(counter, _)| counter.name == name);
            counter.map(|(_, value)| *value).expect("a counter")
        };
        (value, left)
    }
}

/// Waits until `is_met` returns true. Panics after 30 s. It blocks: not for use in a runtime.
pub fn wait_until(condition: &str, is_met: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_met() {
        assert!(Instant::now() < deadline, "not within 30 s: {condition}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
