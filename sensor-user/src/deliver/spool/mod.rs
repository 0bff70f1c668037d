//! Spool, a disk buffer: stores alerts on disk before sinks get them, until every sink has acknowledged them.
//!
//! It is a write-ahead log: a folder of segments that are only appended to, with a checksum for each
//! frame (format: `frame.rs`). A thread writes all
//! queued commits with one write and one fsync (`fdatasync`), so that a burst costs as much as one alert. Each
//! sink has a cursor, in a file beside the log. A commit holds alerts and the change of dedup's state
//! that belongs to them, so that after a crash both are on disk, or neither.
//!
//! Invariants, with the numbers of [`SpoolConfig::USUAL`]:
//!
//! - A reader gets an alert only after its fdatasync. Exception: while the disk accepts no writes,
//!   readers get alerts from memory, the status has the reason, and the write is retried each second.
//! - Alerts have sequence numbers, which grow by one, over restarts too. The first number after a
//!   restart is above the end of the log and above every cursor on the disk, so that no cursor ever
//!   passes an alert that its sink did not acknowledge. Only numbers of alerts that a crash took, or
//!   that were delivered from memory and are in no cursor, are used again; they are not compared.
//!   After a disk failure some numbers may be unused.
//! - At most 100,000 alerts wait for the disk; further ones are dropped and counted
//!   (`alerts_dropped_queue_full`). The disk has at most 256 MiB and 7 days, and one segment (8 MiB,
//!   or four snapshots of the state if that is more) above it. Then the oldest segment is evicted, and
//!   each of its alerts is counted once per sink that has not acknowledged it (`alerts_evicted_size`,
//!   `alerts_evicted_age`). Memory for readers: 20,000 alerts and 32 MiB.
//! - The active segment has at most 256 KiB of reserved room behind its last frame, which is zeros: a
//!   sync then writes the frame, and not the new length of the file too.
//! - A segment is removed when all cursors have passed it and a later one has a snapshot.
//! - After a kill or a crash, every synced alert is there, no frame is there in part, and the states
//!   are those of the first commits, without a gap. After a kill they match the alerts. After a crash,
//!   an alert that was not synced may be there without its state; it is then reported again rather
//!   than missed (at-least-once). A torn end is cut off, other damage and missing segments are skipped;
//!   they are counted (`spool_repairs`, and `spool_alerts_lost_corrupt` for alerts), logged, and never
//!   stop the start.
//! - Neither readers nor `put` wait for the disk.

mod active_segment;
mod append;
mod cursors;
mod dead_letters;
mod degraded;
mod frame;
mod gaps;
mod index;
mod inspect;
mod reader;
mod recover;
mod replay;
mod retention;
mod segment;
mod shared;
mod storage;
mod thread;
mod writer;

pub use dead_letters::{
    DeadLetter, DeadLetters, dead_letter_files, dead_letter_sinks, read_dead_letters,
};
pub use inspect::{Corruption, InspectionReport, inspected_files};
pub use reader::SpoolReader;
pub use replay::{SpoolReplayError, requeue_dead_letters, rewind_cursor};
pub use storage::{Disk, Storage, StorageFile};

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use self::shared::{CommitQueue, QueuedCommit, SpoolShared};
use self::writer::SpoolWriter;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::pipeline::dedup::Alert;
pub use crate::pipeline::dedup::DedupState;

/// `[spool]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Maximum bytes of all segments.
    pub max_bytes: u64,
    /// Maximum age of alerts, delivered or not.
    pub max_age: Duration,
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// Maximum alerts in memory that wait for the disk.
    pub queue: usize,
}

impl SpoolConfig {
    /// Defaults: 256 MiB and 7 days, in segments of 8 MiB; 100,000 alerts in the queue.
    pub const USUAL: Self = Self {
        max_bytes: 256 << 20,
        max_age: Duration::from_hours(7 * 24),
        segment_bytes: 8 << 20,
        queue: 100_000,
    };
}

/// Unit of a write: after a crash all of it is on disk, or nothing.
#[derive(Debug, Default)]
pub struct Commit {
    /// Alerts in the order of delivery.
    pub alerts: Vec<Arc<Alert>>,
    /// State of dedup after these alerts.
    pub state: Option<DedupState>,
}

/// State of dedup as it was when the spool was opened.
#[derive(Debug, Default)]
pub struct RecoveredState {
    /// Last snapshot of the state.
    pub snapshot: Option<Vec<u8>>,
    /// Changes after the snapshot, in order.
    pub changes: Vec<Vec<u8>>,
    /// Repairs of the log, for people.
    pub repairs: Vec<String>,
}

/// Alert with its sequence number.
#[derive(Debug, Clone)]
pub struct StoredAlert {
    /// Number of the alert; grows by one.
    pub sequence: u64,
    /// The alert itself.
    pub alert: Arc<Alert>,
    /// Length of the alert's JSON.
    pub bytes: usize,
}

