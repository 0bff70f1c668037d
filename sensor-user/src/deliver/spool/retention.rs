//! Retain: how long segments stay. One that all sinks have passed goes, once a later one has a
//! snapshot of the state; and the oldest goes where there is too much, or it is too old.

use std::io;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::segment::Segment;
use super::shared::Index;
use super::writer::Log;
use crate::base::clock::signed;
use crate::base::counters::Counter;

/// A segment is ended after this part of the greatest age, so that what is too old can go.
const AGE_PARTS: u32 = 8;

impl Log {
    /// Whether the next commit belongs into another segment.
    pub(super) fn is_full(&self) -> bool {
        let Some(active) = &self.active else { return false };
        if active.bytes >= self.segment_most() {
            return true;
        }
        let limit = signed(self.config.max_age / AGE_PARTS);
        let mut index = self.shared.index();
        let oldest = index.segment_mut(active.generation).and_then(|segment| segment.oldest);
        oldest.is_some_and(|oldest| self.clock.now().duration_since(oldest) > limit)
    }

    /// Bytes that the segment still takes.
    pub(super) fn room(&self) -> usize {
        let bytes = self.active.as_ref().map_or(0, |active| active.bytes);
        usize::try_from(self.segment_most().saturating_sub(bytes)).unwrap_or(usize::MAX)
    }

    /// Bytes of a segment, about: several snapshots, so that they are not most of what is written.
    pub(super) fn segment_most(&self) -> u64 {
        self.config.segment_bytes.max(self.snapshot_bytes.saturating_mul(4))
    }

    /// Ends a full segment, and removes what is not to stay.
    pub(super) fn retain(&mut self) {
        if self.retry_at.is_none() && self.waiting.is_empty() && self.is_full() {
            let ended = self.sync().and_then(|()| {
                self.end_active();
                self.begin_segment()
            });
            if let Err(error) = ended {
                self.failed(&error, Instant::now());
                self.publish_unwritten();
            }
        }
        while self.removes_passed() {}
        self.evict_for_size();
        while self.evicts_age() {}
    }

    /// Removes the oldest segment where nothing of it is needed.
    fn removes_passed(&self) -> bool {
        let oldest = {
            let index = self.shared.index();
            let needed = index.needed();
            self.removable(&index).filter(|oldest| oldest.end <= needed)
        };
        oldest.is_some_and(|oldest| self.remove(&oldest))
    }

    /// The oldest segment, unless it is written to or has the last snapshot.
    fn removable(&self, index: &Index) -> Option<Segment> {
        let oldest = self.oldest(index)?;
        index.floor.is_none_or(|floor| oldest.generation < floor).then_some(oldest)
    }

    /// The last one stays even where it is not written to: its numbers are used.
    fn oldest(&self, index: &Index) -> Option<Segment> {
        if index.segments.len() < 2 {
            return None;
        }
        let active = self.active.as_ref().map(|active| active.generation);
        index.segments.front().filter(|oldest| Some(oldest.generation) != active).cloned()
    }

    /// Removes the oldest segments while all of them take too much.
    pub(super) fn evict_for_size(&mut self) {
        while self.evicts_size() {}
    }

    fn evicts_size(&mut self) -> bool {
        let (oldest, takes_state) = {
            let index = self.shared.index();
            let bytes = index.bytes();
            if bytes <= self.config.max_bytes {
                return false;
            }
            match self.removable(&index) {
                Some(oldest) => (Some(oldest), false),
                // No snapshot came though one was asked for: the bound is worth more.
                None if bytes > self.config.max_bytes.saturating_add(self.segment_most()) => {
                    (self.oldest(&index), true)
                }
                None => (None, false),
            }
        };
        let Some(oldest) = oldest else { return false };
        if !self.evict(&oldest, "size", &self.stats.alerts_evicted_size) {
            return false;
        }
        if takes_state {
            self.state_gap = true;
            self.shared.index().floor = None;
            self.shared.wants_snapshot.store(true, Ordering::Release);
            tracing::error!("spool is over its size without a snapshot; the state is given up");
        }
        true
    }

    fn evicts_age(&self) -> bool {
        let oldest = self.removable(&self.shared.index());
        let Some(oldest) = oldest else { return false };
        let limit = signed(self.config.max_age);
        let age = oldest.newest.map(|newest| self.clock.now().duration_since(newest));
        age.is_some_and(|age| age > limit)
            && self.evict(&oldest, "age", &self.stats.alerts_evicted_age)
    }

    /// Removes a segment that sinks may still need; what they lose is counted.
    fn evict(&self, segment: &Segment, why: &str, counter: &Counter) -> bool {
        if !self.remove(segment) {
            return false;
        }
        let mut index = self.shared.index();
        let mut lost = 0;
        for cursor in &mut index.cursors {
            if !cursor.is_given_up {
                lost += segment.alerts_from(cursor.on_disk());
            }
            if let Some(held) = &mut cursor.held {
                *held = (*held).max(segment.end);
            }
            if cursor.next < segment.end {
                cursor.next = segment.end;
                cursor.is_dirty = true;
            }
        }
        index.tail.forget_before(segment.end);
        drop(index);
        counter.add(lost);
        if lost > 0
            && let Some(count) = self.quiet_lost.admit(lost, Instant::now())
        {
            let path = self.path(&segment.name);
            tracing::error!(
                path = %path.display(),
                count,
                reason = why,
                "alerts evicted that a sink has not taken"
            );
        }
        true
    }

    /// Whether a segment is gone.
    fn remove(&self, segment: &Segment) -> bool {
        match self.storage.remove(&segment.name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                if let Some(count) = self.quiet_removal.admit(1, Instant::now()) {
                    let path = self.path(&segment.name);
                    let path = path.display();
                    tracing::error!(%path, count, %error, "remove a file of the spool");
                }
                return false;
            }
        }
        self.shared.index().segments.retain(|it| it.generation != segment.generation);
        if let Err(error) = self.storage.sync_dir() {
            tracing::debug!(path = %self.path("").display(), %error, "sync the spool's folder");
        }
        true
    }
}
