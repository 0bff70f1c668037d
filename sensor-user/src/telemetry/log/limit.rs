//! A limit for each place in the code: so many lines in a minute; those beyond are counted, and told
//! in one line when the minute is over.
//!
//! Lines that differ in their values are not folded, and the values can be another's choice: names,
//! answers, what a file holds. No place is silent altogether, whatever it says: the first lines
//! stand in the log, and so do its message and the number of the rest.
//!
//! The table has at most [`PLACES_MAX`] places; the one that spoke longest ago leaves a full one,
//! and what was counted of it is told then.

use jiff::{SignedDuration, Timestamp};
use tracing::callsite::Identifier;

use super::line::Line;
use crate::base::collections;
use crate::base::collections::Table;

/// How long lines of a place are counted together.
pub(super) const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// Lines of a place in a minute. What a host has several of, hooks, feeds and sinks, are some dozens
/// at most: each can say in the same minute what happened to it.
pub(super) const LINES_A_MINUTE: u64 = 100;
/// Places that are known at once; the agent has less than two hundred, its libraries a few more.
pub(super) const PLACES_MAX: usize = 512;

/// What each place said of late.
#[derive(Debug)]
pub(super) struct Limit {
    places: Table<Identifier, Place>,
    /// Lines of a place in a minute.
    most: u64,
    /// Lines held back since [`Self::take_held_back`].
    held_back: u64,
    /// When the table was last looked through.
    looked: Timestamp,
}

#[derive(Debug)]
struct Place {
    since: Timestamp,
    told: u64,
    more: u64,
    /// The last line that was held back.
    line: Option<Line>,
}

impl Limit {
    /// `most` lines of a place in a minute, and `places` places.
    pub(super) fn new(most: u64, places: usize) -> Self {
        Self { places: collections::table(places), most, held_back: 0, looked: Timestamp::MIN }
    }

    /// Has `line`, which stands for `repeats` (0: for itself), said if its place has room for it.
    pub(super) fn take(
        &mut self,
        line: &Line,
        repeats: u64,
        now: Timestamp,
        say: &mut dyn FnMut(&Line, u64),
    ) {
        self.look(now, say);
        let most = self.most;
        let key = line.metadata.callsite();
        if let Some(place) = self.places.get_mut(&key).filter(|place| !place.is_over(now)) {
            if place.told < most {
                place.told += 1;
                say(line, repeats);
            } else {
                let events = repeats.max(1);
                place.more = place.more.saturating_add(events);
                place.line = Some(line.clone());
                self.held_back = self.held_back.saturating_add(events);
            }
            return;
        }
        if let Some(place) = self.places.pop(&key) {
            place.say_more(say);
        }
        say(line, repeats);
        let place = Place { since: now, told: 1, more: 0, line: None };
        if let Some((_, place)) = self.places.push(key, place) {
            place.say_more(say);
        }
    }

    /// Tells what is over; more often than once a second it does nothing.
    pub(super) fn look(&mut self, now: Timestamp, say: &mut dyn FnMut(&Line, u64)) {
        let since = now.duration_since(self.looked);
        if !since.is_negative() && since < SignedDuration::from_secs(1) {
            return;
        }
        self.looked = now;
        let over = self.places.iter().filter(|(_, place)| place.is_over(now));
        let over: Vec<Identifier> = over.map(|(key, _)| key.clone()).collect();
        for key in over {
            if let Some(place) = self.places.pop(&key) {
                place.say_more(say);
            }
        }
    }

    /// Tells all that was held back, and forgets all places.
    pub(super) fn flush(&mut self, say: &mut dyn FnMut(&Line, u64)) {
        while let Some((_, place)) = self.places.pop_lru() {
            place.say_more(say);
        }
    }

    /// How many lines were held back since the last call.
    pub(super) const fn take_held_back(&mut self) -> u64 {
        std::mem::replace(&mut self.held_back, 0)
    }
}

impl Place {
    /// A clock that was put back ends it too.
    fn is_over(&self, now: Timestamp) -> bool {
        now < self.since || now.duration_since(self.since) >= MINUTE
    }

    fn say_more(&self, say: &mut dyn FnMut(&Line, u64)) {
        if let Some(line) = &self.line {
            say(&line.more_like_it(self.more), 0);
        }
    }
}
