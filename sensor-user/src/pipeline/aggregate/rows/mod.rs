//! `RowTable`: `Change` to `ConnectionRow`, one minute at a time, by Microsoft's group key.
//!
//! Invariants.
//! - A change counts into the minute of its own time. A minute is closed `LATENESS` after its end;
//!   later changes count into the next minute (and in `row_changes_late`).
//! - If the clock steps back by minutes, the open minutes are closed and the table continues at the
//!   new time: those minutes are emitted again, with other ids. If the clock jumps ahead, or the
//!   machine was suspended, minutes without changes are skipped (counted), except for the last
//!   `CATCH_UP_MINUTES`.
//! - A minute has at most `max_keys` keys. Connections of further keys are in no row from open to
//!   close (each change is counted).
//! - For each key, `LinksLive(t) = LinksLive(t-1) + LinksEstablished - LinksTerminated`. A key with
//!   an open connection has a row in each minute.
//! - Each call is short, however many keys a minute has: a call builds one batch of rows.

mod flush;
mod key;
mod reattribute;

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

pub(super) use flush::LONG_MAX;
use flush::{ClosedMinute, RowTime};
pub(super) use key::MinuteCounts;
use key::{LiveKey, RowKey};
pub use reattribute::Counted;
pub(super) use reattribute::move_link;

/// Time after its end during which a minute accepts changes.
pub(super) const LATENESS: SignedDuration = SignedDuration::from_secs(2);
/// Maximum number of minutes without changes that are closed one by one, at the end of a gap.
pub(super) const CATCH_UP_MINUTES: i64 = 10;
/// Maximum step back of the clock, in minutes, that is waited out. A larger one is followed.
pub(super) const BACK_MINUTES: i64 = 2;
/// Interval between two batches of rows. The queue of a sink has room for ten batches.
const BATCH_INTERVAL: SignedDuration = SignedDuration::from_millis(15);
/// Maximum number of open minutes. Changes of further minutes count into the last.
const MAX_OPEN_MINUTES: usize = 16;

/// Identity of the host and the agent, the same in every row.
#[derive(Debug, Clone, Default)]
pub struct RowIdentity {
    /// Fully qualified name of the host.
    pub computer: Arc<str>,
    /// UUID of the agent.
    pub agent_id: String,
    /// Facts of the Azure metadata service about the host, once known.
    pub azure: SharedAzure,
}

impl RowIdentity {
    /// Value of `Machine` in Microsoft's tables.
    pub fn machine(&self) -> String {
        format!("m-{}", self.agent_id)
    }

    /// Values of `_ResourceId` and `_SubscriptionId` in every table.
    pub fn resource(&self) -> Resource {
        self.azure.load().as_deref().map(Azure::resource).unwrap_or_default()
    }

    /// Value of `Process` in Microsoft's tables: a stable id of an executable on a machine.
    pub fn process(&self, executable: &str) -> String {
        format!("p-{}", stable_id(&[&self.agent_id, executable]))
    }
}

/// Counts of connections by minute and key, and the rows made of them.
#[derive(Debug)]
pub struct RowTable {
    identity: RowIdentity,
    max_keys: usize,
    /// Open minutes by their number since 1970; keys in the order of their first change.
    minutes: BTreeMap<i64, FastIndexMap<RowKey, MinuteCounts>>,
    /// First minute that is not closed.
    next_minute: Option<i64>,
    /// Closed minutes with unbuilt rows, in order.
    pending: VecDeque<ClosedMinute>,
    /// Time of the last batch, if it left rows unbuilt.
    last_batch: Option<Timestamp>,
    /// Number of closed minutes.
    closed: u64,
    /// Minute after the latest closed one, over all clock steps.
    closed_until: i64,
    /// Number of times that the clock was set back.
    rounds: u64,
    /// Keys with open connections at the end of the last minute with built rows.
    live: FastIndexMap<RowKey, LiveKey>,
    /// Numbers of open connections that are in no row.
    excluded: FastSet<u64>,
    stats: Arc<Stats>,
}

impl RowTable {
    /// Creates an empty table for at most `max_keys` keys per minute.
    pub fn new(identity: RowIdentity, max_keys: usize, stats: Arc<Stats>) -> Self {
        Self {
            identity,
            max_keys,
            minutes: BTreeMap::new(),
            next_minute: None,
            pending: VecDeque::new(),
            last_batch: None,
            closed: 0,
            closed_until: i64::MIN,
            rounds: 0,
            live: FastIndexMap::default(),
            excluded: FastSet::default(),
            stats,
        }
    }

