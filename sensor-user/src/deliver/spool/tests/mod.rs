//! What the tests of the spool share: alerts, and a spool whose thread they are themselves.

mod crash;
mod damage;
mod fault;
mod plain;
mod rejected;
mod sim;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use self::sim::SimDisk;
use super::reader::{from_disk, from_memory};
use super::shared::Shared;
use super::writer::Log;
use super::{Commit, Recovered, Spool, SpoolConfig, SpoolStatus, Stored, thread};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::pipeline::dedup::Alert;
use crate::pipeline::dedup::DedupState;

/// An alert with an id.
fn alert(id: u64) -> Arc<Alert> {
    static SAMPLE: std::sync::OnceLock<Alert> = std::sync::OnceLock::new();
    let sample = SAMPLE.get_or_init(|| {
        let command_line = "a \"b\"\n\u{1b}".to_owned();
        Alert { command_line, ..Alert::sample() }
    });
    Arc::new(Alert { alert_id: id.to_string(), ..sample.clone() })
}

/// The id of an alert.
fn id(stored: &Stored) -> u64 {
    stored.alert.alert_id.parse().unwrap()
}

/// A state for a commit.
#[expect(clippy::unnecessary_wraps, reason = "as a commit has it")]
fn snapshot(number: u8) -> Option<DedupState> {
    Some(DedupState::Snapshot(vec![number]))
}

/// What changed of it.
#[expect(clippy::unnecessary_wraps, reason = "as a commit has it")]
fn change(number: u8) -> Option<DedupState> {
    Some(DedupState::Change(vec![number]))
}

/// Time that a test moves.
#[derive(Debug, Clone)]
struct TestClock(Arc<std::sync::atomic::AtomicI64>);

impl TestClock {
    fn new() -> Self {
        Self(Arc::new(1_800_000_000.into()))
    }

    fn pass(&self, secs: i64) {
        self.0.fetch_add(secs, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(std::sync::atomic::Ordering::Relaxed)).unwrap()
    }
}

const SINKS: [&str; 2] = ["a", "b"];

/// Small, so that segments end soon.
const SMALL: SpoolConfig = SpoolConfig {
    max_bytes: 1 << 20,
    max_age: Duration::from_hours(24),
    segment_bytes: 4 << 10,
    queue: 1000,
};

/// A spool on a simulated disk whose thread is the test.
#[derive(Debug)]
struct Driven {
    disk: SimDisk,
    config: SpoolConfig,
    clock: TestClock,
    stats: Arc<Stats>,
    log: Log,
    spool: Spool,
    now: Instant,
}

impl Driven {
    fn open(disk: &SimDisk, config: &SpoolConfig) -> (Self, Recovered) {
        Self::open_with(disk, config, TestClock::new(), Arc::default(), &SINKS)
    }

    fn open_with(
        disk: &SimDisk,
        config: &SpoolConfig,
        clock: TestClock,
        stats: Arc<Stats>,
        sinks: &[&str],
    ) -> (Self, Recovered) {
        let sinks: Vec<String> = sinks.iter().map(|&name| name.to_owned()).collect();
        let (storage, its_clock) = (Arc::new(disk.clone()), Arc::new(clock.clone()));
        let (log, recovered) = Log::open(storage, config, &sinks, its_clock, &stats);
        let (disk, config, spool) = (disk.clone(), config.clone(), Spool::of(&log));
        (Self { disk, config, clock, stats, log, spool, now: Instant::now() }, recovered)
    }

    /// The same folder, opened again by the next run.
    fn again(self) -> (Self, Recovered) {
        Self::open_with(&self.disk, &self.config, self.clock, self.stats, &SINKS)
    }

    /// Puts alerts and the state, and has the thread's work done.
    fn put(&mut self, ids: impl IntoIterator<Item = u64>, state: Option<DedupState>) -> u64 {
        let alerts = ids.into_iter().map(alert).collect();
        let number = self.spool.put(Commit { alerts, state });
        self.turn();
        number
    }

    /// The thread's work.
    fn turn(&mut self) {
        loop {
            let (commits, upto, is_last) = thread::take(&mut self.log.shared.queue());
            thread::turn(&mut self.log, commits, upto, is_last, self.now);
            if self.log.shared.queue().commits.is_empty() {
                break;
            }
        }
    }

    /// Time passes, and the thread looks.
    fn pass(&mut self, secs: u32) {
        self.now += Duration::from_secs(secs.into());
        self.clock.pass(secs.into());
        self.turn();
    }

    fn status(&self) -> SpoolStatus {
        self.spool.status()
    }

    /// What `sink` has not settled.
    fn unsettled(&self, sink: &str) -> Vec<Stored> {
        let at = self.status().sinks.iter().find(|it| it.name == sink).unwrap().cursor;
        read_from(&self.log.shared, at)
    }

    fn unsettled_ids(&self, sink: &str) -> Vec<u64> {
        self.unsettled(sink).iter().map(id).collect()
    }

    fn settle(&mut self, sink: &str, until: u64) {
        self.spool.reader(sink).unwrap().settle(until);
        self.turn();
    }
}

/// All alerts from `at` on, as a reader gets them, some at a time.
fn read_from(shared: &Shared, mut at: u64) -> Vec<Stored> {
    let (mut all, mut place) = (Vec::new(), None);
    loop {
        if at >= shared.index().readable {
            return all;
        }
        let fetched = match from_memory(shared, at, 3, 4000) {
            Some(fetched) => fetched,
            None => from_disk(shared, at, place, (3, 4000)).unwrap(),
        };
        assert!(fetched.at > at || fetched.stored.is_empty(), "{fetched:?} at {at}");
        all.extend(fetched.stored);
        (at, place) = (fetched.at, fetched.place);
    }
}
