//! `Known`: what memory holds of an entry: where its connections went, and what they were told of.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

/// Indicators that are remembered as told of one entry; the log knows the others.
const TOLD_MAX: usize = 64;

/// What memory holds of an entry.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) remote: IpAddr,
    pub(super) translated: Option<SocketAddr>,
    /// When its last connection was; `None` before the first.
    pub(super) last: Option<Timestamp>,
    pub(super) kind: u64,
    pub(super) tie: u64,
    /// Connections that had not ended when the run that saw them did, and were not found again.
    pub(super) open: u32,
    /// Up to when all connections are told, of an indicator.
    pub(super) told: Vec<(u64, Timestamp)>,
}

impl Known {
    /// Whether all connections are told, of `indicator`.
    pub(super) fn is_told(&self, indicator: u64) -> bool {
        let told = self.told.iter().find(|(known, _)| *known == indicator);
        told.is_some_and(|(_, until)| self.last.is_none_or(|last| last <= *until))
    }

    pub(super) fn tell(&mut self, indicator: u64, until: Timestamp) {
        if let Some((_, known)) = self.told.iter_mut().find(|(known, _)| *known == indicator) {
            *known = until.max(*known);
        } else {
            if self.told.len() >= TOLD_MAX {
                self.told.remove(0);
            }
            self.told.push((indicator, until));
        }
    }

    /// A connection with its hits: told of what all before it were told of.
    pub(super) fn see(&mut self, time: Timestamp, hits: &[u64]) {
        for hit in hits {
            if self.last.is_none() || self.is_told(*hit) {
                self.tell(*hit, time);
            }
        }
        self.last = self.last.max(Some(time));
    }
}
