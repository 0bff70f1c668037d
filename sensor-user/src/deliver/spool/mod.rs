//! Spool: alerts are on disk before they are given to a sink, and stay there until every sink has
//! settled them.
//!
//! The log is a folder of segments that are only appended to (`frame.rs` has their bytes). A thread
//! writes all that waits in one write and one fdatasync, so a burst costs as much as one alert. Each
//! sink has its own cursor, in a file beside the log. Dedup's state is in the same commits as its
//! alerts, so that both are there after a crash, or neither.
//!
//! Invariants, in numbers (as [`SpoolConfig::USUAL`] has them):
//!
//! - A reader is given an alert only after its fdatasync. One exception: while the disk takes
//!   nothing, alerts are given from memory, the status says so, and the disk is tried each second.
//! - Every alert has a number, one more than the one before, over restarts too. What begins after a
//!   restart is above the end of the log and above every cursor on the disk, so that no cursor ever
//!   passes an alert that its sink did not settle. Only numbers of alerts that a crash took, or that
//!   were given from memory and are in no cursor, are given again; nobody compares those. After a
//!   failed disk there may be numbers that no alert has.
//! - Put alerts that are not on disk: 100,000 at most; what comes then is dropped and counted
//!   (`alerts_dropped_queue_full`). On disk: 256 MiB and 7 days at most, and one segment (8 MiB, or
//!   four snapshots of the state where that is more) beyond it; then the oldest segment goes, and
//!   each alert in it is counted once for each sink that had not settled it (`alerts_evicted_size`,
//!   `alerts_evicted_age`). In memory for readers: 20,000 alerts and 32 MiB.
//! - The segment that is written to has room on the disk for 256 KiB at most beyond its last frame,
//!   which are zeros: a sync then costs what the frame costs, and not the file's new length too.
//! - A segment goes when all cursors have passed it and a later one has a snapshot of the state.
//! - After a kill or a crash: every alert that was synced is there, no frame is there in part, and the
//!   states are those of a beginning of all commits, with none missing between. After a kill they
//!   are those of all alerts that are there; after a crash an alert that was not synced may be there
//!   without its state, so that it is rather told twice than not. A torn end is cut off,
//!   damage elsewhere is read around; both are counted (`spool_repairs`, and
//!   `spool_alerts_lost_corrupt` for alerts), told, and never stop the start.
//! - Nothing that readers or `put` do waits for the disk.

mod active_segment;
mod cursors;
mod degraded;
mod frame;
mod inspect;
mod publish;
mod reader;
mod recover;
mod rejected;
mod replay;
mod retention;
mod scan;
mod segment;
mod shared;
mod storage;
mod tail;
mod thread;
mod writer;

pub use inspect::{Flaw, Survey, files};
pub use reader::Reader;
pub use rejected::{Rejected, RejectedItem, read_rejected, rejected_files, rejecting_sinks};
pub use replay::{SpoolReplayError, put_again, rewind};
pub use storage::{Disk, Storage, StorageFile};

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::shared::{Queue, Queued, Shared};
use self::writer::Log;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;
use crate::pipeline::dedup::Alert;
pub use crate::pipeline::dedup::DedupState;

/// `[spool]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Bytes of all segments at most.
    pub max_bytes: u64,
    /// What is older goes, delivered or not.
    pub max_age: Duration,
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// Alerts that wait for the disk, in memory, at most.
    pub queue: usize,
}

impl SpoolConfig {
    /// 256 MiB and 7 days, in segments of 8 MiB; 100,000 alerts that wait.
    pub const USUAL: Self = Self {
        max_bytes: 256 << 20,
        max_age: Duration::from_hours(7 * 24),
        segment_bytes: 8 << 20,
        queue: 100_000,
    };
}

/// What is put on disk as one: all of it is there after a crash, or nothing.
#[derive(Debug, Default)]
pub struct Commit {
    /// In the order in which sinks get them.
    pub alerts: Vec<Arc<Alert>>,
    /// What becomes of dedup's state with them.
    pub state: Option<DedupState>,
}

/// The state that a spool had when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The last that was put.
    pub snapshot: Option<Vec<u8>>,
    /// What was put after it, in order.
    pub changes: Vec<Vec<u8>>,
    /// What was repaired, for people.
    pub repairs: Vec<String>,
}

