//! Common parts of the spool's tests: alerts, and a spool whose thread the test runs.

mod crash;
mod damage;
mod dead_letters;
mod degraded;
mod sim;
mod working_disk;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use self::sim::SimDisk;
use super::reader::{ReadPosition, read_disk, read_memory};
use super::shared::SpoolShared;
use super::writer::SpoolWriter;
use super::{BatchLimit, Commit, RecoveredState, Spool, SpoolConfig, SpoolStatus, StoredAlert};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::pipeline::dedup::Alert;
use crate::pipeline::dedup::DedupState;

/// Alert with the id `id`.
fn alert(id: u64) -> Arc<Alert> {
    static SAMPLE: std::sync::OnceLock<Alert> = std::sync::OnceLock::new();
    let sample = SAMPLE.get_or_init(|| {
        let command_line = "a \"b\"\n\u{1b}".to_owned();
        Alert { command_line, ..Alert::sample() }
    });
    Arc::new(Alert { alert_id: id.to_string(), ..sample.clone() })
}

/// Id of an alert.
fn id(stored: &StoredAlert) -> u64 {
    stored.alert.alert_id.parse().unwrap()
}

/// Snapshot for a commit.
#[expect(clippy::unnecessary_wraps, reason = "type of the field")]
fn snapshot(number: u8) -> Option<DedupState> {
    Some(DedupState::Snapshot(vec![number]))
}

/// Change for a commit.
#[expect(clippy::unnecessary_wraps, reason = "type of the field")]
fn change(number: u8) -> Option<DedupState> {
    Some(DedupState::Change(vec![number]))
}

/// Clock that the test advances.
#[derive(Debug, Clone)]
struct TestClock(Arc<std::sync::atomic::AtomicI64>);

impl TestClock {
    fn new() -> Self {
        Self(Arc::new(1_800_000_000.into()))
    }

    fn advance(&self, secs: i64) {
        self.0.fetch_add(secs, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(std::sync::atomic::Ordering::Relaxed)).unwrap()
    }
}

const SINKS: [&str; 2] = ["a", "b"];

/// Small segments, so that tests have several.
const SMALL: SpoolConfig = SpoolConfig {
    max_bytes: 1 << 20,
    max_age: Duration::from_hours(24),
    segment_bytes: 4 << 10,
    queue: 1000,
};

/// Spool on a simulated disk, whose thread the test runs.
#[derive(Debug)]
struct DrivenSpool {
    disk: SimDisk,
    config: SpoolConfig,
    clock: TestClock,
    stats: Arc<Stats>,
    writer: SpoolWriter,
    spool: Spool,
    now: Instant,
}

impl DrivenSpool {
    fn open(disk: &SimDisk, config: &SpoolConfig) -> (Self, RecoveredState) {
        Self::open_with(disk, config, TestClock::new(), Arc::default(), &SINKS)
    }

    fn open_with(
        disk: &SimDisk,
        config: &SpoolConfig,
        clock: TestClock,
        stats: Arc<Stats>,
        sinks: &[&str],
    ) -> (Self, RecoveredState) {
        let sinks: Vec<String> = sinks.iter().map(|&name| name.to_owned()).collect();
        let (storage, spool_clock) = (Arc::new(disk.clone()), Arc::new(clock.clone()));
        let (writer, recovered) = SpoolWriter::open(storage, config, &sinks, spool_clock, &stats);
        let (disk, config, spool) = (disk.clone(), config.clone(), Spool::from_writer(&writer));
        (Self { disk, config, clock, stats, writer, spool, now: Instant::now() }, recovered)
    }

    /// Opens the folder again, as the next run does.
    fn reopen(self) -> (Self, RecoveredState) {
        Self::open_with(&self.disk, &self.config, self.clock, self.stats, &SINKS)
    }

    /// Puts a commit and runs the writer.
    fn put(&mut self, ids: impl IntoIterator<Item = u64>, state: Option<DedupState>) -> u64 {
        let alerts = ids.into_iter().map(alert).collect();
        let number = self.spool.put(Commit { alerts, state });
        self.run_once();
        number
    }

    /// Runs the writer until the queue is empty.
    fn run_once(&mut self) {
        loop {
            let taken = self.writer.shared.queue().take();
            self.writer.run_once(taken, self.now);
            if self.writer.shared.queue().commits.is_empty() {
                break;
            }
        }
    }

    /// Advances the time and runs the writer.
    fn advance(&mut self, secs: u32) {
        self.now += Duration::from_secs(secs.into());
        self.clock.advance(secs.into());
        self.run_once();
    }

    fn status(&self) -> SpoolStatus {
        self.spool.status()
    }

    /// Alerts that `sink` has not acknowledged.
    fn pending_alerts(&self, sink: &str) -> Vec<StoredAlert> {
        let at = self.status().sinks.iter().find(|it| it.name == sink).unwrap().cursor;
        read_from(&self.writer.shared, at)
    }

    fn pending_ids(&self, sink: &str) -> Vec<u64> {
        self.pending_alerts(sink).iter().map(id).collect()
    }

    fn acknowledge(&mut self, sink: &str, until: u64) {
        self.spool.reader(sink).unwrap().acknowledge(until);
        self.run_once();
    }
}

/// All alerts from the number `next` on, in several batches as a reader gets them.
fn read_from(shared: &SpoolShared, next: u64) -> Vec<StoredAlert> {
    let limit = BatchLimit { alerts: 3, bytes: 4000 };
    let (mut all, mut position) = (Vec::new(), ReadPosition::from(next));
    loop {
        if position.next >= shared.index().readable {
            return all;
        }
        let batch = match read_memory(shared, position.next, limit) {
            Some(batch) => batch,
            None => read_disk(shared, position, limit).unwrap(),
        };
        let is_progress = batch.position.next > position.next || batch.alerts.is_empty();
        assert!(is_progress, "{batch:?} at {position:?}");
        all.extend(batch.alerts);
        position = batch.position;
    }
}
