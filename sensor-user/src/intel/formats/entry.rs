//! `FeedEntry`: one version of one id in a document, whatever the format; and the sink of entries.
//!
//! Readers convert bytes to entries and check each by itself. Choosing the version of an id that
//! applies, and removing entries that left a snapshot, is the sink's task.

use std::io;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::intel::address::{PrefixPolicy, parse_prefix};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::{RejectReason, Rejects};

/// One version of one id.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedEntry {
    /// Unique within its feed: id of an object, attribute, decision or row.
    pub id: String,
    /// Group that is replaced and removed as a whole (the UUID of a MISP event); "" for none.
    pub group: String,
    /// The newest version of an id applies. Of equal versions, and in feeds without versions, the
    /// later in input applies.
    pub version: Option<Timestamp>,
    /// Position in the feed: see [`crate::intel::rejects::Reject::position`].
    pub position: u64,
    /// Its indicators, or why it has none.
    pub content: EntryContent,
}

/// Content of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum EntryContent {
    /// At least one indicator, each with its own prefix. `feed` is not set yet, and `id` is the
    /// entry's. `expires` is `None`, and `time_generated` the time of the pull, where the feed
    /// gives none.
    Indicators(Vec<Indicator>),
    /// Not an indicator any more, which also ends earlier versions: revoked, deleted, benign,
    /// excluded.
    Removed(RejectReason),
}

/// Receiver of the entries of a document.
pub trait EntrySink {
    /// Accepts an entry.
    fn push(&mut self, entry: FeedEntry);
    /// Records input that is not an entry. `text` is the invalid part.
    fn reject(&mut self, position: u64, reason: RejectReason, text: &str);
}

/// Rules by which readers accept entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadPolicy {
    /// Prefixes that are accepted.
    pub prefixes: PrefixPolicy,
    /// Entries with a lower confidence (0 to 100) are not used; those of unknown confidence are.
    pub min_confidence: Option<u8>,
    /// Time of the pull.
    pub now: Timestamp,
    /// Rows of Microsoft Sentinel tables with an earlier `TimeGenerated` are ignored.
    pub oldest: Timestamp,
}

impl ReadPolicy {
    /// Parses `text` as a prefix and checks that it may be used.
    pub fn prefix(&self, text: &str) -> Result<IpNet, RejectReason> {
        self.accept(parse_prefix(text).ok_or(RejectReason::NotAnAddress)?)
    }

    /// Returns `prefix`, or the reason why it must not be used.
    pub fn accept(&self, prefix: IpNet) -> Result<IpNet, RejectReason> {
        match self.prefixes.exclusion(&prefix) {
            None => Ok(prefix),
            Some(exclusion) => Err(RejectReason::Excluded(exclusion)),
        }
    }

    /// True if `expires` is not after the time of the pull.
    pub fn is_expired(&self, expires: Option<Timestamp>) -> bool {
        expires.is_some_and(|expires| expires <= self.now)
    }

    /// True if `confidence` is below the minimum.
    pub fn is_low(&self, confidence: Option<f64>) -> bool {
        matches!((self.min_confidence, confidence), (Some(least), Some(it)) if it < f64::from(least))
    }
}

/// A document cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Reading the input failed.
    #[error("read the body")]
    Io(#[from] io::Error),
    /// The document is incomplete; the text is the position of its end.
    #[error("the body ends early, {0}; it was cut in transit")]
    Truncated(String),
    /// The document has another format.
    #[error("{0}; check the feed's kind and URL")]
    Format(String),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error,
            other => Self::other(other),
        }
    }
}

/// Sink that keeps everything in memory: for tests and small inputs.
#[derive(Debug, Default)]
pub struct CollectedEntries {
    /// Accepted entries, in input order.
    pub entries: Vec<FeedEntry>,
    /// Rejects of the input.
    pub rejects: Rejects,
}

impl EntrySink for CollectedEntries {
    fn push(&mut self, entry: FeedEntry) {
        self.entries.push(entry);
    }

    fn reject(&mut self, position: u64, reason: RejectReason, text: &str) {
        self.rejects.add(position, reason, text);
    }
}
