//! Fault: what the log does while the disk takes nothing.
//!
//! Alerts are given to readers from memory, so that none is withheld; what all sinks have settled
//! leaves it. Of states 8 MiB are kept, then a snapshot is asked for once the disk works again.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::recover::recover;
use super::writer::{Log, Pending, RETRY, Result};
use crate::deliver::sinks::file::describe;
use crate::deliver::{DeliverError, chain};
use crate::pipeline::dedup::DedupState;

/// Bytes of states that are kept.
const STATES_MAX: usize = 8 << 20;

impl Log {
    /// The disk did not take something.
    pub(super) fn failed(&mut self, error: &DeliverError, now: Instant) {
        self.stats.spool_writes_failed.increment();
        self.retry_at = Some(now + RETRY);
        let fault = format!(
            "{}; alerts are delivered from memory and would be lost by a restart; make room, or \
             make the folder writable",
            chain(error)
        );
        if let Some(count) = self.quiet.admit(1, now) {
            tracing::error!(count, error = %fault, "spool cannot be written");
        }
        self.shared.is_faulty.store(true, Ordering::Release);
        self.shared.index().fault = Some(fault);
    }

    /// The disk took everything.
    pub(super) fn works(&mut self) {
        if self.retry_at.take().is_none() {
            return;
        }
        tracing::info!(path = %self.path("").display(), "spool can be written again");
        self.shared.index().fault = None;
        if self.state_gap {
            self.shared.wants_snapshot.store(true, Ordering::Release);
        }
        self.shared.is_faulty.store(false, Ordering::Release);
    }

    /// The end: what the disk has not taken, and some sink neither, is gone, and counted.
    pub(super) fn count_lost(&self) {
        let settled = self.shared.index().settled();
        let left = self.unsynced.iter().chain(&self.waiting);
        let lost =
            left.map(|pending| pending.end().saturating_sub(pending.place.sequence.max(settled)));
        let lost: u64 = lost.sum();
        self.stats.alerts_lost_unwritten.add(lost);
        if lost > 0 {
            let path = self.path("");
            tracing::error!(path = %path.display(), lost, "spool took no alerts until the end");
        }
    }

    /// Lets readers have what is in memory only.
    pub(super) fn publish_unwritten(&mut self) {
        let mut scratch = Vec::new();
        // Those that are published come first.
        let from = self.waiting.partition_point(|pending| pending.is_published);
        for pending in self.waiting.range_mut(from..) {
            if pending.sizes.len() < pending.alerts.len() {
                scratch.clear();
                pending.encode(&mut scratch);
            }
        }
        let readable = {
            let mut index = self.shared.index();
            for pending in self.unsynced.iter_mut().chain(self.waiting.range_mut(from..)) {
                index.publish(pending);
            }
            index.readable
        };
        self.tell(readable, 0);
    }

    /// Keeps of what is not written only what some sink still needs, and what states there is room
    /// for. Looks when something was settled, or where it `must`.
    pub(super) fn forget_settled(&mut self, must: bool) {
        let settled = self.shared.index().settled();
        if !must && settled <= self.forgotten {
            return;
        }
        self.forgotten = settled;
        self.shared.index().tail.forget_before(settled);
        let state_bytes = |pending: &Pending| match &pending.state {
            Some(DedupState::Change(bytes) | DedupState::Snapshot(bytes)) => bytes.len(),
            None => 0,
        };
        if self.waiting.iter().map(state_bytes).sum::<usize>() > STATES_MAX {
            self.waiting.iter_mut().for_each(|pending| pending.state = None);
            self.state_gap = true;
        }
        let mut forgotten = 0;
        self.waiting.retain_mut(|pending| {
            if pending.is_published && pending.end() <= settled {
                forgotten += pending.alerts.len();
                pending.alerts = Vec::new();
                pending.sizes = Vec::new();
            }
            !pending.alerts.is_empty() || pending.state.is_some()
        });
        let readable = self.shared.index().readable;
        self.tell(readable, forgotten);
    }

    /// Reads the folder, where that was not possible before.
    pub(super) fn open_late(&mut self) -> Result<()> {
        if self.is_open {
            return Ok(());
        }
        let found = recover(&*self.storage).map_err(|error| describe(&self.path(""), error))?;
        let first =
            self.waiting.front().map_or(self.next_sequence, |pending| pending.place.sequence);
        let ordinal =
            self.waiting.front().map_or(self.next_ordinal, |pending| pending.place.ordinal);
        if found.next_sequence > first || found.next_ordinal > ordinal {
            let what = "it holds later alerts than this run has; restart the agent";
            return Err(describe(&self.path(""), std::io::Error::other(what)));
        }
        self.stats.spool_repairs.add(found.repaired);
        self.stats.spool_alerts_lost_corrupt.add(found.lost);
        self.next_generation = found.next_generation;
        self.chain = self.chain.max(found.states.chain);
        self.is_open = true;
        let mut index = self.shared.index();
        let oldest = found.segments.front().map_or(found.end, |segment| segment.first);
        for cursor in &mut index.cursors {
            let known = found.cursors.iter().find(|(name, _)| *name == cursor.name);
            let before = known.map_or(oldest, |(_, before)| *before);
            cursor.held = (before < found.end).then_some(before);
        }
        if index.cursors.iter().any(|cursor| cursor.held.is_some()) {
            tracing::warn!(
                path = %self.storage.path("").display(),
                "alerts of an earlier run wait in the spool; they are delivered after a restart"
            );
        }
        index.floor = found.floor;
        index.repairs = found.repairs;
        let mut segments: VecDeque<_> = found.segments;
        segments.append(&mut index.segments);
        index.segments = segments;
        Ok(())
    }
}
