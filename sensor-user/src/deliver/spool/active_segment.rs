//! `ActiveSegment`: the segment that the writer appends to.

use std::io;

use super::segment::Segment;
use super::storage::StorageFile;

/// Reserved room of a segment behind its last frame, in bytes at most.
const RESERVE: u64 = 256 << 10;

/// Segment that is written to.
#[derive(Debug)]
pub(super) struct ActiveSegment {
    pub(super) file: Box<dyn StorageFile>,
    pub(super) name: String,
    pub(super) generation: u64,
    /// Length up to the last whole frame.
    pub(super) bytes: u64,
    /// Length with the reserved room, which is zeros.
    reserved: u64,
    /// Length that is synced.
    pub(super) synced: u64,
    /// True if a snapshot was written, synced or not.
    pub(super) has_snapshot: bool,
}

impl ActiveSegment {
    pub(super) fn new(
        file: Box<dyn StorageFile>,
        Segment { name, generation, bytes, .. }: Segment,
        has_snapshot: bool,
    ) -> Self {
        let (reserved, synced) = (bytes, bytes);
        Self { file, name, generation, bytes, reserved, synced, has_snapshot }
    }

    /// Appends `frames`. Reserves room for them first, up to `max` bytes of the file, if the file
    /// system can; otherwise the write finds it.
    pub(super) fn append(&mut self, frames: &[u8], max: u64) -> io::Result<()> {
        let end = self.bytes + frames.len() as u64;
        if end > self.reserved {
            self.reserved = end.next_multiple_of(RESERVE).min(max.max(end));
            let reserved = self.file.reserve(self.reserved);
            tracing::trace!(is_reserved = reserved.is_ok(), "room reserved in a spool segment");
        }
        self.file.write_at(self.bytes, frames)?;
        self.bytes = end;
        Ok(())
    }

    /// Cuts partial frames and reserved room off.
    pub(super) fn truncate(&mut self) -> io::Result<()> {
        self.reserved = self.bytes;
        self.file.truncate(self.bytes)
    }
}
