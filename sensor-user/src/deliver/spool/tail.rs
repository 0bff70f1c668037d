//! Tail: the latest alerts, in memory, so that a sink that keeps up reads nothing from disk.
//!
//! It holds 20,000 alerts and 32 MiB of JSON at most, and besides these what is not on disk (that
//! is bounded by the spool's queue). What all sinks have settled leaves it.

use std::collections::VecDeque;

use super::Stored;

const ALERTS_MAX: usize = 20_000;
const BYTES_MAX: usize = 32 << 20;

/// Alerts in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Tail {
    alerts: VecDeque<Stored>,
    bytes: usize,
}

impl Tail {
    pub(super) fn push(&mut self, stored: Stored) {
        self.bytes = self.bytes.saturating_add(stored.bytes);
        self.alerts.push_back(stored);
    }

    /// Number of its first alert.
    pub(super) fn first(&self) -> Option<u64> {
        self.alerts.front().map(|stored| stored.sequence)
    }

    /// How many have the number `from` or a later one.
    pub(super) fn count_from(&self, from: u64) -> u64 {
        (self.alerts.len() - self.place(from)) as u64
    }

    /// Up to `most` alerts, and about `most_bytes` of JSON but at least one, from `from` on.
    pub(super) fn read(&self, from: u64, most: usize, most_bytes: usize) -> Vec<Stored> {
        let mut bytes = 0_usize;
        let fits = |stored: &&Stored| {
            let is_first = bytes == 0;
            bytes = bytes.saturating_add(stored.bytes.max(1));
            is_first || bytes <= most_bytes
        };
        self.alerts.range(self.place(from)..).take(most.max(1)).take_while(fits).cloned().collect()
    }

    /// Forgets what is too much, of what is on disk: up to the number `durable`.
    pub(super) fn trim(&mut self, durable: u64) {
        while let Some(first) = self.alerts.front()
            && first.sequence < durable
            && (self.alerts.len() > ALERTS_MAX || self.bytes > BYTES_MAX)
        {
            self.forget_first();
        }
    }

    /// Forgets what has a number before `until`.
    pub(super) fn forget_before(&mut self, until: u64) {
        while self.alerts.front().is_some_and(|first| first.sequence < until) {
            self.forget_first();
        }
        if self.alerts.is_empty() {
            self.alerts.shrink_to(1024);
        }
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.alerts.pop_front() {
            self.bytes = self.bytes.saturating_sub(first.bytes);
        }
    }

    fn place(&self, from: u64) -> usize {
        self.alerts.partition_point(|stored| stored.sequence < from)
    }
}
