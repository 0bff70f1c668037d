//! Repeated lines: the first is told at once, the same ones within the next ten seconds are counted
//! and told once, with their number.
//!
//! The table has at most [`LINES_MAX`] lines; the least recently told leaves a full one, and what was
//! counted of it is told then. A line that does not stop stands in the log once in ten seconds.

use foldhash::fast::RandomState;
use jiff::{SignedDuration, Timestamp};
use std::hash::BuildHasher as _;

use super::line::Line;
use crate::base::collections;
use crate::base::collections::Table;

/// How long repeats of a line are held back.
pub(super) const HELD_BACK: SignedDuration = SignedDuration::from_secs(10);
/// Different lines of which repeats are known.
pub(super) const LINES_MAX: usize = 256;

/// What was told of late. What is to be told goes to `say`, with how often it was repeated: 0 for
/// the line itself.
#[derive(Debug)]
pub(super) struct Fold {
    /// By the hash of where the line comes from and what it says.
    told: Table<u64, Told>,
    hasher: RandomState,
    /// When the table was last looked through.
    looked: Timestamp,
}

#[derive(Debug)]
struct Told {
    line: Line,
    since: Timestamp,
    repeats: u64,
}

impl Fold {
    pub(super) fn new(most: usize) -> Self {
        Self {
            told: collections::table(most),
            hasher: RandomState::default(),
            looked: Timestamp::MIN,
        }
    }

    /// Takes a line.
    pub(super) fn take(&mut self, line: Line, now: Timestamp, say: &mut dyn FnMut(&Line, u64)) {
        self.look(now, say);
        let key = self.hasher.hash_one((line.metadata.callsite(), &line.text));
        if let Some(told) = self.told.get_mut(&key)
            && !told.is_over(now)
        {
            told.repeats = told.repeats.saturating_add(1);
            return;
        }
        if let Some(told) = self.told.pop(&key) {
            told.say_repeats(say);
        }
        say(&line, 0);
        let told = Told { line, since: now, repeats: 0 };
        if let Some((_, told)) = self.told.push(key, told) {
            told.say_repeats(say);
        }
    }

    /// Tells the repeats of which it is time; more often than once a second it does nothing.
    pub(super) fn look(&mut self, now: Timestamp, say: &mut dyn FnMut(&Line, u64)) {
        let pause = SignedDuration::from_secs(1);
        let since = now.duration_since(self.looked);
        if !since.is_negative() && since < pause {
            return;
        }
        self.looked = now;
        let mut over = Vec::new();
        for (key, told) in &mut self.told {
            if told.is_over(now) {
                if told.repeats == 0 {
                    over.push(*key);
                } else {
                    told.say_repeats(say);
                    (told.since, told.repeats) = (now, 0);
                }
            }
        }
        for key in over {
            self.told.pop(&key);
        }
    }

    /// Tells all repeats and forgets all lines.
    pub(super) fn flush(&mut self, say: &mut dyn FnMut(&Line, u64)) {
        while let Some((_, told)) = self.told.pop_lru() {
            told.say_repeats(say);
        }
    }
}

impl Told {
    /// A clock that was put back ends it too.
    fn is_over(&self, now: Timestamp) -> bool {
        now < self.since || now.duration_since(self.since) >= HELD_BACK
    }

    fn say_repeats(&self, say: &mut dyn FnMut(&Line, u64)) {
        if self.repeats > 0 {
            say(&self.line, self.repeats);
        }
    }
}
