//! Writer: the work of the spool's thread, one iteration per call, so that tests need no thread.
//!
//! A commit is numbered, written, synced and then published, in this order. While the disk accepts no
//! writes, commits are published anyway and stay in memory; each second those that a sink still needs
//! are written again. After a failed sync, only what was synced before counts as written: a new
//! segment begins, and the rest is written again.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::active_segment::ActiveSegment;
use super::cursors::{self, CursorFile};
use super::frame::{CommitHeader, PendingCommit};
use super::index::Index;
use super::recover::{NextNumbers, Recovery, recover};
use super::shared::{QueuedCommit, SpoolShared, TakenCommits};
use super::storage::Storage;
use super::{Commit, RecoveredState, SpoolConfig};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::DeliverError;
use crate::deliver::error::write_error;
use crate::pipeline::dedup::DedupState;

/// Bytes that are written at once, about.
const WRITE_MAX: usize = 4 << 20;
/// Time between a failed write and the next attempt.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// Maximum time between the write and the sync of a state without alerts.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

pub(super) type Result<T> = std::result::Result<T, DeliverError>;

#[derive(Debug)]
pub(super) struct SpoolWriter {
    pub(super) shared: Arc<SpoolShared>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) active: Option<ActiveSegment>,
    pub(super) write_throttle: LogThrottle,
    pub(super) eviction_throttle: LogThrottle,
    pub(super) removal_throttle: LogThrottle,
    /// Bytes of the last snapshot.
    pub(super) snapshot_bytes: u64,
    /// True if the state of the next change is not on disk.
    pub(super) state_gap: bool,
    cursors: CursorFile,
    /// Commits to write, in order; they follow `unsynced`.
    pub(super) unwritten: VecDeque<PendingCommit>,
    /// Commits that are written and not known to be synced.
    pub(super) unsynced: VecDeque<PendingCommit>,
    pub(super) unsynced_since: Option<Instant>,
    pub(super) next: NextNumbers,
    /// Number of the last state.
    pub(super) chain: u64,
    /// True if the folder was read.
    pub(super) is_open: bool,
    pub(super) retry_at: Option<Instant>,
    /// Acknowledged number up to which memory is released.
    pub(super) released: u64,
}

