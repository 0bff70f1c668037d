//! What a sink sends, against what real receivers make of it: each item that was raised is found
//! there, field by field.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a suite stops where its machinery fails")]

mod documented;
mod ecs;
mod items;
mod ocsf;
mod syslog;

use std::sync::Arc;
use std::time::Duration;

use sensor_tests::logged;
use sensor_user::clock::{Clock, SystemClock};
use sensor_user::deliver::spool::SpoolConfig;
use sensor_user::deliver::{
    Deliverer, Delivery, FileConfig, Format, Leftover, Outbox, Pace, SinkConfig, SinkKind,
};
use sensor_user::stats::Stats;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Waits of the tests: short, so that no test takes long.
const PACE: Pace = Pace {
    row_wait: Duration::from_millis(100),
    retry_first: Duration::from_millis(20),
    retry_most: Duration::from_millis(200),
};

/// Running sinks.
struct Running {
    runtime: Runtime,
    outbox: Outbox,
    deliverer: Deliverer,
    stats: Arc<Stats>,
    _spool: tempfile::TempDir,
}

impl Running {
    fn start(sinks: &[SinkConfig]) -> Self {
        let _collecting = logged("");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let stats = Arc::new(Stats::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entered = runtime.enter();
        let spool = tempfile::tempdir().unwrap();
        let delivery =
            Delivery { sinks, pace: PACE, spool: &SpoolConfig::USUAL, folder: spool.path() };
        let (outbox, deliverer, _) = Deliverer::start(delivery, &stats, &clock).unwrap();
        drop(entered);
        Self { runtime, outbox, deliverer, stats, _spool: spool }
    }

    /// Raises everything that there is: alerts, rows of every table, notices.
    fn raise_all(&self) {
        for alert in items::alerts() {
            self.outbox.alerts(vec![alert], None);
        }
        self.outbox.rows(items::rows());
        for notice in items::notices() {
            self.outbox.notice(notice);
        }
    }

    fn count(&self, name: &str) -> u64 {
        let snapshot = self.stats.snapshot();
        snapshot.iter().find(|(counter, _)| *counter == name).map(|(_, value)| *value).unwrap()
    }

    /// Ends the sinks within 10 s; what was left.
    fn drain(self) -> Vec<Leftover> {
        self.runtime.block_on(self.deliverer.drain(Duration::from_secs(10)))
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
    let running = Running::start(&[of_all("file", kind, format)]);
    running.raise_all();
    assert_eq!(running.drain(), []);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (folder, lines)
}

/// Waits until `there` is true; panics when it is not within 30 s.
fn wait_until(what: &str, there: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
