//! Gaps: segments that are missing from a spool's folder, by the numbers of the others.
//!
//! Segments have consecutive generations, and are removed from the oldest on, after every sink has passed
//! them. So a segment is missing if a generation between two others is, or if the oldest one begins after
//! an alert that a sink has not acknowledged. A file that was renamed to `NAME.bad` is damaged, not missing.
//! Alerts that every sink has acknowledged are no gap: they may have been delivered from memory, while the
//! disk accepted no writes.

use std::io;
use std::ops::Range;

use super::segment::SegmentFile;
use super::storage::Storage;

/// What is missing before a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    /// Numbers of the alerts that some sink has not acknowledged.
    pub(super) alerts: Range<u64>,
    pub(super) text: String,
}

/// Finds the gaps of a folder.
#[derive(Debug)]
pub(super) struct GapFinder {
    /// Generations of renamed files.
    renamed: Vec<u64>,
    /// Number of the first alert that a sink has not acknowledged; `None` if there is no cursor.
    unacknowledged: Option<u64>,
    last_generation: Option<u64>,
}

impl GapFinder {
    /// A finder for the folder of `storage`, whose sinks have these cursors.
    pub(super) fn new(storage: &dyn Storage, cursors: &[(String, u64)]) -> io::Result<Self> {
        let names = storage.list()?.into_iter();
        let renamed = names.filter_map(|(name, bytes)| {
            let name = name.strip_suffix(".bad")?.to_owned();
            SegmentFile::new(name, bytes).map(|file| file.generation)
        });
        Ok(Self {
            renamed: renamed.collect(),
            unacknowledged: cursors.iter().map(|(_, cursor)| *cursor).min(),
            last_generation: None,
        })
    }

    /// Returns the gap before the next segment. `end` is the number after that of the last alert of those
    /// before it.
    pub(super) fn before(&mut self, file: &SegmentFile, end: u64) -> Option<Gap> {
        let (from, missing) = match self.last_generation.replace(file.generation) {
            Some(last) => {
                let between = last.saturating_add(1)..file.generation;
                let known = self.renamed.iter().filter(|it| between.contains(it)).count() as u64;
                let missing = between.end.saturating_sub(between.start).saturating_sub(known);
                (end, missing)
            }
            // The number of removed segments is not known.
            None => match self.unacknowledged {
                Some(cursor) if cursor < file.first && self.renamed.is_empty() => (cursor, 1),
                _ => return None,
            },
        };
        let from = from.max(self.unacknowledged.unwrap_or(0));
        let alerts = from.min(file.first)..file.first;
        if missing == 0 || alerts.is_empty() {
            return None;
        }
        let text = format!(
            "segments before it are missing, with {} alerts that were not delivered to every sink, \
             numbers {} to {}; restore the files, or find out what removed them",
            alerts.end - alerts.start,
            alerts.start,
            alerts.end - 1
        );
        Some(Gap { alerts, text })
    }
}
