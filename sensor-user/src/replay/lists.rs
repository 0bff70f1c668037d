//! `Lists`: entries of plain lists of indicators, which are read on all cores.

use std::io::{self, BufRead};
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use super::blocks::{Block, Blocks, worker_count};
use super::stored_entries::{IdHash, store};
use crate::base::collections::FastSet;
use crate::intel::{
    EntryContent, EntrySink, FeedEntry, ListFormat, MemorySegment, ReadPolicy, RejectReason,
    Rejects, id_hash, read_list,
};

/// Entries of all lists, of which the first with an id counts.
pub(super) struct Lists {
    policy: ReadPolicy,
    entries: Vec<(IdHash, Range<u32>)>,
}

impl Lists {
    pub(super) const fn new(policy: ReadPolicy) -> Self {
        Self { policy, entries: Vec::new() }
    }

    /// Reads a list. Its indicators are made at the time of the policy, and have no expiry.
    pub(super) fn read(
        &mut self,
        input: impl BufRead,
        feed: &Arc<str>,
        segment: &mut MemorySegment,
    ) -> io::Result<Rejects> {
        let policy = self.policy;
        let workers = worker_count();
        let mut round: Vec<Block> = (0..workers).map(|_| Block::default()).collect();
        let mut blocks = Blocks::new(input);
        let (mut rejects, mut lines) = (Rejects::default(), 0);
        loop {
            blocks.fill(&mut round)?;
            if round.iter().all(Block::is_empty) {
                return Ok(rejects);
            }
            let parts = thread::scope(|scope| {
                let mut threads = Vec::with_capacity(workers);
                for block in &round {
                    threads.push(scope.spawn(move || ListPart::read(block, feed, &policy)));
                }
                let failed = |_panic| Err(io::Error::other("a thread that reads a list panicked"));
                let parts = threads.into_iter().map(|it| it.join().unwrap_or_else(failed));
                parts.collect::<io::Result<Vec<ListPart>>>()
            })?;
            for part in parts {
                let first = segment.next_number();
                let moved = |it: Range<u32>| it.start + first..it.end + first;
                segment.append(part.segment);
                self.entries.extend(part.entries.into_iter().map(|(id, it)| (id, moved(it))));
                rejects.append(part.rejects, lines);
                lines += part.lines;
            }
        }
    }

    /// Keeps the indicators of each id that is not in `ids`, which receives it.
    pub(super) fn keep(self, segment: &mut MemorySegment, ids: &mut FastSet<IdHash>) {
        ids.reserve(self.entries.len());
        for (id, records) in self.entries {
            if ids.insert(id) {
                segment.keep(records);
            }
        }
    }
}

/// Entries of consecutive lines.
struct ListPart {
    feed: Arc<str>,
    segment: MemorySegment,
    entries: Vec<(IdHash, Range<u32>)>,
    rejects: Rejects,
    lines: u64,
}

impl ListPart {
    fn read(block: &Block, feed: &Arc<str>, policy: &ReadPolicy) -> io::Result<Self> {
        let mut part = Self {
            // Of its own, so that threads do not wait for each other at one reference count.
            feed: Arc::from(&**feed),
            segment: MemorySegment::default(),
            entries: Vec::new(),
            rejects: Rejects::default(),
            lines: 0,
        };
        part.lines = read_list(block.bytes(), &ListFormat::default(), policy, 1, &mut part)?;
        Ok(part)
    }
}

impl EntrySink for ListPart {
    fn push(&mut self, entry: FeedEntry) {
        let EntryContent::Indicators(mut all) = entry.content else { return };
        let id = format!("{}:{}", self.feed, entry.id);
        let hash = id_hash(&id);
        for indicator in &mut all {
            // A plain list has no ids: that of an entry is that of its indicator.
            indicator.id.clone_from(&id);
            indicator.feed = Arc::clone(&self.feed);
        }
        self.entries.push((hash, store(&mut self.segment, &all)));
    }

    fn reject(&mut self, position: u64, reason: RejectReason, text: &str) {
        self.rejects.add(position, reason, text);
    }
}
