//! What the handles, the thread and the readers of a spool share: two locks, neither of which is
//! ever held over input or output.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use super::segment::Segment;
use super::storage::Storage;
use super::tail::Tail;
use super::{Commit, SinkStatus, SpoolStatus};
use crate::base::counters::Stats;

/// What is shared.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) stats: Arc<Stats>,
    queue: Mutex<Queue>,
    /// Wakes the thread, and who waits for its end.
    pub(super) work: Condvar,
    index: Mutex<Index>,
    /// The number behind the last alert that readers may have.
    pub(super) readable: watch::Sender<u64>,
    /// Number of the last commit that is written.
    pub(super) written: AtomicU64,
    pub(super) wants_snapshot: AtomicBool,
    /// Whether the disk takes nothing at present.
    pub(super) is_faulty: AtomicBool,
}

impl Shared {
    pub(super) fn new(storage: Arc<dyn Storage>, stats: Arc<Stats>, index: Index) -> Self {
        Self {
            storage,
            stats,
            queue: Mutex::default(),
            work: Condvar::new(),
            readable: watch::Sender::new(index.readable),
            index: Mutex::new(index),
            written: AtomicU64::new(0),
            wants_snapshot: AtomicBool::new(false),
            is_faulty: AtomicBool::new(false),
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit on its way to the thread.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) number: u64,
    pub(super) commit: Commit,
    /// A state was lost before it.
    pub(super) is_behind_gap: bool,
}

/// What waits for the thread.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) commits: VecDeque<Queued>,
    /// Number of the last commit.
    pub(super) last_number: u64,
    /// Alerts that are in memory only, here and with the thread.
    pub(super) held: usize,
    /// The state of a commit that was not taken is lost.
    pub(super) has_gap: bool,
    /// A cursor moved.
    pub(super) is_nudged: bool,
    /// Somebody waits until all that came is on disk.
    pub(super) wants_flush: bool,
    /// Whether it was, when that was last asked.
    pub(super) flushed: Option<bool>,
    /// No more commits come.
    pub(super) is_closing: bool,
    /// The thread has ended: whether all is on disk.
    pub(super) ended: Option<bool>,
}

/// How far a sink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) name: String,
    /// Number of the first alert that is not settled.
    pub(super) next: u64,
    /// What the file goes on saying until a restart: there are alerts on a disk that could not be
    /// read at start.
    pub(super) held: Option<u64>,
    /// Nobody reads it any more.
    pub(super) is_given_up: bool,
    /// The file does not have it yet.
    pub(super) is_dirty: bool,
}

impl Cursor {
    pub(super) const fn new(name: String, next: u64) -> Self {
        Self { name, next, held: None, is_given_up: false, is_dirty: false }
    }

    /// What the file says of it.
    pub(super) fn on_disk(&self) -> u64 {
        self.held.unwrap_or(self.next)
    }
}

/// What memory knows of the log.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// In the order of their generations; the last may be written to.
    pub(super) segments: VecDeque<Segment>,
    pub(super) cursors: Vec<Cursor>,
    pub(super) tail: Tail,
    /// Number behind the last alert that readers may have.
    pub(super) readable: u64,
    /// Number behind the last alert that is known to be on disk.
    pub(super) durable: u64,
    /// Generation of the segment with the last snapshot that is known to be on disk.
    pub(super) floor: Option<u64>,
    pub(super) fault: Option<String>,
    pub(super) repairs: Vec<String>,
}

impl Index {
    /// Everything before this number is settled by all sinks.
    pub(super) fn settled(&self) -> u64 {
        let live = self.cursors.iter().filter(|cursor| !cursor.is_given_up);
        live.map(|cursor| cursor.next).min().unwrap_or(u64::MAX)
    }

    /// Segments that end before this number hold nothing that a sink still needs.
    pub(super) fn needed(&self) -> u64 {
        let live = self.cursors.iter().filter(|cursor| !cursor.is_given_up);
        live.map(Cursor::on_disk).min().unwrap_or(u64::MAX)
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Alerts from the number `from` on.
    pub(super) fn waiting(&self, from: u64) -> u64 {
        let stored: u64 = self.segments.iter().map(|segment| segment.alerts_from(from)).sum();
        stored + self.tail.count_from(from.max(self.durable))
    }

    /// The segment with the number `at`, or the next alert behind it.
    pub(super) fn segment_at(&self, at: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.end > at)
    }

    pub(super) fn segment_mut(&mut self, generation: u64) -> Option<&mut Segment> {
        self.segments.iter_mut().rev().find(|segment| segment.generation == generation)
    }

    pub(super) fn status(&self, max_bytes: u64) -> SpoolStatus {
        let sink = |cursor: &Cursor| SinkStatus {
            name: cursor.name.clone(),
            cursor: cursor.next,
            waiting: if cursor.is_given_up { 0 } else { self.waiting(cursor.next) },
        };
        SpoolStatus {
            bytes: self.bytes(),
            max_bytes,
            segments: self.segments.len(),
            oldest: self.oldest(),
            fault: self.fault.clone(),
            repairs: self.repairs.clone(),
            sinks: self.cursors.iter().map(sink).collect(),
        }
    }

    fn oldest(&self) -> Option<Timestamp> {
        self.segments.iter().find(|segment| segment.alerts > 0)?.oldest
    }
}
