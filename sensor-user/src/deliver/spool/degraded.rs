//! Degraded mode: the disk accepts no writes.
//!
//! Readers get alerts from memory, so that delivery goes on. Alerts that all sinks have acknowledged
//! are released. Up to 8 MiB of states are kept; above that they are dropped, and a snapshot is
//! requested once the disk accepts writes.

use std::io;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::recover::recover;
use super::writer::{RETRY, Result, SpoolWriter};
use crate::deliver::DeliverError;
use crate::deliver::error::write_error;

/// Bytes of states that are kept.
const STATES_MAX: usize = 8 << 20;

impl SpoolWriter {
    /// Enters the degraded mode, or stays in it.
    pub(super) fn failed(&mut self, error: &DeliverError, now: Instant) {
        self.shared.stats.spool_writes_failed.increment();
        self.retry_at = Some(now + RETRY);
        let error = format!(
            "{}; alerts are delivered from memory and would be lost by a restart; make room, or \
             make the folder writable",
            error.log_text()
        );
        if let Some(count) = self.write_throttle.admit(1, now) {
            tracing::error!(count, %error, "spool cannot be written");
        }
        self.shared.is_degraded.store(true, Ordering::Release);
        self.shared.index().error = Some(error);
    }

    /// Leaves the degraded mode.
    pub(super) fn succeeded(&mut self) {
        if self.retry_at.take().is_none() {
            return;
        }
        tracing::info!(path = %self.path("").display(), "spool can be written again");
        self.shared.index().error = None;
        if self.state_gap {
            self.shared.wants_snapshot.store(true, Ordering::Release);
        }
        self.shared.is_degraded.store(false, Ordering::Release);
    }

    /// Counts the alerts that are lost when the agent ends: those that are neither on disk nor
    /// acknowledged by all sinks.
    pub(super) fn count_lost(&self) {
        let acknowledged = self.shared.index().acknowledged();
        let pending = self.unsynced.iter().chain(&self.unwritten);
        let lost: u64 =
            pending.map(|it| it.end().saturating_sub(it.header.sequence.max(acknowledged))).sum();
        self.shared.stats.alerts_lost_unwritten.add(lost);
        if lost > 0 {
            let path = self.path("");
            tracing::error!(path = %path.display(), lost, "alerts lost; the spool could not be written");
        }
    }

    /// Publishes commits that are in memory only.
    pub(super) fn publish_unwritten(&mut self) {
        let mut scratch = Vec::new();
        // Published commits come first.
        let from = self.unwritten.partition_point(|pending| pending.is_published);
        for pending in self.unwritten.range_mut(from..) {
            // The tail needs the sizes.
            if pending.sizes.len() < pending.alerts.len() {
                scratch.clear();
                pending.encode(&mut scratch);
            }
        }
        let readable = {
            let mut index = self.shared.index();
            for pending in self.unsynced.iter_mut().chain(self.unwritten.range_mut(from..)) {
                index.publish(pending);
            }
            index.readable
        };
        self.notify_readers(readable, 0);
    }

    /// Releases unwritten alerts that no sink needs, and states above their limit. Runs if more was
    /// acknowledged, or if `is_forced`.
    pub(super) fn release_acknowledged(&mut self, is_forced: bool) {
        let acknowledged = self.shared.index().acknowledged();
        if !is_forced && acknowledged <= self.released {
            return;
        }
        self.released = acknowledged;
        if self.unwritten.iter().map(|it| it.state_bytes().len()).sum::<usize>() > STATES_MAX {
            self.unwritten.iter_mut().for_each(|pending| pending.state = None);
            self.state_gap = true;
        }
        let mut released = 0;
        self.unwritten.retain_mut(|pending| {
            if pending.is_published && pending.end() <= acknowledged {
                released += pending.alerts.len();
                (pending.alerts, pending.sizes) = (Vec::new(), Vec::new());
            }
            !pending.alerts.is_empty() || pending.state.is_some()
        });
        let readable = {
            let mut index = self.shared.index();
            index.tail.remove_before(acknowledged);
            index.readable
        };
        self.notify_readers(readable, released);
    }

    /// Reads the folder if that failed at start.
    pub(super) fn open_late(&mut self) -> Result<()> {
        if self.is_open {
            return Ok(());
        }
        let found = recover(&*self.shared.storage);
        let found = found.map_err(|error| write_error(&self.path(""), error))?;
        let (sequence, ordinal) = self.first_unwritten();
        if found.next.sequence > sequence || found.next.ordinal > ordinal {
            let reason = "it has later alerts than this run; restart the agent";
            return Err(write_error(&self.path(""), io::Error::other(reason)));
        }
        found.count(&self.shared.stats);
        self.next.generation = found.next.generation;
        self.chain = self.chain.max(found.states.chain);
        self.is_open = true;
        let mut index = self.shared.index();
        let oldest = found.segments.front().map_or(found.end, |segment| segment.first);
        for cursor in &mut index.cursors {
            let known = found.cursors.iter().find(|(name, _)| *name == cursor.name);
            let before = known.map_or(oldest, |(_, before)| *before);
            cursor.held_back = (before < found.end).then_some(before);
        }
        if index.cursors.iter().any(|cursor| cursor.held_back.is_some()) {
            tracing::warn!(
                path = %self.path("").display(),
                "alerts of an earlier run are in the spool; they are delivered after a restart"
            );
        }
        index.floor = found.floor;
        index.repairs = found.repairs;
        let later = std::mem::replace(&mut index.segments, found.segments);
        index.segments.extend(later);
        Ok(())
    }
}
