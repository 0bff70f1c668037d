//! Log: what the spool's thread does, a turn at a time, so that tests can do it without a thread.
//!
//! A commit is numbered, written, synced and then published, in this order. While the disk takes
//! nothing, commits are published all the same and stay in memory; each second it is tried again
//! with what some sink has not settled. After a failed sync nothing is believed of what was not
//! synced before: a new segment begins, and it is written again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::active_segment::Active;
use super::cursors::CursorFile;
use super::frame::{Place, encode};
use super::publish::index;
use super::recover::{Recovery, recover};
use super::shared::{Queued, Shared};
use super::storage::Storage;
use super::{Commit, Recovered, SpoolConfig};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::DeliverError;
use crate::deliver::sinks::file::describe;
use crate::pipeline::dedup::Alert;
use crate::pipeline::dedup::DedupState;

/// Bytes that are written at once, about.
const WRITE_MAX: usize = 4 << 20;
/// How long the disk is left alone after a failure.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// How long a state that came without alerts may wait for its sync.
const SYNC_STATES: Duration = Duration::from_secs(1);

pub(super) type Result<T> = std::result::Result<T, DeliverError>;

/// A commit that is not known to be on disk.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) place: Place,
    pub(super) alerts: Vec<Arc<Alert>>,
    /// Bytes of each alert's JSON, where they are known.
    pub(super) sizes: Vec<usize>,
    pub(super) state: Option<DedupState>,
    pub(super) is_published: bool,
    /// The number that `put` gave.
    pub(super) number: u64,
}

impl Pending {
    pub(super) fn end(&self) -> u64 {
        self.place.sequence.saturating_add(self.alerts.len() as u64)
    }

    pub(super) fn encode(&mut self, out: &mut Vec<u8>) {
        self.sizes = encode(out, self.place, self.state.as_ref(), &self.alerts);
    }
}

/// The writing end of the log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) config: SpoolConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stats: Arc<Stats>,
    pub(super) shared: Arc<Shared>,
    pub(super) active: Option<Active>,
    pub(super) quiet: LogThrottle,
    pub(super) quiet_lost: LogThrottle,
    pub(super) quiet_removal: LogThrottle,
    pub(super) snapshot_bytes: u64,
    /// Changes that come now follow on nothing.
    pub(super) state_gap: bool,
    pub(super) cursors: CursorFile,
    /// Not written, in order; behind `unsynced`.
    pub(super) waiting: VecDeque<Pending>,
    /// Written, and not known to be synced.
    pub(super) unsynced: VecDeque<Pending>,
    pub(super) unsynced_since: Option<Instant>,
    pub(super) next_sequence: u64,
    pub(super) next_ordinal: u64,
    pub(super) next_generation: u64,
    /// Number of the last state.
    pub(super) chain: u64,
    /// Whether the folder could be read.
    pub(super) is_open: bool,
    pub(super) retry_at: Option<Instant>,
    /// What was settled by all when memory was last freed of it.
    pub(super) forgotten: u64,
}