/// Limits of the alerts that a reader returns at once.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimit {
    /// Number of alerts.
    pub alerts: usize,
    /// Bytes of their JSON, about; a batch has at least one alert.
    pub bytes: usize,
}

/// Status of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolStatus {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Limit of these bytes.
    pub max_bytes: u64,
    /// Number of segments.
    pub segments: usize,
    /// Time of the oldest retained alert.
    pub oldest: Option<Timestamp>,
    /// Reason why the disk accepts no writes, with the remedy.
    pub error: Option<String>,
    /// Repairs at start.
    pub repairs: Vec<String>,
    /// Sinks in the order of the configuration.
    pub sinks: Vec<SinkStatus>,
}

/// Delivery position of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStatus {
    /// Name of the sink.
    pub name: String,
    /// Number of the first alert that is not acknowledged.
    pub cursor: u64,
    /// Number of alerts that are not acknowledged.
    pub waiting: u64,
}

/// Reason why a spool cannot be used. An error of the disk is not one: see [`SpoolStatus::error`].
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The name does not fit into a cursor.
    #[error("spool: \"{name}\" is not the name of a sink; use 1 to 64 letters, digits, -, _ or .")]
    Name {
        /// Name, escaped.
        name: String,
    },
    /// The file of the cursors is full.
    #[error("spool: {sinks} sinks take alerts; the maximum is {}", cursors::SINKS_MAX)]
    Sinks {
        /// Number of sinks.
        sinks: usize,
    },
    /// The thread cannot be started.
    #[error("spool: start its thread")]
    Thread(#[source] std::io::Error),
}

/// Handle of a spool, cheap to clone. The thread ends when the last handle is dropped, or at `close`.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use sensor_user::base::clock::SystemClock;
/// use sensor_user::deliver::spool::{BatchLimit, Commit, Spool, SpoolConfig};
/// # use sensor_user::pipeline::dedup::Alert;
///
/// # fn alert() -> Alert {
/// #     serde_json::from_str(include_str!("../../pipeline/dedup/sample_alert.json")).unwrap()
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let folder = tempfile::tempdir()?;
/// let sinks = ["siem".to_owned()];
/// let open = || {
///     let clock = Arc::new(SystemClock);
///     Spool::open(folder.path(), &SpoolConfig::USUAL, &sinks, clock, &Arc::default())
/// };
///
/// // `put` returns at once; the reader gets the alerts when they are on disk.
/// let (spool, _state) = open()?;
/// let alerts = vec![Arc::new(alert()), Arc::new(alert())];
/// spool.put(Commit { alerts, state: None });
/// let mut reader = spool.reader("siem").expect("a known sink");
/// let limit = BatchLimit { alerts: 1, bytes: 1 << 20 };
/// let batch = reader.next_batch(limit).await;
/// assert_eq!(batch[0].sequence, 1);
///
/// // The first alert is delivered; after a restart the sink continues with the second.
/// reader.acknowledge(batch[0].sequence + 1);
/// assert!(spool.close(Duration::from_secs(10)), "all is on disk");
/// let (spool, _state) = open()?;
/// let mut reader = spool.reader("siem").expect("a known sink");
/// assert_eq!(reader.next_batch(limit).await[0].sequence, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Spool {
    handle: Arc<SpoolHandle>,
}

/// Closes the queue when the last handle is dropped.
#[derive(Debug)]
struct SpoolHandle(Arc<SpoolShared>);

impl Drop for SpoolHandle {
    fn drop(&mut self) {
        self.0.notify(|queue| queue.is_closing = true);
    }
}

impl Spool {
    /// Opens the folder `dir` (created with mode 0700), repairs it and starts the thread. `sinks` are
    /// those that receive alerts: a new sink begins at the oldest retained alert, and cursors of other
    /// sinks are forgotten.
    pub fn open(
        dir: &Path,
        config: &SpoolConfig,
        sinks: &[String],
        clock: Arc<dyn Clock>,
        stats: &Arc<Stats>,
    ) -> Result<(Self, RecoveredState), SpoolError> {
        Self::open_on(Arc::new(Disk::new(dir)), config, sinks, clock, stats)
    }