/// An alert with its number.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Grows by one from alert to alert.
    pub sequence: u64,
    /// The alert.
    pub alert: Arc<Alert>,
    /// Length of its JSON.
    pub bytes: usize,
}

/// How a spool is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SpoolStatus {
    /// Of all segments.
    pub bytes: u64,
    /// How many there may be.
    pub max_bytes: u64,
    /// How many segments there are.
    pub segments: usize,
    /// When the oldest alert that is retained was put.
    pub oldest: Option<Timestamp>,
    /// Why the disk takes nothing, and what to do.
    pub fault: Option<String>,
    /// What was repaired at the start.
    pub repairs: Vec<String>,
    /// In the order in which they were named.
    pub sinks: Vec<SinkStatus>,
}

/// How far a sink is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// Number of the first alert that it has not settled.
    pub cursor: u64,
    /// Alerts that it has not settled.
    pub waiting: u64,
}

/// Why there is no spool. What is wrong with the disk is no reason: see [`SpoolStatus::fault`].
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A cursor has no place for such a name.
    #[error("spool: \"{name}\" is not the name of a sink; use 1 to 64 letters, digits, -, _ or .")]
    Name {
        /// Escaped.
        name: String,
    },
    /// The cursors' file has no place for so many.
    #[error("spool: {sinks} sinks take alerts; {} is the most", cursors::SINKS_MAX)]
    Sinks {
        /// How many.
        sinks: usize,
    },
    /// The system gives no thread.
    #[error("spool: start its thread")]
    Thread(#[source] std::io::Error),
}

/// A handle of the spool, cheap to clone. The thread ends when the last is dropped, or at `close`.
#[derive(Debug, Clone)]
pub struct Spool {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    queue: usize,
    max_bytes: u64,
    quiet: LogThrottle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue().is_closing = true;
        self.shared.work.notify_all();
    }
}

impl Spool {
    /// Opens the folder `dir` (made with mode 0700), repairs it and starts the thread. `sinks` are
    /// those that take alerts: a new name begins at the oldest alert that is retained, and cursors
    /// of other names are forgotten.
    pub fn open(
        dir: &Path,
        config: &SpoolConfig,
        sinks: &[String],
        clock: Arc<dyn Clock>,
        stats: &Arc<Stats>,
    ) -> Result<(Self, Recovered), SpoolError> {
        Self::open_on(Arc::new(Disk::new(dir)), config, sinks, clock, stats)
    }

    /// The same on any storage.
    pub fn open_on(
        storage: Arc<dyn Storage>,
        config: &SpoolConfig,
        sinks: &[String],
        clock: Arc<dyn Clock>,
        stats: &Arc<Stats>,
    ) -> Result<(Self, Recovered), SpoolError> {
        sinks.iter().try_for_each(|name| check_name(name))?;
        if sinks.len() > cursors::SINKS_MAX {
            return Err(SpoolError::Sinks { sinks: sinks.len() });
        }
        let (log, recovered) = Log::open(storage, config, sinks, clock, stats);
        let spool = Self::of(&log);
        thread::start(log).map_err(SpoolError::Thread)?;
        Ok((spool, recovered))
    }

    /// A handle of `log`.
    fn of(log: &Log) -> Self {
        let (shared, queue) = (Arc::clone(&log.shared), log.config.queue.max(1));
        let max_bytes = log.config.max_bytes;
        Self { handle: Arc::new(Handle { shared, queue, max_bytes, quiet: LogThrottle::new() }) }
    }