impl Log {
    /// Reads and repairs what is there, for `sinks`. Where the folder cannot be read, the log is in
    /// memory until it can.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        config: &SpoolConfig,
        sinks: &[String],
        clock: Arc<dyn Clock>,
        stats: &Arc<Stats>,
    ) -> (Self, Recovered) {
        let (found, fault) = match recover(&*storage) {
            Ok(found) => (found, None),
            Err(error) => {
                // Above all numbers that count alerts, so that none on the disk has one of these.
                let now = u64::try_from(clock.now().as_microsecond()).unwrap_or(1);
                let (end, next_sequence, next_ordinal) = (now, now, now);
                let found = Recovery { end, next_sequence, next_ordinal, ..Recovery::default() };
                (found, Some(error))
            }
        };
        stats.spool_repairs.add(found.repaired);
        stats.spool_alerts_lost_corrupt.add(found.lost);
        let index = index(&found, sinks);
        let shared = Arc::new(Shared::new(Arc::clone(&storage), Arc::clone(stats), index));
        let mut log = Self {
            storage,
            config: config.clone(),
            clock,
            stats: Arc::clone(stats),
            shared,
            active: None,
            quiet: LogThrottle::new(),
            quiet_lost: LogThrottle::new(),
            quiet_removal: LogThrottle::new(),
            snapshot_bytes: found.states.snapshot.as_ref().map_or(0, Vec::len) as u64,
            state_gap: !found.states.are_whole(),
            cursors: CursorFile::default(),
            waiting: VecDeque::new(),
            unsynced: VecDeque::new(),
            unsynced_since: None,
            next_sequence: found.next_sequence,
            next_ordinal: found.next_ordinal,
            next_generation: found.next_generation,
            chain: found.states.chain,
            is_open: fault.is_none(),
            retry_at: None,
            forgotten: 0,
        };
        let now = Instant::now();
        if let Some(error) = fault {
            log.failed(&describe(&log.path(""), error), now);
        } else {
            log.go_on(&found);
            log.turn(Vec::new(), now, false);
        }
        if log.state_gap || log.active.is_none() {
            log.shared.wants_snapshot.store(true, Ordering::Release);
        }
        let (snapshot, changes) = (found.states.snapshot, found.states.changes);
        (log, Recovered { snapshot, changes, repairs: found.repairs })
    }

    /// Opens the last segment to write, where that is of use; else the first write begins one.
    fn go_on(&mut self, found: &Recovery) {
        let Some(last) = found.goes_on.then(|| self.shared.index().segments.back().cloned()) else {
            return;
        };
        // A number was used that is behind its end: the next segment says so.
        let Some(last) = last.filter(|last| last.end == self.next_sequence) else { return };
        let opened = self.storage.open(&last.name).and_then(|mut file| {
            // What a killed agent wrote and did not sync is given to readers from here on.
            file.sync()?;
            Ok(file)
        });
        match opened {
            Ok(file) => {
                let (name, bytes) = (last.name, last.bytes);
                let generation = last.generation;
                let has_snapshot = found.floor == Some(generation);
                let (reserved, synced) = (bytes, bytes);
                self.active =
                    Some(Active { file, name, generation, bytes, reserved, synced, has_snapshot });
            }
            Err(error) => {
                let path = self.path(&last.name);
                tracing::warn!(path = %path.display(), %error, "open the last file of the spool; a new one is begun");
            }
        }
    }

    /// Takes what came, tells it, and puts it on disk as far as that takes it. `is_last`: now or
    /// never.
    pub(super) fn turn(&mut self, commits: Vec<Queued>, now: Instant, is_last: bool) {
        self.number(commits);
        let is_tried = is_last || self.retry_at.is_none_or(|at| at <= now);
        if is_tried {
            match self.write_all(now, is_last) {
                Ok(()) => self.works(),
                Err(error) => self.failed(&error, now),
            }
        }
        if self.retry_at.is_some() {
            self.publish_unwritten();
            self.forget_settled(is_tried);
        }
        if self.is_open {
            self.retain();
        }
    }

    /// When there is something to do without a new commit.
    pub(super) fn due(&self) -> Option<Instant> {
        let sync = self.unsynced_since.map(|since| since + SYNC_STATES);
        self.retry_at.or(sync)
    }

    /// Whether all that came is on disk.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.unsynced.is_empty() && self.retry_at.is_none()
    }

    /// Every commit before this number is written.
    pub(super) fn first_unwritten(&self) -> Option<u64> {
        self.waiting.front().map(|pending| pending.number)
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.storage.path(name)
    }

    fn number(&mut self, commits: Vec<Queued>) {
        let time = self.clock.now();
        for Queued { number, commit: Commit { alerts, state }, is_behind_gap } in commits {
            self.state_gap |= is_behind_gap;
            let state = match state {
                Some(DedupState::Snapshot(bytes)) => {
                    self.state_gap = false;
                    Some(DedupState::Snapshot(bytes))
                }
                state => state.filter(|_| !self.state_gap),
            };
            if alerts.is_empty() && state.is_none() {
                continue;
            }
            self.chain += u64::from(state.is_some());
            let (ordinal, sequence) = (self.next_ordinal, self.next_sequence);
            let place = Place { ordinal, sequence, time, chain: self.chain };
            self.next_ordinal += 1;
            self.next_sequence += alerts.len() as u64;
            self.waiting.push_back(Pending {
                place,
                alerts,
                sizes: Vec::new(),
                state,
                is_published: false,
                number,
            });
        }
    }

    fn write_all(&mut self, now: Instant, is_last: bool) -> Result<()> {
        self.open_late()?;
        if self.retry_at.is_some() && self.waiting.is_empty() {
            self.probe()?;
        }
        let written = self.write(now);
        let has_alerts = self.unsynced.iter().any(|pending| !pending.alerts.is_empty());
        let is_due = self.unsynced_since.is_some_and(|since| since + SYNC_STATES <= now);
        let synced = if has_alerts || is_due || is_last { self.sync() } else { Ok(()) };
        written.and(synced)?;
        self.save_cursors()
    }

    fn write(&mut self, now: Instant) -> Result<()> {
        while !self.waiting.is_empty() {
            if self.is_full() {
                self.sync()?;
                self.end_active();
                self.evict_for_size();
            }
            if self.active.is_none() {
                self.begin_segment()?;
            }
            let room = self.room().min(WRITE_MAX);
            let mut bytes = Vec::new();
            let mut commits = 0;
            for pending in &mut self.waiting {
                if commits > 0 && bytes.len() >= room {
                    break;
                }
                pending.encode(&mut bytes);
                commits += 1;
            }
            self.append(&bytes)?;
            for pending in self.waiting.drain(..commits) {
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
}
