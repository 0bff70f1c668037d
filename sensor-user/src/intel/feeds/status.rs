//! Status of a feed, and the errors of a pull.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::memory_budget::OverBudget;
use crate::base::clock::signed;
use crate::base::error_chain::chain;
use crate::intel::config::FeedConfig;
use crate::intel::fetch::{FetchError, PullProgress};
use crate::intel::formats::kind::FeedKind;
use crate::intel::parser::ParserError;
use crate::intel::rejects::Rejects;
use crate::intel::set::store::SetFileError;

/// Status of a feed.
#[derive(Debug, Clone)]
pub struct FeedStatus {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Kind of the feed.
    pub kind: FeedKind,
    /// Path or URL, without parts that may be secret.
    pub location: String,
    /// Time of the last pull, successful or not.
    pub last_pull: Option<Timestamp>,
    /// Time of the last good pull; "not modified" counts as one.
    pub last_good: Option<Timestamp>,
    /// Time of the pull whose documents are in the set.
    pub loaded: Option<Timestamp>,
    /// Number of the feed's indicators in the set.
    pub indicators: usize,
    /// Error of the last pull; `None` after a good one.
    pub last_error: Option<String>,
    /// True if the set of the last pull is quarantined as implausible.
    pub is_quarantined: bool,
    /// True if there was no good pull for three intervals.
    pub is_stale: bool,
    /// Number of failed pulls since the last good one.
    pub failures: u32,
    /// Progress of the pull that is running; `None` between pulls.
    pub running: Option<Arc<PullProgress>>,
    /// Rejected entries of the last good pull.
    pub rejects: Arc<Rejects>,
    stale_after: Duration,
    /// Time of the first failure of a feed without a good pull.
    since: Option<Timestamp>,
}

impl FeedStatus {
    /// Status of a feed that was not pulled yet.
    pub(super) fn new(name: Arc<str>, config: &FeedConfig, stale_after: Duration) -> Self {
        Self {
            name,
            kind: config.kind,
            location: config.source.shown(),
            last_pull: None,
            last_good: None,
            loaded: None,
            indicators: 0,
            last_error: None,
            is_quarantined: false,
            is_stale: false,
            failures: 0,
            running: None,
            rejects: Arc::default(),
            stale_after,
            since: None,
        }
    }

    /// Copy of the status, with `is_stale` at time `now`.
    pub(super) fn at(&self, now: Timestamp) -> Self {
        let mut status = self.clone();
        let good = self.last_good.or(self.since);
        let end = good.and_then(|good| good.checked_add(signed(self.stale_after)).ok());
        status.is_stale = end.is_some_and(|end| end < now);
        status
    }

    /// Records a good pull.
    pub(super) fn record_success(&mut self, now: Timestamp) {
        self.last_good = Some(now);
        self.last_error = None;
        self.is_quarantined = false;
        self.failures = 0;
    }

    /// Records a failed pull.
    pub(super) fn record_failure(&mut self, error: String, is_quarantined: bool) {
        // The age of a feed without a good pull is the time since its first failure.
        self.since = self.since.or(self.last_pull);
        self.last_error = Some(error);
        self.is_quarantined = is_quarantined;
        self.failures = self.failures.saturating_add(1);
    }

    /// Reason why the feed is degraded, if it is.
    pub fn degraded_reason(&self) -> Option<String> {
        let stale = || {
            let good = self.last_good.map_or_else(|| "never".to_owned(), |it| it.to_string());
            format!("feed {}: no good pull for three intervals, the last {good}", self.name)
        };
        self.last_error.clone().or_else(|| self.is_stale.then(stale))
    }
}

/// Error of a pull, with the feed's name and location.
#[derive(Debug, thiserror::Error)]
#[error("feed {feed}: {location}: {error}")]
pub(super) struct PullFailure<'a> {
    pub(super) feed: &'a str,
    pub(super) location: String,
    pub(super) error: PullError,
}

/// Error of a pull: in the request, in the documents, or in the state directory.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    #[error("{}", chain(.0))]
    Fetch(FetchError),
    #[error("{}", chain(.0))]
    Parser(#[from] ParserError),
    #[error("work in the state directory: {0}; is the disk full?")]
    State(#[from] io::Error),
    #[error("the new set: {}", chain(.0))]
    Store(#[from] SetFileError),
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    #[error("quarantined: {0}; where that is right, set quarantine = false for one pull")]
    Quarantine(String),
}

impl PullError {
    pub(super) const fn is_quarantine(&self) -> bool {
        matches!(self, Self::Quarantine(_))
    }

    /// True if the feed's saved set is damaged.
    pub(super) const fn is_damage(&self) -> bool {
        matches!(self, Self::Parser(ParserError::Damaged(_)))
    }
}
