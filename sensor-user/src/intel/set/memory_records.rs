//! `MemoryRecords`: the records of a segment in memory.
//!
//! Indicators are encoded as in a set file (postcard), one after the other in one buffer, so that a million
//! of them take their texts and a few bytes each, and no allocation of their own:
//!
//! ```text
//! bytes  record 0 | record 1 | …        ends   end of each record
//! feeds  (first record, name) of each run of records of the same feed
//! ```

use std::sync::Arc;

use crate::intel::indicator::Indicator;

/// Encoded indicators.
#[derive(Debug, Default)]
pub(super) struct MemoryRecords {
    bytes: Vec<u8>,
    ends: Vec<u64>,
    feeds: Vec<(u32, Arc<str>)>,
}

impl MemoryRecords {
    pub(super) fn push(&mut self, indicator: &Indicator) {
        let number = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        if self.feeds.last().is_none_or(|(_, feed)| *feed != indicator.feed) {
            self.feeds.push((number, Arc::clone(&indicator.feed)));
        }
        let bytes = std::mem::take(&mut self.bytes);
        // Serialization into memory fails only for types that postcard does not support.
        self.bytes = postcard::to_extend(indicator, bytes).unwrap_or_default();
        self.ends.push(self.bytes.len() as u64);
    }

    pub(super) fn append(&mut self, mut other: Self) {
        let first = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        let offset = self.bytes.len() as u64;
        self.bytes.append(&mut other.bytes);
        self.ends.extend(other.ends.iter().map(|end| end + offset));
        let feeds = other.feeds.into_iter();
        self.feeds.extend(feeds.map(|(number, feed)| (number.saturating_add(first), feed)));
    }

    /// Returns the indicator of record `number`; `None` if there is none.
    pub(super) fn get(&self, number: u32) -> Option<Indicator> {
        let at = number as usize;
        let end = usize::try_from(*self.ends.get(at)?).ok()?;
        let before = at.checked_sub(1).and_then(|at| self.ends.get(at)).copied().unwrap_or(0);
        let record = self.bytes.get(usize::try_from(before).ok()?..end)?;
        let mut indicator: Indicator = postcard::from_bytes(record).ok()?;
        let run = self.feeds.partition_point(|(first, _)| *first <= number).checked_sub(1)?;
        indicator.feed = Arc::clone(&self.feeds.get(run)?.1);
        Some(indicator)
    }
}
