//! Retention: removes segments that all sinks have acknowledged once a later segment has a snapshot,
//! and evicts the oldest segments above the limits of size and age.

use std::io;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::index::Index;
use super::segment::Segment;
use super::writer::SpoolWriter;
use crate::base::clock::signed;
use crate::base::counters::Counter;

/// A segment ends after this part of the maximum age, so that old alerts can be evicted.
const AGE_PARTS: u32 = 8;

impl SpoolWriter {
    /// True if the next commit needs another segment.
    pub(super) fn is_full(&self) -> bool {
        let Some(active) = &self.active else { return false };
        if active.bytes >= self.segment_max() {
            return true;
        }
        let limit = signed(self.shared.config.max_age / AGE_PARTS);
        let mut index = self.shared.index();
        let oldest = index.segment_mut(active.generation).and_then(|segment| segment.oldest);
        oldest.is_some_and(|oldest| self.clock.now().duration_since(oldest) > limit)
    }

    /// Remaining bytes of the segment.
    pub(super) fn room(&self) -> usize {
        let bytes = self.active.as_ref().map_or(0, |active| active.bytes);
        usize::try_from(self.segment_max().saturating_sub(bytes)).unwrap_or(usize::MAX)
    }

    /// Bytes of a segment, about. It is several snapshots, so that most writes are not snapshots.
    pub(super) fn segment_max(&self) -> u64 {
        self.shared.config.segment_bytes.max(self.snapshot_bytes.saturating_mul(4))
    }

    /// Ends a full segment, and removes segments.
    pub(super) fn retain(&mut self) {
        if self.retry_at.is_none() && self.unwritten.is_empty() && self.is_full() {
            let ended = self.sync().and_then(|()| {
                self.end_active();
                self.begin_segment()
            });
            if let Err(error) = ended {
                self.failed(&error, Instant::now());
                self.publish_unwritten();
            }
        }
        while self.remove_acknowledged() {}
        self.evict_over_size();
        while self.evict_expired() {}
    }

    fn remove_acknowledged(&self) -> bool {
        let oldest = {
            let index = self.shared.index();
            // A cursor that is not in the file yet would show the segment as missing after a kill.
            let is_saved = !index.cursors.iter().any(|it| it.is_dirty && !it.is_removed);
            let is_passed = |oldest: &Segment| is_saved && oldest.end <= index.needed();
            self.removable(&index).filter(is_passed)
        };
        oldest.is_some_and(|oldest| self.remove(&oldest))
    }

    /// The oldest segment, unless it is active or has the last snapshot.
    fn removable(&self, index: &Index) -> Option<Segment> {
        let oldest = self.oldest(index)?;
        index.floor.is_none_or(|floor| oldest.generation < floor).then_some(oldest)
    }

    /// The oldest segment, unless it is active. The only one is kept, since its numbers are used.
    fn oldest(&self, index: &Index) -> Option<Segment> {
        let active = self.active.as_ref().map(|active| active.generation);
        let oldest = index.segments.front().filter(|_| index.segments.len() > 1)?;
        (Some(oldest.generation) != active).then(|| oldest.clone())
    }

    /// Evicts the oldest segments while the size of all is above its limit.
    pub(super) fn evict_over_size(&mut self) {
        let max = self.shared.config.max_bytes;
        loop {
            let (oldest, has_state) = {
                let index = self.shared.index();
                let bytes = index.bytes();
                let removable = self.removable(&index).filter(|_| bytes > max);
                // Without the requested snapshot, the limit takes precedence over the state.
                let has_state =
                    removable.is_none() && bytes > max.saturating_add(self.segment_max());
                (if has_state { self.oldest(&index) } else { removable }, has_state)
            };
            let Some(oldest) = oldest else { return };
            if !self.evict(&oldest, "size", &self.shared.stats.alerts_evicted_size) {
                return;
            }
            if has_state {
                self.state_gap = true;
                self.shared.index().floor = None;
                self.shared.wants_snapshot.store(true, Ordering::Release);
                tracing::error!("spool is over its size without a snapshot; the state is dropped");
            }
        }
    }

    fn evict_expired(&self) -> bool {
        let Some(oldest) = self.removable(&self.shared.index()) else { return false };
        let limit = signed(self.shared.config.max_age);
        let is_expired =
            oldest.newest.is_some_and(|it| self.clock.now().duration_since(it) > limit);
        is_expired && self.evict(&oldest, "age", &self.shared.stats.alerts_evicted_age)
    }

    /// Removes a segment that sinks may need, and counts the alerts that each loses.
    fn evict(&self, segment: &Segment, reason: &str, counter: &Counter) -> bool {
        if !self.remove(segment) {
            return false;
        }
        let mut index = self.shared.index();
        let mut lost = 0;
        for cursor in &mut index.cursors {
            if !cursor.is_removed {
                lost += segment.alerts_from(cursor.on_disk());
            }
            if let Some(held_back) = &mut cursor.held_back {
                *held_back = (*held_back).max(segment.end);
            }
            if cursor.next < segment.end {
                cursor.next = segment.end;
                cursor.is_dirty = true;
            }
        }
        index.tail.remove_before(segment.end);
        drop(index);
        counter.add(lost);
        if lost > 0
            && let Some(count) = self.eviction_throttle.admit(lost, Instant::now())
        {
            let path = self.path(&segment.name);
            let path = path.display();
            tracing::error!(%path, count, reason, "alerts evicted before delivery to a sink");
        }
        true
    }

    fn remove(&self, segment: &Segment) -> bool {
        match self.shared.storage.remove(&segment.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                if let Some(count) = self.removal_throttle.admit(1, Instant::now()) {
                    let path = self.path(&segment.name);
                    let path = path.display();
                    tracing::error!(%path, count, %error, "spool segment cannot be removed");
                }
                return false;
            }
            _ => {}
        }
        self.shared.index().segments.retain(|it| it.generation != segment.generation);
        if let Err(error) = self.shared.storage.sync_dir() {
            tracing::debug!(path = %self.path("").display(), %error, "spool folder cannot be synced");
        }
        true
    }
}