    /// Hands a commit to the thread; gives its number, from 1 and growing by one within this run.
    /// Never waits. What the queue has no room for is counted, logged and gone, and a snapshot of the
    /// state is wanted.
    pub fn put(&self, commit: Commit) -> u64 {
        let Handle { shared, queue: most, quiet, .. } = &*self.handle;
        let alerts = commit.alerts.len();
        let mut queue = shared.queue();
        queue.last_number += 1;
        let number = queue.last_number;
        let is_full = queue.held > 0 && queue.held + alerts > *most;
        // Those without alerts count too.
        if is_full || queue.commits.len() >= *most || queue.is_closing {
            queue.has_gap |= commit.state.is_some();
            let is_closing = queue.is_closing;
            drop(queue);
            shared.wants_snapshot.fetch_or(commit.state.is_some(), Ordering::AcqRel);
            shared.stats.alerts_dropped_queue_full.add(alerts as u64);
            if alerts > 0
                && let Some(count) = quiet.admit(alerts as u64, Instant::now())
            {
                let reason = if is_closing { "it is closed" } else { "its queue is full" };
                tracing::error!(count, reason, "alerts that the spool does not take; dropped");
            }
            return number;
        }
        queue.held += alerts;
        if matches!(commit.state, Some(DedupState::Snapshot(_))) {
            queue.has_gap = false;
            shared.wants_snapshot.store(false, Ordering::Release);
        }
        let is_behind_gap = queue.has_gap;
        queue.commits.push_back(Queued { number, commit, is_behind_gap });
        drop(queue);
        shared.work.notify_all();
        number
    }

    /// Commits up to this number are written, so that they outlive a kill of the agent; or all sinks
    /// have settled them, or they were dropped.
    pub fn written(&self) -> u64 {
        self.handle.shared.written.load(Ordering::Acquire)
    }

    /// Whether the next commit should have the state as a snapshot: nothing is on disk yet, a
    /// segment has begun, or a change was lost.
    pub fn wants_snapshot(&self) -> bool {
        let shared = &self.handle.shared;
        shared.wants_snapshot.load(Ordering::Acquire) && !shared.is_faulty.load(Ordering::Acquire)
    }

    /// The place of `sink`, at its first alert that is not settled; `None` where it was not named.
    pub fn reader(&self, sink: &str) -> Option<Reader> {
        let shared = &self.handle.shared;
        let (place, at) = {
            let index = shared.index();
            let place = index.cursors.iter().position(|cursor| cursor.name == sink)?;
            (place, index.cursors.get(place)?.next)
        };
        Some(Reader::new(Arc::clone(shared), place, at))
    }

    /// From here on `sink` takes alerts, too: one that did before goes on where it was, a new one
    /// begins at the oldest alert that is retained. A name that is none, or one too many, is refused.
    pub fn take_up(&self, sink: &str) -> Result<(), SpoolError> {
        check_name(sink)?;
        let mut index = self.handle.shared.index();
        index.take_up(sink)
    }

    /// `sink` takes no more alerts: its cursor holds nothing back. Gives how many it has not settled.
    pub fn give_up(&self, sink: &str) -> u64 {
        let shared = &self.handle.shared;
        let left = shared.index().give_up(sink);
        shared.queue().is_nudged = true;
        shared.work.notify_all();
        left
    }

    /// How it is.
    pub fn status(&self) -> SpoolStatus {
        self.handle.shared.index().status(self.handle.max_bytes)
    }

    /// Puts all that waits on disk, within `limit`; whether all of it is there. It blocks.
    pub fn flush(&self, limit: Duration) -> bool {
        let ask = |queue: &mut Queue| (queue.wants_flush, queue.flushed) = (true, None);
        self.wait(limit, ask, |queue| queue.flushed.or(queue.ended))
    }

    /// The same, with what sinks have settled by now, and ends the thread. What is settled or put from
    /// here on is not kept.
    pub fn close(&self, limit: Duration) -> bool {
        self.wait(limit, |queue| queue.is_closing = true, |queue| queue.ended)
    }

    /// Asks the thread for something and waits for its answer.
    fn wait(
        &self,
        limit: Duration,
        ask: impl FnOnce(&mut Queue),
        answer: impl Fn(&Queue) -> Option<bool>,
    ) -> bool {
        let shared = &self.handle.shared;
        let deadline = Instant::now() + limit;
        let mut queue = shared.queue();
        ask(&mut queue);
        shared.work.notify_all();
        loop {
            if let Some(is_done) = answer(&queue) {
                return is_done;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = shared.work.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

/// Whether a cursor can have such a name.
fn check_name(name: &str) -> Result<(), SpoolError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > cursors::NAME_MAX || !name.chars().all(plain) {
        return Err(SpoolError::Name { name: crate::base::escape::escaped(name, 80) });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
