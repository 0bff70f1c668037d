//! Connections whose process was a guess, and is known later.

use std::sync::Arc;

use super::key::{MinuteCounts, RowKey};
use super::{RowTable, minute_of};
use crate::pipeline::aggregate::change::{Change, Guess};
use crate::pipeline::enrich::Process;

/// Minute in which a change was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Number of the minute since 1970.
    pub minute: i64,
    /// For a corrected process: true if the connection was established in that minute, and its count was
    /// moved. Otherwise it ends for the guessed process, and is established for the other.
    pub is_moved: bool,
}

impl Counted {
    /// A change that was counted in the minute of this number.
    pub const fn at(minute: i64) -> Self {
        Self { minute, is_moved: false }
    }
}

impl RowTable {
    /// Moves a connection from the key of the guessed process to that of its owner. Bytes that were
    /// counted before stay with the guess.
    pub(super) fn reattribute(&mut self, change: &Change, guess: &Guess) -> Option<Counted> {
        let new = RowKey::of(change);
        let old = new.with_process(&guess.process);
        if new == old || self.excluded.contains(&change.number) {
            return None;
        }
        let since = minute_of(guess.since);
        let is_open = self.next_minute.is_some_and(|next| since >= next);
        let is_moved = is_open
            && self
                .minutes
                .get(&since)
                .and_then(|keys| keys.get(&old))
                .is_some_and(MinuteCounts::has_link);
        let minute = if is_moved { since } else { self.minute_for(change.flow.time) };
        let keys = self.minutes.entry(minute).or_default();
        if keys.len() >= self.max_keys && !keys.contains_key(&new) {
            self.excluded.insert(change.number);
            self.stats.row_keys_dropped_full.increment();
        } else {
            let counts = keys.entry(new).or_insert_with(|| MinuteCounts::new(&change.flow.process));
            counts.add_link(&change.flow.process);
            counts.add_mapping(change.flow.translated.as_ref(), &self.stats);
        }
        let counts = keys.entry(old.clone()).or_insert_with(|| MinuteCounts::new(&guess.process));
        if move_link(counts, is_moved) && !self.live.contains_key(&old) {
            keys.swap_remove(&old);
        }
        Some(Counted { minute, is_moved })
    }
}

/// Removes a connection from the counts of a guessed process. True if nothing is left.
pub(in super::super) const fn move_link(counts: &mut MinuteCounts, is_moved: bool) -> bool {
    if is_moved {
        counts.established = counts.established.saturating_sub(1);
    } else {
        counts.terminated = counts.terminated.saturating_add(1);
    }
    counts.is_empty()
}

impl MinuteCounts {
    /// True if a connection was established, and not all of them ended.
    const fn has_link(&self) -> bool {
        self.established > 0
    }

    /// Adds a connection whose owner is `process`.
    pub(in super::super) fn add_link(&mut self, process: &Arc<Process>) {
        self.established = self.established.saturating_add(1);
        self.process = Arc::clone(process);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::base::counters::Stats;
    use crate::pipeline::aggregate::change::ChangeKind;
    use crate::pipeline::aggregate::malicious::no_indicator;
    use crate::pipeline::aggregate::rows::RowIdentity;
    use crate::pipeline::aggregate::rows::tests::{at, change};

    fn process(name: &str) -> Arc<Process> {
        Arc::new(Process { name: name.into(), ..Process::default() })
    }

    fn of(name: &str, kind: ChangeKind, second: i64) -> Change {
        let mut change = change(kind, second, "198.51.100.7", 0);
        change.flow.process = process(name);
        change
    }

    fn correct(second: i64, since: Timestamp) -> Change {
        let guess = Guess { process: process("master"), since };
        Change { guess: Some(guess), ..of("worker", ChangeKind::Attributed, second) }
    }

    /// Rows of each minute until `end`: name, minute, links established, terminated, live.
    fn rows(changes: &[Change], max_keys: usize, end: i64) -> Vec<(String, i64, [u64; 3])> {
        let stats = Arc::new(Stats::default());
        let mut table = RowTable::new(RowIdentity::default(), max_keys, stats);
        let mut rows = Vec::new();
        for change in changes {
            rows.extend(table.close_until(change.flow.time, &no_indicator));
            table.observe(change);
        }
        for second in (0..=end).step_by(60) {
            rows.extend(table.close_until(at(second), &no_indicator));
        }
        let mut rows: Vec<_> = rows
            .into_iter()
            .map(|row| {
                let links = [row.links_established, row.links_terminated, row.links_live];
                (row.process_name, minute_of(row.time_generated), links)
            })
            .collect();
        rows.sort_unstable();
        rows
    }

    fn row(name: &str, minute: i64, links: [u64; 3]) -> (String, i64, [u64; 3]) {
        (name.to_owned(), minute, links)
    }

    #[test]
    fn in_the_same_minute_the_guess_has_no_row() {
        let opened = of("master", ChangeKind::Established, 10);
        let closed = of("worker", ChangeKind::Closed, 70);
        let all = rows(&[opened, correct(30, at(10)), closed], 10, 240);
        assert_eq!(all, [row("worker", 0, [1, 0, 1]), row("worker", 1, [0, 1, 0])]);
    }

    #[test]
    fn other_connections_of_the_guess_stay() {
        let opened = || of("master", ChangeKind::Established, 10);
        let all = rows(&[opened(), opened(), correct(30, at(10))], 10, 120);
        assert_eq!(all, [row("master", 0, [1, 0, 1]), row("worker", 0, [1, 0, 1])]);
    }

    #[test]
    fn after_its_minute_the_connection_ends_for_the_guess() {
        let opened = of("master", ChangeKind::Established, 10);
        let closed = of("worker", ChangeKind::Closed, 130);
        let all = rows(&[opened, correct(90, at(10)), closed], 10, 240);
        let expected = [
            row("master", 0, [1, 0, 1]),
            row("master", 1, [0, 1, 0]),
            row("worker", 1, [1, 0, 1]),
            row("worker", 2, [0, 1, 0]),
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn without_room_for_the_owner_the_connection_is_in_no_row() {
        let opened = of("master", ChangeKind::Established, 10);
        let closed = of("worker", ChangeKind::Closed, 70);
        assert_eq!(rows(&[opened, correct(30, at(10)), closed], 1, 240), []);
    }

    #[test]
    fn another_process_of_the_same_executable_has_the_same_row() {
        let mut same = correct(30, at(10));
        same.flow.process = process("master");
        let all = rows(&[of("master", ChangeKind::Established, 10), same], 10, 120);
        assert_eq!(all, [row("master", 0, [1, 0, 1])]);
    }
}
