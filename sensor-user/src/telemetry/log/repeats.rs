//! Folding of repeated lines: the first is logged at once, equal lines within the next ten seconds are
//! counted and logged once with their number.
//!
//! The table has at most [`LINES_MAX`] lines. A full table evicts the least recently logged line, whose
//! repeats are logged then. A line that repeats without end is logged once in ten seconds.

use foldhash::fast::RandomState;
use jiff::{SignedDuration, Timestamp};
use std::hash::BuildHasher as _;

use super::Emit;
use super::line::LogLine;
use super::{POLL_INTERVAL, has_passed};
use crate::base::collections;
use crate::base::collections::Table;

/// Time for which repeats of a line are counted before they are logged.
pub(super) const FOLD_WINDOW: SignedDuration = SignedDuration::from_secs(10);
/// Limit of the different lines whose repeats are counted.
pub(super) const LINES_MAX: usize = 256;

/// Recently logged lines, with the number of their repeats.
#[derive(Debug)]
pub(super) struct RepeatFilter {
    /// By the hash of the line's log statement and text.
    lines: Table<u64, Repeats>,
    hasher: RandomState,
    last_poll: Timestamp,
}

#[derive(Debug)]
struct Repeats {
    line: LogLine,
    since: Timestamp,
    count: u64,
}

impl RepeatFilter {
    pub(super) fn new(max_lines: usize) -> Self {
        Self {
            lines: collections::table(max_lines),
            hasher: RandomState::default(),
            last_poll: Timestamp::MIN,
        }
    }

    /// Emits `line`, or counts it if it repeats a recent line.
    pub(super) fn push(&mut self, line: LogLine, now: Timestamp, emit: Emit<'_>) {
        self.poll(now, emit);
        let key = self.hasher.hash_one((line.metadata.callsite(), &line.text));
        if let Some(recent) = self.lines.get_mut(&key)
            && !recent.is_over(now)
        {
            recent.count = recent.count.saturating_add(1);
            return;
        }
        if let Some(recent) = self.lines.pop(&key) {
            recent.emit(emit);
        }
        emit(&line, 0);
        let recent = Repeats { line, since: now, count: 0 };
        if let Some((_, evicted)) = self.lines.push(key, recent) {
            evicted.emit(emit);
        }
    }

    /// Emits the repeats whose window is over. Does nothing within a second of the last call.
    pub(super) fn poll(&mut self, now: Timestamp, emit: Emit<'_>) {
        if !has_passed(self.last_poll, POLL_INTERVAL, now) {
            return;
        }
        self.last_poll = now;
        let mut over = Vec::new();
        for (key, recent) in &mut self.lines {
            if recent.is_over(now) {
                if recent.count == 0 {
                    over.push(*key);
                } else {
                    recent.emit(emit);
                    (recent.since, recent.count) = (now, 0);
                }
            }
        }
        for key in over {
            self.lines.pop(&key);
        }
    }

    /// Emits all repeats and clears the table.
    pub(super) fn flush(&mut self, emit: Emit<'_>) {
        while let Some((_, recent)) = self.lines.pop_lru() {
            recent.emit(emit);
        }
    }
}

impl Repeats {
    /// True if the window is over, also because the clock was set back.
    fn is_over(&self, now: Timestamp) -> bool {
        has_passed(self.since, FOLD_WINDOW, now)
    }

    fn emit(&self, emit: Emit<'_>) {
        if self.count > 0 {
            emit(&self.line, self.count);
        }
    }
}
