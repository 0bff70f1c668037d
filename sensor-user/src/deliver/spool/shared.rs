//! State that handles, thread and readers of a spool share. It has two locks; neither is held during
//! input or output.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::index::Index;
use super::storage::Storage;
use super::{Commit, SpoolConfig};
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;

/// Alerts and commits that the thread takes at once, about.
const TAKE_MAX: usize = 8192;

#[derive(Debug)]
pub(super) struct SpoolShared {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) config: SpoolConfig,
    pub(super) stats: Arc<Stats>,
    queue: Mutex<CommitQueue>,
    /// Wakes the thread, and the callers that wait for it.
    pub(super) work: Condvar,
    index: Mutex<Index>,
    /// Number after that of the last alert which readers may have.
    pub(super) readable: watch::Sender<u64>,
    /// Number of the last commit that is written.
    pub(super) written: AtomicU64,
    pub(super) wants_snapshot: AtomicBool,
    /// True while the disk accepts no writes.
    pub(super) is_degraded: AtomicBool,
    pub(super) drop_throttle: LogThrottle,
}

impl SpoolShared {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        config: SpoolConfig,
        stats: Arc<Stats>,
        index: Index,
    ) -> Self {
        Self {
            storage,
            config,
            stats,
            queue: Mutex::default(),
            work: Condvar::new(),
            readable: watch::Sender::new(index.readable),
            index: Mutex::new(index),
            written: AtomicU64::new(0),
            wants_snapshot: AtomicBool::new(false),
            is_degraded: AtomicBool::new(false),
            drop_throttle: LogThrottle::new(),
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, CommitQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue and wakes the threads that wait for it.
    pub(super) fn notify<T>(&self, change: impl FnOnce(&mut CommitQueue) -> T) -> T {
        let changed = change(&mut self.queue());
        self.work.notify_all();
        changed
    }

    /// Waits until `poll` returns a value, or until `deadline`.
    pub(super) fn wait_until<T>(
        &self,
        deadline: Instant,
        mut poll: impl FnMut(&mut CommitQueue) -> Option<T>,
    ) -> Option<T> {
        let mut queue = self.queue();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let polled = poll(&mut queue);
            if polled.is_some() || left.is_zero() {
                return polled;
            }
            let waited = self.work.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Commit in the queue.
#[derive(Debug)]
pub(super) struct QueuedCommit {
    pub(super) number: u64,
    pub(super) commit: Commit,
    /// True if a state before it was lost.
    pub(super) is_behind_gap: bool,
}

/// Queue of the thread.
#[derive(Debug, Default)]
pub(super) struct CommitQueue {
    pub(super) commits: VecDeque<QueuedCommit>,
    /// Number of the last commit.
    pub(super) last_number: u64,
    /// Alerts that are in memory only, in the queue and with the thread.
    pub(super) held: usize,
    /// True if the state of a commit that was dropped is lost.
    pub(super) has_gap: bool,
    /// True if a cursor moved.
    pub(super) has_cursors: bool,
    /// True if a caller waits for a flush.
    pub(super) wants_flush: bool,
    /// Result of the last flush.
    pub(super) flushed: Option<bool>,
    /// True if no more commits are accepted.
    pub(super) is_closing: bool,
    /// Result of the last flush, after the thread has ended.
    pub(super) ended: Option<bool>,
}

/// Commits that the thread takes from the queue.
#[derive(Debug)]
pub(super) struct TakenCommits {
    pub(super) commits: Vec<QueuedCommit>,
    /// Number of the last commit that was taken by now.
    pub(super) last_number: u64,
    /// True if a caller waits for these commits to be on disk.
    pub(super) is_flush: bool,
    /// True if the thread ends after them.
    pub(super) is_last: bool,
}

impl CommitQueue {
    /// True if the thread has work without waiting for a deadline.
    pub(super) fn has_work(&self) -> bool {
        !self.commits.is_empty() || self.has_cursors || self.wants_flush || self.is_closing
    }

    pub(super) fn take(&mut self) -> TakenCommits {
        self.has_cursors = false;
        let mut room = TAKE_MAX;
        let mut commits = Vec::new();
        while room > 0
            && let Some(queued) = self.commits.pop_front()
        {
            room = room.saturating_sub(queued.commit.alerts.len().max(1));
            commits.push(queued);
        }
        let is_empty = self.commits.is_empty();
        let last_number = match commits.last() {
            Some(last) if !is_empty => last.number,
            _ => self.last_number,
        };
        let is_flush = self.wants_flush && is_empty;
        TakenCommits { commits, last_number, is_flush, is_last: self.is_closing && is_empty }
    }
}
