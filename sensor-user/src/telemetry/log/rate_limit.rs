//! Rate limit of the log, for each log statement in the code: a number of lines per minute. Further lines are counted,
//! and summarized in one line when the minute is over.
//!
//! Lines with different values are not folded, and values can come from other parties: names,
//! responses, file contents. No statement is suppressed entirely: its first lines are logged, and its
//! message with the number of the others.
//!
//! The table has at most [`CALLSITES_MAX`] statements. A full table evicts the least recently used one,
//! whose suppressed lines are summarized then.

use jiff::{SignedDuration, Timestamp};
use tracing::callsite::Identifier;

use super::Emit;
use super::line::LogLine;
use super::{POLL_INTERVAL, has_passed};
use crate::base::collections;
use crate::base::collections::Table;

/// Period of the limit.
pub(super) const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// Limit of a statement per minute. A host has some dozens of hooks, feeds and sinks at most: each
/// can log its own event in the same minute.
pub(super) const LINES_PER_MINUTE: u64 = 100;
/// Limit of the statements in the table; the agent has less than two hundred, its libraries a few more.
pub(super) const CALLSITES_MAX: usize = 512;

/// Lines of each log statement in its current minute.
#[derive(Debug)]
pub(super) struct RateLimit {
    callsites: Table<Identifier, CallsiteMinute>,
    max_lines: u64,
    /// Suppressed lines since [`Self::take_suppressed`].
    suppressed: u64,
    last_poll: Timestamp,
}

#[derive(Debug)]
struct CallsiteMinute {
    since: Timestamp,
    emitted: u64,
    suppressed: u64,
    /// The last suppressed line.
    line: Option<LogLine>,
}

impl RateLimit {
    /// A limit of `max_lines` per minute for each of at most `max_callsites` statements.
    pub(super) fn new(max_lines: u64, max_callsites: usize) -> Self {
        let callsites = collections::table(max_callsites);
        Self { callsites, max_lines, suppressed: 0, last_poll: Timestamp::MIN }
    }

    /// Emits `line` if its statement is below the limit, else counts it. `repeats` is the number of
    /// folded lines that it stands for, 0 for the line itself.
    pub(super) fn push(&mut self, line: &LogLine, repeats: u64, now: Timestamp, emit: Emit<'_>) {
        self.poll(now, emit);
        let key = line.metadata.callsite();
        if let Some(minute) = self.callsites.get_mut(&key).filter(|minute| !minute.is_over(now)) {
            if minute.emitted < self.max_lines {
                minute.emitted += 1;
                emit(line, repeats);
            } else {
                let events = repeats.max(1);
                minute.suppressed = minute.suppressed.saturating_add(events);
                minute.line = Some(line.clone());
                self.suppressed = self.suppressed.saturating_add(events);
            }
            return;
        }
        if let Some(minute) = self.callsites.pop(&key) {
            minute.summarize(emit);
        }
        emit(line, repeats);
        let minute = CallsiteMinute { since: now, emitted: 1, suppressed: 0, line: None };
        if let Some((_, evicted)) = self.callsites.push(key, minute) {
            evicted.summarize(emit);
        }
    }

    /// Emits the summaries of minutes that are over. Does nothing within a second of the last call.
    pub(super) fn poll(&mut self, now: Timestamp, emit: Emit<'_>) {
        if !has_passed(self.last_poll, POLL_INTERVAL, now) {
            return;
        }
        self.last_poll = now;
        let over = self.callsites.iter().filter(|(_, minute)| minute.is_over(now));
        let over: Vec<Identifier> = over.map(|(key, _)| key.clone()).collect();
        for key in over {
            if let Some(minute) = self.callsites.pop(&key) {
                minute.summarize(emit);
            }
        }
    }

    /// Emits all summaries and clears the table.
    pub(super) fn flush(&mut self, emit: Emit<'_>) {
        while let Some((_, minute)) = self.callsites.pop_lru() {
            minute.summarize(emit);
        }
    }

    /// Returns the number of lines suppressed since the last call.
    pub(super) const fn take_suppressed(&mut self) -> u64 {
        std::mem::replace(&mut self.suppressed, 0)
    }
}

impl CallsiteMinute {
    /// True if the minute is over, also because the clock was set back.
    fn is_over(&self, now: Timestamp) -> bool {
        has_passed(self.since, MINUTE, now)
    }

    fn summarize(&self, emit: Emit<'_>) {
        if let Some(line) = &self.line {
            emit(&line.summary(self.suppressed), 0);
        }
    }
}
