//! How full the history is.

use super::table::History;

impl History {
    /// Kinds of connections that are known, and how many may be.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.entries.len(), self.config.max_entries)
    }

    /// Bytes of files, and how many there may be.
    pub fn bytes(&self) -> (u64, u64) {
        let bytes = self.segments.iter().map(|(segment, _)| segment.bytes).sum();
        (bytes, self.config.max_bytes)
    }
}
