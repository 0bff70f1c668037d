//! `RowTable`: Change to `ConnectionRow`, a minute at a time, by Microsoft's group key.
//!
//! Invariants.
//! - Minutes are those of the changes' own times. One is closed `LATENESS` after its end; what
//!   comes later is counted into the next (and in `row_changes_late`).
//! - Where the clock is set back by minutes, what is open is closed as it is and the table goes on
//!   at the new time: minutes are told a second time then, under other ids. Where it leaps ahead,
//!   or the machine slept, minutes without changes between are skipped (counted), but for the last.
//! - In one minute at most `max_keys` keys begin; connections of further keys are in no row, from
//!   their beginning to their end (each change is counted).
//! - For a key over time `LinksLive(t) = LinksLive(t-1) + LinksEstablished - LinksTerminated`. A
//!   key with an open connection has a row in each minute.
//! - No call takes long, however many keys a minute had: rows are made a portion a call.

mod flush;
mod key;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::change::{Change, ChangeKind};
use super::malicious::FindIndicator;
use crate::base::collections::{FastIndexMap, FastSet};
use crate::base::counters::Stats;
use crate::base::stable_id::stable_id;
use crate::inventory::SharedAzure;
use crate::schema::ConnectionRow;
use crate::schema::{Azure, Resource};

use flush::Due;
pub(super) use flush::LONG_MAX;
pub(super) use key::Counts;
use key::{Key, Live};

/// How long after its end a minute still takes changes in.
pub(super) const LATENESS: SignedDuration = SignedDuration::from_secs(2);
/// Minutes without a change that are made up for, one by one; of a longer gap only the last.
pub(super) const CATCH_UP_MINUTES: i64 = 10;
/// A clock that is set back by more minutes than this is followed; else it is waited for.
pub(super) const BACK_MINUTES: i64 = 2;
/// Between two portions of the rows that are due. A queue of a sink has room for ten of them.
const PORTION_EVERY: SignedDuration = SignedDuration::from_millis(15);
/// Minutes open at once; changes of further ones are counted into the last.
const MAX_OPEN_MINUTES: usize = 16;

/// Who reports: the same for every row.
#[derive(Debug, Clone, Default)]
pub struct RowIdentity {
    /// Full name of the host.
    pub computer: Arc<str>,
    /// The agent's UUID.
    pub agent_id: String,
    /// What Azure says of the host, once it has.
    pub azure: SharedAzure,
}

impl RowIdentity {
    /// `Machine` of Microsoft's tables.
    pub fn machine(&self) -> String {
        format!("m-{}", self.agent_id)
    }

    /// `_ResourceId` and `_SubscriptionId` of every table.
    pub fn resource(&self) -> Resource {
        self.azure.load().as_deref().map(Azure::resource).unwrap_or_default()
    }

    /// `Process` of Microsoft's tables: stable for an executable on a machine.
    pub fn process(&self, executable: &str) -> String {
        format!("p-{}", stable_id(&[&self.agent_id, executable]))
    }
}

/// Rows in the making.
#[derive(Debug)]
pub struct RowTable {
    identity: RowIdentity,
    max_keys: usize,
    /// Open minutes by their number since 1970; keys in the order in which they came.
    minutes: BTreeMap<i64, FastIndexMap<Key, Counts>>,
    /// The first minute that is not closed.
    next_minute: Option<i64>,
    /// Closed minutes whose rows are not all made yet, in order.
    due: VecDeque<Due>,
    /// When a portion of rows was made after which others are due.
    portion_at: Option<Timestamp>,
    /// Closed minutes so far.
    closed: u64,
    /// The minute after the latest that was ever closed.
    closed_until: i64,
    /// How often the clock was set back.
    rounds: u64,
    /// Open connections at the end of the last minute whose rows are made.
    live: FastIndexMap<Key, Live>,
    /// Open connections that are in no row, by number; each leaves when it ends.
    left_out: FastSet<u64>,
    stats: Arc<Stats>,
}

impl RowTable {
    /// An empty table of at most `max_keys` keys a minute.
    pub fn new(identity: RowIdentity, max_keys: usize, stats: Arc<Stats>) -> Self {
        Self {
            identity,
            max_keys,
            minutes: BTreeMap::new(),
            next_minute: None,
            due: VecDeque::new(),
            portion_at: None,
            closed: 0,
            closed_until: i64::MIN,
            rounds: 0,
            live: FastIndexMap::default(),
            left_out: FastSet::default(),
            stats,
        }
    }