    /// Opens a spool on any storage; see [`Spool::open`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        config: &SpoolConfig,
        sinks: &[String],
        clock: Arc<dyn Clock>,
        stats: &Arc<Stats>,
    ) -> Result<(Self, RecoveredState), SpoolError> {
        sinks.iter().try_for_each(|name| check_name(name))?;
        if sinks.len() > cursors::SINKS_MAX {
            return Err(SpoolError::Sinks { sinks: sinks.len() });
        }
        let (writer, recovered) = SpoolWriter::open(storage, config, sinks, clock, stats);
        let spool = Self::from_writer(&writer);
        thread::start(writer).map_err(SpoolError::Thread)?;
        Ok((spool, recovered))
    }

    fn from_writer(writer: &SpoolWriter) -> Self {
        Self { handle: Arc::new(SpoolHandle(Arc::clone(&writer.shared))) }
    }

    fn shared(&self) -> &Arc<SpoolShared> {
        &self.handle.0
    }

    /// Queues a commit for the thread. Returns its number, which begins at 1 in each run and grows by
    /// one. Never waits: if the queue is full, the commit is dropped, counted and logged, and a
    /// snapshot of the state is requested.
    pub fn put(&self, commit: Commit) -> u64 {
        let shared = self.shared();
        let alerts = commit.alerts.len();
        let mut queue = shared.queue();
        queue.last_number += 1;
        let number = queue.last_number;
        let max = shared.config.queue.max(1);
        let is_full = queue.held > 0 && queue.held + alerts > max;
        // Commits without alerts are limited too.
        if is_full || queue.commits.len() >= max || queue.is_closing {
            let (has_state, is_closing) = (commit.state.is_some(), queue.is_closing);
            queue.has_gap |= has_state;
            drop(queue);
            shared.wants_snapshot.fetch_or(has_state, Ordering::AcqRel);
            shared.stats.alerts_dropped_queue_full.add(alerts as u64);
            if alerts > 0
                && let Some(count) = shared.drop_throttle.admit(alerts as u64, Instant::now())
            {
                let reason = if is_closing { "the spool is closed" } else { "its queue is full" };
                tracing::error!(count, reason, "alerts dropped by the spool");
            }
            return number;
        }
        queue.held += alerts;
        if matches!(commit.state, Some(DedupState::Snapshot(_))) {
            queue.has_gap = false;
            shared.wants_snapshot.store(false, Ordering::Release);
        }
        let is_behind_gap = queue.has_gap;
        queue.commits.push_back(QueuedCommit { number, commit, is_behind_gap });
        drop(queue);
        // Wakes the writer, `thread.rs`.
        shared.work.notify_all();
        number
    }

    /// Number up to which commits are written, so that they survive a kill of the agent; or all sinks
    /// have acknowledged them, or they were dropped.
    pub fn last_written(&self) -> u64 {
        self.shared().written.load(Ordering::Acquire)
    }

    /// True if the next commit should have the state as a snapshot: nothing is on disk yet, a segment
    /// has begun, or a change was lost.
    pub fn wants_snapshot(&self) -> bool {
        let shared = self.shared();
        shared.wants_snapshot.load(Ordering::Acquire) && !shared.is_degraded.load(Ordering::Acquire)
    }

    /// Reader of `sink`, at its first alert that is not acknowledged; `None` for an unknown sink.
    pub fn reader(&self, sink: &str) -> Option<SpoolReader> {
        let cursors = &self.shared().index().cursors;
        let position = cursors.iter().position(|cursor| cursor.name == sink)?;
        let next = cursors.get(position)?.next;
        Some(SpoolReader::new(Arc::clone(self.shared()), position, next))
    }

    /// Adds a sink that receives alerts from now on. A sink that was removed continues where it was; a
    /// new one begins at the oldest retained alert. Fails for an invalid name, or for too many sinks.
    pub fn add_sink(&self, sink: &str) -> Result<(), SpoolError> {
        check_name(sink)?;
        self.shared().index().add_sink(sink)
    }

    /// Removes a sink: its cursor retains no alerts. Returns how many it has not acknowledged.
    pub fn remove_sink(&self, sink: &str) -> u64 {
        let pending = self.shared().index().remove_sink(sink);
        self.shared().notify(|queue| queue.has_cursors = true);
        pending
    }

    /// Status of the spool and its sinks.
    pub fn status(&self) -> SpoolStatus {
        self.shared().index().status(self.shared().config.max_bytes)
    }

    /// Writes and syncs all commits; returns true if all are on disk within `limit`. It blocks.
    pub fn flush(&self, limit: Duration) -> bool {
        self.shared().notify(|queue| (queue.wants_flush, queue.flushed) = (true, None));
        self.wait_for(limit, |queue| queue.flushed.or(queue.ended))
    }

    /// Like [`Spool::flush`], with the cursors, and ends the thread. Later commits are dropped, later
    /// acknowledgements are not saved.
    pub fn close(&self, limit: Duration) -> bool {
        self.shared().notify(|queue| queue.is_closing = true);
        self.wait_for(limit, |queue| queue.ended)
    }

    fn wait_for(&self, limit: Duration, result: impl Fn(&CommitQueue) -> Option<bool>) -> bool {
        let deadline = Instant::now() + limit;
        self.shared().wait_until(deadline, |queue| result(queue)).unwrap_or(false)
    }
}

/// Checks that a cursor can have this name.
fn check_name(name: &str) -> Result<(), SpoolError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > cursors::NAME_MAX || !name.chars().all(is_plain) {
        return Err(SpoolError::Name { name: escaped(name, 80) });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
