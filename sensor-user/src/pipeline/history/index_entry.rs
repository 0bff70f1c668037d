//! `IndexEntry`: an entry of the history in memory.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use super::entry::{entry_key, restart_key};
use crate::pipeline::aggregate::Flow;

/// Reported indicators that are remembered per entry; the log has the others.
const REPORTED_MAX: usize = 64;

/// Entry of the history, without its definition, which only the log has.
#[derive(Debug)]
pub(super) struct IndexEntry {
    pub(super) remote: IpAddr,
    pub(super) translated: Option<SocketAddr>,
    /// Time of the last connection; `None` before the first.
    pub(super) last: Option<Timestamp>,
    /// [`entry_key`] of the entry.
    pub(super) key: u64,
    /// [`restart_key`] of the entry.
    pub(super) restart_key: u64,
    /// Connections of the run that recorded them, or of an earlier one, that have not closed.
    pub(super) open: u32,
    /// Hashes of indicators, and the time up to which all connections are reported for them.
    pub(super) reported: Vec<(u64, Timestamp)>,
}

impl IndexEntry {
    /// The entry of `flow`, without connections.
    pub(super) fn new(flow: &Flow) -> Self {
        Self {
            remote: flow.remote,
            translated: flow.translated.map(|translated| translated.remote()),
            last: None,
            key: entry_key(flow, flow.translated, flow.phase),
            restart_key: restart_key(flow),
            open: 0,
            reported: Vec::new(),
        }
    }

    /// True if all connections are reported for `indicator`.
    pub(super) fn is_reported(&self, indicator: u64) -> bool {
        let reported = self.reported.iter().find(|(known, _)| *known == indicator);
        reported.is_some_and(|(_, until)| self.last.is_none_or(|last| last <= *until))
    }

    /// Marks all connections up to `until` as reported for `indicator`.
    pub(super) fn set_reported(&mut self, indicator: u64, until: Timestamp) {
        if let Some((_, known)) = self.reported.iter_mut().find(|(known, _)| *known == indicator) {
            *known = until.max(*known);
        } else {
            if self.reported.len() >= REPORTED_MAX {
                self.reported.remove(0);
            }
            self.reported.push((indicator, until));
        }
    }

    /// Adds a connection, which its live hits report, unless earlier connections are not reported
    /// for the same indicator.
    pub(super) fn add_connection(&mut self, time: Timestamp, hits: &[u64]) {
        for hit in hits {
            if self.last.is_none() || self.is_reported(*hit) {
                self.set_reported(*hit, time);
            }
        }
        self.last = self.last.max(Some(time));
    }
}
