//! How a feed does, and what can go wrong with a pull.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::clock::signed;
use crate::base::error_chain::chain;
use crate::intel::config::FeedConfig;
use crate::intel::fetch::FetchError;
use crate::intel::formats::kind::FeedKind;
use crate::intel::parser::ParserError;
use crate::intel::rejects::Rejects;
use crate::intel::set::store::StoreError;

/// How a feed does.
#[derive(Debug, Clone)]
pub struct FeedStatus {
    /// Its name.
    pub name: Arc<str>,
    /// How it is read.
    pub kind: FeedKind,
    /// Where it is, without what may be secret.
    pub place: String,
    /// When it was last pulled, with whatever outcome.
    pub last_pull: Option<Timestamp>,
    /// When a pull was last good ("not modified" is).
    pub last_good: Option<Timestamp>,
    /// When what is in the set was pulled.
    pub loaded: Option<Timestamp>,
    /// Indicators that it gives to the set.
    pub indicators: usize,
    /// Why the last pull failed; `None` after a good one.
    pub last_error: Option<String>,
    /// Whether the last pull is held back, since it looked wrong.
    pub is_quarantined: bool,
    /// Whether there was no good pull for three periods.
    pub is_stale: bool,
    /// Pulls that failed since the last good one.
    pub failures: u32,
    /// What of the last good body was not used.
    pub rejects: Arc<Rejects>,
    stale_after: Duration,
    since: Option<Timestamp>,
}

impl FeedStatus {
    /// Of a feed that was not pulled yet.
    pub(super) fn new(name: Arc<str>, config: &FeedConfig, stale_after: Duration) -> Self {
        Self {
            name,
            kind: config.kind,
            place: config.source.shown(),
            last_pull: None,
            last_good: None,
            loaded: None,
            indicators: 0,
            last_error: None,
            is_quarantined: false,
            is_stale: false,
            failures: 0,
            rejects: Arc::default(),
            stale_after,
            since: None,
        }
    }

    /// As it is at `now`.
    pub(super) fn at(&self, now: Timestamp) -> Self {
        let mut status = self.clone();
        let good = self.last_good.or(self.since);
        let end = good.and_then(|good| good.checked_add(signed(self.stale_after)).ok());
        status.is_stale = end.is_some_and(|end| end < now);
        status
    }

    /// Notes a good pull.
    pub(super) fn good(&mut self, now: Timestamp) {
        self.last_good = Some(now);
        self.last_error = None;
        self.is_quarantined = false;
        self.failures = 0;
    }

    /// Notes one that was not.
    pub(super) fn bad(&mut self, error: String, is_quarantined: bool) {
        // A feed that never was good is as old as its first failure.
        self.since = self.since.or(self.last_pull);
        self.last_error = Some(error);
        self.is_quarantined = is_quarantined;
        self.failures = self.failures.saturating_add(1);
    }

    /// What is wrong with it.
    pub fn fault(&self) -> Option<String> {
        let stale = || {
            let good = self.last_good.map_or_else(|| "never".to_owned(), |it| it.to_string());
            format!("feed {}: no good pull for three intervals, the last {good}", self.name)
        };
        self.last_error.clone().or_else(|| self.is_stale.then(stale))
    }
}

/// A pull that was not good.
#[derive(Debug, thiserror::Error)]
#[error("feed {feed}: {place}: {fault}")]
pub(super) struct PullError<'a> {
    pub(super) feed: &'a str,
    pub(super) place: String,
    pub(super) fault: Fault,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{}", chain(.0))]
    Fetch(FetchError),
    #[error("{}", chain(.0))]
    Reader(#[from] ParserError),
    #[error("work in the state directory: {0}; is the disk full?")]
    State(#[from] io::Error),
    #[error("the new set: {}", chain(.0))]
    Store(#[from] StoreError),
    #[error("quarantined: {0}; where that is right, set quarantine = false for one pull")]
    Quarantine(String),
}

impl Fault {
    pub(super) const fn is_quarantine(&self) -> bool {
        matches!(self, Self::Quarantine(_))
    }

    /// Whether what is on disk of the feed is damaged.
    pub(super) const fn is_damage(&self) -> bool {
        matches!(self, Self::Reader(ParserError::Damaged(_)))
    }
}