    /// Keys of the fullest open minute, and how many there may be.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.minutes.values().map(FastIndexMap::len).max().unwrap_or(0), self.max_keys)
    }

    /// Counts a change into its minute (by its number since 1970), and gives that; `None` where it is
    /// counted nowhere.
    pub fn observe(&mut self, change: &Change) -> Option<i64> {
        if matches!(change.kind, ChangeKind::Opened | ChangeKind::Translated) {
            return None;
        }
        let minute = self.minute_for(change.flow.time);
        let keys = self.minutes.entry(minute).or_default();
        let key = Key::of(change);
        // What was left out when it was established is left out when it ends, and what is counted
        // as live always finds room: the gauge stays true.
        let full = keys.len() >= self.max_keys && !keys.contains_key(&key);
        let left_out = match change.kind {
            ChangeKind::Opened | ChangeKind::Translated => true,
            ChangeKind::Closed => self.left_out.remove(&change.number),
            ChangeKind::Established => full && self.left_out.insert(change.number),
            ChangeKind::Active => self.left_out.contains(&change.number),
            ChangeKind::Failed => full,
        };
        if left_out {
            self.stats.row_keys_dropped_full.increment();
            return None;
        }
        let process = &change.flow.process;
        keys.entry(key).or_insert_with(|| Counts::none(process)).add(change);
        Some(minute)
    }

    /// The open minute that takes what happened at `time`.
    fn minute_for(&mut self, time: Timestamp) -> i64 {
        let minute = minute_of(time);
        let next = *self.next_minute.get_or_insert(minute);
        let many = self.minutes.len() >= MAX_OPEN_MINUTES && !self.minutes.contains_key(&minute);
        let last = self.minutes.last_key_value().map(|(last, _)| *last);
        let taken = match last {
            _ if minute < next => next,
            Some(last) if many => last,
            _ => minute,
        };
        if taken != minute {
            self.stats.row_changes_late.increment();
        }
        taken
    }

    /// Closes the minutes that ended before `now` less the lateness, and makes some of the rows
    /// that are due: those of one minute after those of another. See [`Self::is_behind`]. `flag`
    /// says what flags a row.
    pub fn close_until(&mut self, now: Timestamp, find: &FindIndicator<'_>) -> Vec<ConnectionRow> {
        let end = now.checked_sub(LATENESS).map_or(i64::MIN, minute_of);
        let next = *self.next_minute.get_or_insert(end);
        if end < next.saturating_sub(BACK_MINUTES) {
            self.go_back(end);
        } else {
            self.close_minutes(next, end);
        }
        // With much to do the path takes turn after turn: the sinks are given their time.
        if self.portion_at.is_some_and(|at| now.duration_since(at).abs() < PORTION_EVERY) {
            return Vec::new();
        }
        let rows = self.make_rows(find);
        self.portion_at = self.is_behind().then_some(now);
        rows
    }

    /// Closes the minutes up to that of `now`, which is the agent's last.
    pub fn close_through(&mut self, now: Timestamp) {
        let minute = minute_of(now);
        let next = *self.next_minute.get_or_insert(minute);
        self.close_minutes(next, minute.saturating_add(1));
    }

    /// Closes every minute that has something, at the end of the input, and makes some of the rows
    /// that are due: none are left once it gives none.
    pub fn close_all(&mut self, find: &FindIndicator<'_>) -> Vec<ConnectionRow> {
        self.close_open();
        self.make_rows(find)
    }

    /// Whether rows are due that are not made yet.
    pub fn is_behind(&self) -> bool {
        !self.due.is_empty()
    }

    fn close_minutes(&mut self, next: i64, end: i64) {
        let mut minute = next;
        let catch_up = end.saturating_sub(CATCH_UP_MINUTES);
        while minute < end {
            let keys = self.minutes.remove(&minute);
            let nobody = self.live.is_empty() && self.due.is_empty();
            if keys.is_none() && (nobody || minute < catch_up) {
                let later = self.minutes.first_key_value().map_or(end, |(minute, _)| *minute);
                let until = later.min(end).min(if nobody { end } else { catch_up });
                if !nobody {
                    self.stats.row_intervals_skipped.add(minute.abs_diff(until));
                }
                minute = until;
                continue;
            }
            self.close(minute, keys.unwrap_or_default());
            minute = minute.saturating_add(1);
        }
        self.next_minute = Some(minute);
    }

    /// The clock was set back: it is `minute` that comes next.
    fn go_back(&mut self, minute: i64) {
        self.close_open();
        self.stats.clock_steps_backward.increment();
        self.rounds = self.rounds.saturating_add(1);
        self.next_minute = Some(minute);
    }

    fn close_open(&mut self) {
        let last = self.minutes.last_key_value().map(|(minute, _)| *minute);
        if let (Some(next), Some(last)) = (self.next_minute, last) {
            self.close_minutes(next, last.saturating_add(1));
        }
    }

    fn close(&mut self, minute: i64, keys: FastIndexMap<Key, Counts>) {
        self.closed = self.closed.saturating_add(1);
        // A minute that was closed before is another one: its rows are no repetitions.
        let round = if minute < self.closed_until { self.rounds } else { 0 };
        self.closed_until = self.closed_until.max(minute.saturating_add(1));
        self.due.push_back(Due::new((minute, round), self.closed, keys));
    }
}

/// Minutes since 1970, rounded down.
pub(super) fn minute_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