impl SpoolWriter {
    /// Reads and repairs the folder. If it cannot be read, the spool is in memory until it can.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        config: &SpoolConfig,
        sinks: &[String],
        clock: Arc<dyn Clock>,
        stats: &Arc<Stats>,
    ) -> (Self, RecoveredState) {
        let (found, error) = match recover(&*storage) {
            Ok(found) => (found, None),
            Err(error) => {
                // Larger than any number that counts alerts, so that no alert on the disk has it.
                let now = u64::try_from(clock.now().as_microsecond()).unwrap_or(1);
                (Recovery::unreadable(now), Some(error))
            }
        };
        found.count(stats);
        let index = Index::new(&found, sinks);
        let shared = SpoolShared::new(storage, config.clone(), Arc::clone(stats), index);
        let mut writer = Self {
            shared: Arc::new(shared),
            clock,
            active: None,
            write_throttle: LogThrottle::new(),
            eviction_throttle: LogThrottle::new(),
            removal_throttle: LogThrottle::new(),
            snapshot_bytes: found.states.snapshot.as_ref().map_or(0, Vec::len) as u64,
            state_gap: !found.states.is_complete(),
            cursors: CursorFile::default(),
            unwritten: VecDeque::new(),
            unsynced: VecDeque::new(),
            unsynced_since: None,
            next: found.next,
            chain: found.states.chain,
            is_open: error.is_none(),
            retry_at: None,
            released: 0,
        };
        let now = Instant::now();
        if let Some(error) = error {
            writer.failed(&write_error(&writer.path(""), error), now);
        } else {
            writer.reopen_last(&found);
            let taken = writer.shared.queue().take();
            writer.run_once(taken, now);
        }
        if writer.state_gap || writer.active.is_none() {
            writer.shared.wants_snapshot.store(true, Ordering::Release);
        }
        let (snapshot, changes) = (found.states.snapshot, found.states.changes);
        (writer, RecoveredState { snapshot, changes, repairs: found.repairs })
    }

    /// Opens the last segment for writing, if possible; otherwise the first write begins a segment.
    fn reopen_last(&mut self, found: &Recovery) {
        let last = self.shared.index().segments.back().cloned();
        // If a number after its end was used, the header of the next segment must record it.
        let is_usable =
            found.can_append && last.as_ref().is_some_and(|it| it.end == self.next.sequence);
        let Some(last) = last.filter(|_| is_usable) else { return };
        let opened = self.shared.storage.open(&last.name).and_then(|mut file| {
            // Readers get what a killed agent wrote and did not sync.
            file.sync()?;
            Ok(file)
        });
        match opened {
            Ok(file) => {
                let has_snapshot = found.floor == Some(last.generation);
                self.active = Some(ActiveSegment::new(file, last, has_snapshot));
            }
            Err(error) => {
                let path = self.path(&last.name);
                tracing::warn!(path = %path.display(), %error, "last spool segment cannot be opened; a new one begins");
            }
        }
    }

    /// Numbers the commits, writes them if the disk accepts writes, and publishes them.
    pub(super) fn run_once(&mut self, taken: TakenCommits, now: Instant) {
        let TakenCommits { commits, last_number, is_flush, is_last } = taken;
        self.number(commits);
        let must_sync = is_flush || is_last;
        let is_attempt = must_sync || self.retry_at.is_none_or(|at| at <= now);
        if is_attempt {
            match self.write_all(now, must_sync) {
                Ok(()) => self.succeeded(),
                Err(error) => self.failed(&error, now),
            }
        }
        if self.retry_at.is_some() {
            self.publish_unwritten();
            self.release_acknowledged(is_attempt);
        }
        if self.is_open {
            self.retain();
        }
        let unwritten = self.unwritten.front().map(|pending| pending.number);
        let written = unwritten.map_or(last_number, |number| number.saturating_sub(1));
        self.shared.written.fetch_max(written, Ordering::AcqRel);
    }

    /// Time of the next retry or sync.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry_at.or_else(|| self.unsynced_since.map(|since| since + SYNC_INTERVAL))
    }

    /// True if all commits are on disk.
    pub(super) fn is_synced(&self) -> bool {
        self.unwritten.is_empty() && self.unsynced.is_empty() && self.retry_at.is_none()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.shared.storage.path(name)
    }

    /// Sequence number and ordinal of the first commit that is not written.
    pub(super) fn first_unwritten(&self) -> (u64, u64) {
        let pending = self.unwritten.front();
        pending.map_or((self.next.sequence, self.next.ordinal), |pending| {
            (pending.header.sequence, pending.header.ordinal)
        })
    }

    fn number(&mut self, commits: Vec<QueuedCommit>) {
        let time = self.clock.now();
        for QueuedCommit { number, commit: Commit { alerts, state }, is_behind_gap } in commits {
            let is_snapshot = matches!(state, Some(DedupState::Snapshot(_)));
            self.state_gap = (self.state_gap || is_behind_gap) && !is_snapshot;
            // A change after a gap is of no use.
            let state = state.filter(|_| !self.state_gap);
            if alerts.is_empty() && state.is_none() {
                continue;
            }
            self.chain += u64::from(state.is_some());
            let NextNumbers { ordinal, sequence, .. } = self.next;
            let header = CommitHeader { ordinal, sequence, time, chain: self.chain };
            self.next.ordinal += 1;
            self.next.sequence += alerts.len() as u64;
            let (sizes, is_published) = (Vec::new(), false);
            let pending = PendingCommit { header, alerts, sizes, state, is_published, number };
            self.unwritten.push_back(pending);
        }
    }

    fn write_all(&mut self, now: Instant, must_sync: bool) -> Result<()> {
        self.open_late()?;
        if self.retry_at.is_some() && self.unwritten.is_empty() {
            self.probe()?;
        }
        let written = self.write(now);
        let has_alerts = self.unsynced.iter().any(|pending| !pending.alerts.is_empty());
        let is_due = self.unsynced_since.is_some_and(|since| since + SYNC_INTERVAL <= now);
        let synced = if has_alerts || is_due || must_sync { self.sync() } else { Ok(()) };
        written.and(synced)?;
        self.save_cursors()
    }

    fn write(&mut self, now: Instant) -> Result<()> {
        while !self.unwritten.is_empty() {
            if self.is_full() {
                self.sync()?;
                self.end_active();
                self.evict_over_size();
            }
            if self.active.is_none() {
                self.begin_segment()?;
            }
            let room = self.room().min(WRITE_MAX);
            let mut bytes = Vec::new();
            let mut commits = 0;
            for pending in &mut self.unwritten {
                if commits > 0 && bytes.len() >= room {
                    break;
                }
                pending.encode(&mut bytes);
                commits += 1;
            }
            self.append(&bytes)?;
            for pending in self.unwritten.drain(..commits) {
                if let (Some(DedupState::Snapshot(bytes)), Some(active)) =
                    (&pending.state, &mut self.active)
                {
                    active.has_snapshot = true;
                    self.snapshot_bytes = bytes.len() as u64;
                    let is_enough = !self.state_gap && !self.shared.queue().has_gap;
                    self.shared.wants_snapshot.fetch_and(!is_enough, Ordering::AcqRel);
                }
                self.unsynced.push_back(pending);
            }
            self.unsynced_since.get_or_insert(now);
        }
        Ok(())
    }

    /// Writes the cursors that moved.
    fn save_cursors(&mut self) -> Result<()> {
        let (all, changed) = {
            let mut index = self.shared.index();
            let changed: Vec<usize> = (0..)
                .zip(&mut index.cursors)
                .filter_map(|(slot, it)| std::mem::take(&mut it.is_dirty).then_some(slot))
                .collect();
            if changed.is_empty() && self.cursors.is_open() {
                return Ok(());
            }
            let cursors = index.cursors.iter();
            (cursors.map(|it| (it.name.clone(), it.on_disk())).collect::<Vec<_>>(), changed)
        };
        // After an error the next call writes all of them.
        let saved = self.cursors.save(&*self.shared.storage, &all, &changed);
        saved.map_err(|error| write_error(&self.path(cursors::FILE), error))
    }
}
