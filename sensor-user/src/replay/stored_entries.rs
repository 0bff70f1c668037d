//! Entries of rows and documents of indicators while the files are read: their indicators are in a [`MemorySegment`], and which
//! of them count is known at the end.

use std::io::{self, BufRead};
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use crate::base::collections::{FastIndexMap, FastSet};
use crate::intel::{
    DocumentFormat, EntryContent, EntrySink, FeedEntry, FeedKind, Indicator, ListFormat,
    MemorySegment, ReadPolicy, RejectReason, Rejects, id_hash, read_document,
};

/// Hash of an id, or of a group.
pub(super) type IdHash = u128;

/// Adds indicators; returns the numbers of their records.
pub(super) fn store(segment: &mut MemorySegment, indicators: &[Indicator]) -> Range<u32> {
    let first = segment.next_number();
    for indicator in indicators {
        segment.push(indicator);
    }
    first..segment.next_number()
}

/// Sink of the rows that count. Others have been left out.
pub(super) struct RowEntries<'s> {
    pub(super) segment: &'s mut MemorySegment,
    /// Receives the ids.
    pub(super) ids: &'s mut FastSet<IdHash>,
}

impl EntrySink for RowEntries<'_> {
    fn push(&mut self, entry: FeedEntry) {
        if let EntryContent::Indicators(all) = entry.content {
            let records = store(self.segment, &all);
            self.segment.keep(records);
            self.ids.insert(id_hash(&entry.id));
        }
    }

    fn reject(&mut self, _position: u64, _reason: RejectReason, _text: &str) {}
}

/// Entry of a document.
struct StoredEntry {
    id: IdHash,
    group: IdHash,
    version: Option<Timestamp>,
    content: StoredContent,
}

enum StoredContent {
    /// Numbers of the records; none if all have expired.
    Records(Range<u32>),
    /// Removed; true for a deletion.
    Removed(bool),
}

/// Newest version of each id in STIX, MISP and similar documents, in the order of first occurrence.
pub(super) struct Documents {
    policy: ReadPolicy,
    newest: FastIndexMap<IdHash, StoredEntry>,
    /// True if a file of `CrowdSec` had two decisions of a group: see [`crate::intel::Merge::withdrawing_groups`].
    has_repeated_groups: bool,
}

impl Documents {
    pub(super) fn new(policy: ReadPolicy) -> Self {
        Self { policy, newest: FastIndexMap::default(), has_repeated_groups: false }
    }

    /// Reads a file. A truncated file, or one of another kind, is an error.
    pub(super) fn read(
        &mut self,
        input: impl BufRead,
        kind: FeedKind,
        feed: &Arc<str>,
        segment: &mut MemorySegment,
    ) -> io::Result<Rejects> {
        let format = DocumentFormat { kind, list: &ListFormat::default(), max_bytes: u64::MAX };
        let now = self.policy.now;
        let mut document = DocumentEntries {
            segment,
            feed,
            now,
            entries: Vec::new(),
            rejects: Rejects::default(),
        };
        read_document(input, format, &self.policy, 1, &mut document)?;
        let DocumentEntries { entries, rejects, .. } = document;
        if kind == FeedKind::CrowdSec {
            self.withdraw_groups(&entries);
        }
        for entry in entries {
            let known = self.newest.get(&entry.id);
            if known.is_none_or(|known| known.version <= entry.version) {
                self.newest.insert(entry.id, entry);
            }
        }
        Ok(rejects)
    }

    /// Removes the groups of decisions of which a file has only a deletion with an unknown id, as a pull does.
    fn withdraw_groups(&mut self, entries: &[StoredEntry]) {
        let (mut added, mut withdrawn) = (FastSet::default(), FastSet::default());
        for entry in entries {
            match entry.content {
                StoredContent::Records(_) => self.has_repeated_groups |= !added.insert(entry.group),
                StoredContent::Removed(true) if !self.newest.contains_key(&entry.id) => {
                    withdrawn.insert(entry.group);
                }
                StoredContent::Removed(_) => {}
            }
        }
        if !self.has_repeated_groups {
            self.newest.retain(|_, it| added.contains(&it.group) || !withdrawn.contains(&it.group));
        }
    }

    /// Keeps the live indicators of each id that is not in `ids`, which receives it.
    pub(super) fn keep(self, segment: &mut MemorySegment, ids: &mut FastSet<IdHash>) {
        for (id, entry) in self.newest {
            match entry.content {
                StoredContent::Records(records) if !records.is_empty() && ids.insert(id) => {
                    segment.keep(records);
                }
                _ => {}
            }
        }
    }
}

/// Sink of the entries of one document.
struct DocumentEntries<'s> {
    segment: &'s mut MemorySegment,
    feed: &'s Arc<str>,
    now: Timestamp,
    entries: Vec<StoredEntry>,
    rejects: Rejects,
}

impl EntrySink for DocumentEntries<'_> {
    fn push(&mut self, entry: FeedEntry) {
        let FeedEntry { id, group, version, position, content } = entry;
        let content = match content {
            EntryContent::Indicators(mut all) => {
                all.retain(|it| it.expires.is_none_or(|end| end > self.now));
                for indicator in &mut all {
                    indicator.feed = Arc::clone(self.feed);
                }
                StoredContent::Records(store(self.segment, &all))
            }
            EntryContent::Removed(reason) => {
                let is_deletion = reason == RejectReason::Withdrawn;
                self.rejects.add(position, reason, &id);
                StoredContent::Removed(is_deletion)
            }
        };
        let (id, group) = (id_hash(&id), id_hash(&group));
        self.entries.push(StoredEntry { id, group, version, content });
    }

    fn reject(&mut self, position: u64, reason: RejectReason, text: &str) {
        self.rejects.add(position, reason, text);
    }
}
