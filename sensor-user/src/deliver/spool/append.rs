//! Appending: how the writer begins, appends to, syncs and ends the active segment, or abandons it after
//! an error.

use std::io;
use std::sync::atomic::Ordering;

use super::active_segment::ActiveSegment;
use super::frame::{HEADER, SegmentHeader};
use super::segment::Segment;
use super::writer::{Result, SpoolWriter};
use crate::deliver::DeliverError;
use crate::deliver::error::write_error;

impl SpoolWriter {
    pub(super) fn append(&mut self, frames: &[u8]) -> Result<()> {
        let max = self.segment_max();
        let Some(active) = &mut self.active else { return Ok(()) };
        if let Err(error) = active.append(frames, max) {
            let error = write_error(&self.shared.storage.path(&active.name), error);
            if active.truncate().is_err() {
                self.abandon_active();
            }
            return Err(error);
        }
        if let Some(segment) = self.shared.index().segment_mut(active.generation) {
            segment.bytes = active.bytes;
        }
        Ok(())
    }

    /// Checks that the disk accepts writes again, when there is nothing to write.
    pub(super) fn probe(&mut self) -> Result<()> {
        if self.active.is_none() {
            self.begin_segment()?;
        }
        let Some(active) = &mut self.active else { return Ok(()) };
        let written = active.file.write_at(active.bytes, &[0; 4096]);
        let truncated = active.truncate();
        let probed = written.and(truncated).and_then(|()| active.file.sync());
        probed.map_err(|error| self.abandon_failed(error))
    }

    pub(super) fn begin_segment(&mut self) -> Result<()> {
        let (sequence, ordinal) = self.first_unwritten();
        let header = SegmentHeader { sequence, ordinal };
        let segment = Segment::new(self.next.generation, header);
        self.next.generation += 1;
        let created = self.shared.storage.create(&segment.name).and_then(|mut file| {
            file.write_at(0, &header.encode())?;
            // The numbers are durable, whatever segment is removed before it.
            file.sync()?;
            self.shared.storage.sync_dir()?;
            Ok(file)
        });
        let file = created.map_err(|error| {
            let removed = self.shared.storage.remove(&segment.name);
            tracing::trace!(is_removed = removed.is_ok(), "spool segment was not created");
            write_error(&self.path(&segment.name), error)
        })?;
        self.active = Some(ActiveSegment::new(file, segment.clone(), false));
        self.shared.index().segments.push_back(segment);
        self.shared.wants_snapshot.store(true, Ordering::Release);
        Ok(())
    }

    /// Syncs the segment, and publishes the commits that are on disk then.
    pub(super) fn sync(&mut self) -> Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if self.unsynced.is_empty() {
            return Ok(());
        }
        if let Err(error) = active.file.sync() {
            return Err(self.abandon_failed(error));
        }
        active.synced = active.bytes;
        self.unsynced_since = None;
        let mut held = 0;
        let mut index = self.shared.index();
        for mut pending in self.unsynced.drain(..) {
            held += pending.alerts.len();
            index.publish(&mut pending);
            if let Some(segment) = index.segment_mut(active.generation) {
                let alerts = pending.alerts.len() as u64;
                segment.add_alerts(pending.end(), alerts, pending.header.time);
            }
            index.durable = index.durable.max(pending.end());
        }
        if active.has_snapshot {
            index.floor = Some(active.generation);
        }
        let (acknowledged, durable) = (index.acknowledged(), index.durable);
        index.tail.remove_before(acknowledged);
        index.tail.trim(durable);
        let readable = index.readable;
        drop(index);
        self.notify_readers(readable, held);
        Ok(())
    }

    /// Wakes the readers, and releases the room of `held` alerts in the queue.
    pub(super) fn notify_readers(&self, readable: u64, held: usize) {
        self.shared.readable.send_if_modified(|known| {
            let is_news = *known < readable;
            *known = readable.max(*known);
            is_news
        });
        let mut queue = self.shared.queue();
        queue.held = queue.held.saturating_sub(held);
    }

    /// Ends the segment, which is complete and synced.
    pub(super) fn end_active(&mut self) {
        if let Some(mut active) = self.active.take() {
            let truncated = active.truncate();
            tracing::trace!(is_truncated = truncated.is_ok(), "spool segment ended");
        }
    }

    fn abandon_failed(&mut self, error: io::Error) -> DeliverError {
        let name = self.active.as_ref().map_or("", |active| active.name.as_str());
        let error = write_error(&self.path(name), error);
        self.abandon_active();
        error
    }

    /// Ends the segment after an error: only what was synced before counts as written, and the rest
    /// is written again, to another segment.
    fn abandon_active(&mut self) {
        let Some(mut active) = self.active.take() else { return };
        self.unsynced_since = None;
        self.unsynced.append(&mut self.unwritten);
        std::mem::swap(&mut self.unsynced, &mut self.unwritten);
        // Recovery skips repetitions by their ordinals, so the results need not be checked. The only
        // segment is kept, since its numbers are used.
        let is_unused = active.synced == HEADER && self.shared.index().segments.len() > 1;
        if is_unused && self.shared.storage.remove(&active.name).is_ok() {
            self.shared.index().segments.retain(|it| it.generation != active.generation);
        } else if active.file.truncate(active.synced).is_ok()
            && let Some(segment) = self.shared.index().segment_mut(active.generation)
        {
            segment.bytes = active.synced;
        }
    }
}