    /// Number of keys in the fullest open minute, and the maximum.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.minutes.values().map(FastIndexMap::len).max().unwrap_or(0), self.max_keys)
    }

    /// Counts a change into a minute, and returns where; `None` if the change is in no row.
    pub fn observe(&mut self, change: &Change) -> Option<Counted> {
        match change.kind {
            ChangeKind::Opened => return None,
            ChangeKind::Translated => {
                self.add_mapping(change);
                return None;
            }
            _ => {}
        }
        if let Some(guess) = &change.guess {
            return self.reattribute(change, guess);
        }
        let minute = self.minute_for(change.flow.time);
        let keys = self.minutes.entry(minute).or_default();
        let key = RowKey::of(change);
        // A connection excluded when established is excluded when closed, and one counted as live
        // always finds room, so that the gauge stays correct.
        let full = keys.len() >= self.max_keys && !keys.contains_key(&key);
        let excluded = match change.kind {
            ChangeKind::Opened | ChangeKind::Translated | ChangeKind::Attributed => true,
            ChangeKind::Closed => self.excluded.remove(&change.number),
            ChangeKind::Established => full && self.excluded.insert(change.number),
            ChangeKind::Active => self.excluded.contains(&change.number),
            ChangeKind::Failed => full,
        };
        if excluded {
            self.stats.row_keys_dropped_full.increment();
            return None;
        }
        let process = &change.flow.process;
        let counts = keys.entry(key).or_insert_with(|| MinuteCounts::new(process));
        counts.add(change);
        counts.add_mapping(change.flow.translated.as_ref(), &self.stats);
        Some(Counted::at(minute))
    }

    /// Adds a mapping that is known after other changes of its connection were counted.
    fn add_mapping(&mut self, change: &Change) {
        let (key, mapping) = (RowKey::of(change), change.flow.translated.as_ref());
        for counts in self.minutes.values_mut().filter_map(|keys| keys.get_mut(&key)) {
            counts.add_mapping(mapping, &self.stats);
        }
        if let (Some(live), Some(mapping)) = (self.live.get_mut(&key), mapping) {
            live.translated = Some(mapping.remote());
        }
    }

    /// Open minute for a change at `time`.
    fn minute_for(&mut self, time: Timestamp) -> i64 {
        let minute = minute_of(time);
        let next = *self.next_minute.get_or_insert(minute);
        let is_full = self.minutes.len() >= MAX_OPEN_MINUTES && !self.minutes.contains_key(&minute);
        let last = self.minutes.last_key_value().map(|(last, _)| *last);
        let taken = match last {
            _ if minute < next => next,
            Some(last) if is_full => last,
            _ => minute,
        };
        if taken != minute {
            self.stats.row_changes_late.increment();
        }
        taken
    }

    /// Closes the minutes that ended `LATENESS` before `now`, and builds a batch of rows, in the order
    /// of the minutes. See [`Self::is_behind`]. `find` returns the indicator of a row.
    pub fn close_until(&mut self, now: Timestamp, find: &FindIndicator<'_>) -> Vec<ConnectionRow> {
        let end = now.checked_sub(LATENESS).map_or(i64::MIN, minute_of);
        let next = *self.next_minute.get_or_insert(end);
        if end < next.saturating_sub(BACK_MINUTES) {
            self.go_back(end);
        } else {
            self.close_minutes(next, end);
        }
        // While rows are pending the pipeline iterates without a pause: the interval gives the sinks
        // time to empty their queues.
        if self.last_batch.is_some_and(|at| now.duration_since(at).abs() < BATCH_INTERVAL) {
            return Vec::new();
        }
        let rows = self.build_batch(find);
        self.last_batch = self.is_behind().then_some(now);
        rows
    }

    /// Closes the minutes up to that of `now`, the last one of the agent.
    pub fn close_through(&mut self, now: Timestamp) {
        let minute = minute_of(now);
        let next = *self.next_minute.get_or_insert(minute);
        self.close_minutes(next, minute.saturating_add(1));
    }

    /// Closes every minute with changes, at the end of the input, and builds a batch of rows. Returns
    /// an empty batch once none are left.
    pub fn close_all(&mut self, find: &FindIndicator<'_>) -> Vec<ConnectionRow> {
        self.close_open();
        self.build_batch(find)
    }

    /// True if closed minutes have unbuilt rows.
    pub fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    fn close_minutes(&mut self, next: i64, end: i64) {
        let mut minute = next;
        let catch_up = end.saturating_sub(CATCH_UP_MINUTES);
        while minute < end {
            let keys = self.minutes.remove(&minute);
            let is_idle = self.live.is_empty() && self.pending.is_empty();
            if keys.is_none() && (is_idle || minute < catch_up) {
                let later = self.minutes.first_key_value().map_or(end, |(minute, _)| *minute);
                let until = later.min(end).min(if is_idle { end } else { catch_up });
                if !is_idle {
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

    /// Closes the open minutes after a clock step back, and continues with `minute`.
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

    fn close(&mut self, minute: i64, keys: FastIndexMap<RowKey, MinuteCounts>) {
        self.closed = self.closed.saturating_add(1);
        // The rows of a minute that was closed before are no repetitions: they get other ids.
        let round = if minute < self.closed_until { self.rounds } else { 0 };
        self.closed_until = self.closed_until.max(minute.saturating_add(1));
        let time = RowTime::new(minute, round);
        self.pending.push_back(ClosedMinute::new(time, self.closed, keys));
    }
}

/// Number of minutes since 1970, rounded down.
pub(super) fn minute_of(time: Timestamp) -> i64 {
    time.as_second().div_euclid(60)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
