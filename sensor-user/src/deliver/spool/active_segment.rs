//! Active: the segment that is written to, how it begins, and how it ends when the disk fails it.

use std::io;
use std::sync::atomic::Ordering;

use super::frame::{HEADER, Header};
use super::segment::Segment;
use super::storage::StorageFile;
use super::writer::{Log, Result};
use crate::deliver::sinks::file::describe;

/// Room that a segment has beyond what is written, bytes at most.
const RESERVE: u64 = 256 << 10;

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) file: Box<dyn StorageFile>,
    pub(super) name: String,
    pub(super) generation: u64,
    /// What is whole of it.
    pub(super) bytes: u64,
    /// Up to where it has room; zeros behind `bytes`.
    pub(super) reserved: u64,
    /// What of that is synced.
    pub(super) synced: u64,
    /// It has a snapshot, synced or not.
    pub(super) has_snapshot: bool,
}

impl Active {
    /// Has room for `length` more bytes, where the file system can; else the write finds it. No more
    /// than that beyond `most` bytes in all.
    fn reserve(&mut self, length: u64, most: u64) {
        let end = self.bytes + length;
        if end > self.reserved {
            self.reserved = end.next_multiple_of(RESERVE).min(most.max(end));
            let reserved = self.file.reserve(self.reserved);
            tracing::trace!(is_reserved = reserved.is_ok(), "a file of the spool has room");
        }
    }

    /// Cuts what is not whole, and the room.
    fn cut(&mut self) -> io::Result<()> {
        self.reserved = self.bytes;
        self.file.truncate(self.bytes)
    }
}

impl Log {
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let most = self.segment_most();
        let Some(active) = &mut self.active else { return Ok(()) };
        active.reserve(bytes.len() as u64, most);
        if let Err(error) = active.file.write_at(active.bytes, bytes) {
            let path = self.storage.path(&active.name);
            if active.cut().is_err() {
                self.give_up_active();
            }
            return Err(describe(&path, error));
        }
        active.bytes += bytes.len() as u64;
        let (generation, length) = (active.generation, active.bytes);
        if let Some(segment) = self.shared.index().segment_mut(generation) {
            segment.bytes = length;
        }
        Ok(())
    }

    /// Whether the disk takes something again, where nothing waits for it.
    pub(super) fn probe(&mut self) -> Result<()> {
        if self.active.is_none() {
            self.begin_segment()?;
        }
        let Some(active) = &mut self.active else { return Ok(()) };
        let written = active.file.write_at(active.bytes, &[0; 4096]);
        let cut = active.cut();
        let Err(error) = written.and(cut).and_then(|()| active.file.sync()) else {
            return Ok(());
        };
        let path = self.storage.path(&active.name);
        self.give_up_active();
        Err(describe(&path, error))
    }

    pub(super) fn begin_segment(&mut self) -> Result<()> {
        let place = self.waiting.front().map(|pending| pending.place);
        let (sequence, ordinal) = place.map_or((self.next_sequence, self.next_ordinal), |place| {
            (place.sequence, place.ordinal)
        });
        let mut segment = Segment::new(self.next_generation, sequence, ordinal);
        self.next_generation += 1;
        let made = self.storage.create(&segment.name).and_then(|mut file| {
            file.write_at(0, &Header { sequence, ordinal }.bytes())?;
            // Whatever goes before it, its numbers are known.
            file.sync()?;
            self.storage.sync_dir()?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                let removed = self.storage.remove(&segment.name);
                tracing::trace!(removed = removed.is_ok(), "a file of the spool was not begun");
                return Err(describe(&self.path(&segment.name), error));
            }
        };
        segment.bytes = HEADER;
        self.active = Some(Active {
            file,
            name: segment.name.clone(),
            generation: segment.generation,
            bytes: HEADER,
            reserved: HEADER,
            synced: HEADER,
            has_snapshot: false,
        });
        self.shared.index().segments.push_back(segment);
        self.shared.wants_snapshot.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if self.unsynced.is_empty() {
            return Ok(());
        }
        if let Err(error) = active.file.sync() {
            let path = self.storage.path(&active.name);
            self.give_up_active();
            return Err(describe(&path, error));
        }
        active.synced = active.bytes;
        self.unsynced_since = None;
        let done = std::mem::take(&mut self.unsynced);
        self.settle_synced(done);
        Ok(())
    }

    /// The segment is whole, and synced: no more is written to it.
    pub(super) fn end_active(&mut self) {
        if let Some(mut active) = self.active.take() {
            let cut = active.cut();
            tracing::trace!(is_cut = cut.is_ok(), "a file of the spool has ended");
        }
    }

    /// Nothing is believed of the segment any more but what was synced before. The rest is written
    /// again, into another.
    pub(super) fn give_up_active(&mut self) {
        let Some(mut active) = self.active.take() else { return };
        self.unsynced_since = None;
        let mut again = std::mem::take(&mut self.unsynced);
        again.append(&mut self.waiting);
        self.waiting = again;
        // Repetitions are told by their ordinals, so nothing depends on what follows.
        // The only segment stays: its numbers are used.
        let is_needless = active.synced == HEADER && self.shared.index().segments.len() > 1;
        if is_needless && self.storage.remove(&active.name).is_ok() {
            let is_other = |it: &Segment| it.generation != active.generation;
            self.shared.index().segments.retain(is_other);
        } else if active.file.truncate(active.synced).is_ok()
            && let Some(segment) = self.shared.index().segment_mut(active.generation)
        {
            segment.bytes = active.synced;
        }
    }
}
