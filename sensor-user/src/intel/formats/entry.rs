//! `FeedEntry`: what a document of a feed says of one id, whatever its kind; and what takes entries in.
//!
//! Readers turn bytes into entries and judge each by itself. Which version of an id decides, and
//! what leaves with a snapshot, is for whoever takes them.

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
    /// What names it within its feed: the id of an object, attribute, decision or row.
    pub id: String,
    /// What it is part of and leaves with (the UUID of a MISP event); "" for none.
    pub group: String,
    /// The newest version of an id decides; of equal ones, and where a feed has none, the later in
    /// input.
    pub version: Option<Timestamp>,
    /// Where it stands: see [`crate::intel::rejects::Reject::position`].
    pub position: u64,
    /// What it says.
    pub content: EntryContent,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq)]
pub enum EntryContent {
    /// These are indicators, at least one, each with its own prefix. Their `feed` is not set yet;
    /// their `id` is the entry's. `expires` is `None` where the feed does not say, `time_generated`
    /// is the time of the pull where it does not.
    Indicators(Vec<Indicator>),
    /// No indicator any more, and no earlier version of it: revoked, deleted, benign, excluded.
    Removed(RejectReason),
}

/// Takes in what a reader finds.
pub trait EntrySink {
    /// An entry.
    fn push(&mut self, entry: FeedEntry);
    /// Something that is no entry. `text` is the part at fault.
    fn reject(&mut self, position: u64, reason: RejectReason, text: &str);
}

/// What a reader goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadPolicy {
    /// Which addresses count.
    pub prefixes: PrefixPolicy,
    /// Entries of less confidence (0 to 100) are not used; those of unknown confidence are.
    pub min_confidence: Option<u8>,
    /// When the document was pulled.
    pub now: Timestamp,
    /// Rows of the tables of Microsoft Sentinel that were made before are ignored.
    pub oldest: Timestamp,
}

impl ReadPolicy {
    /// The prefix that `text` names, where it may be used.
    pub fn prefix(&self, text: &str) -> Result<IpNet, RejectReason> {
        let prefix = parse_prefix(text).ok_or(RejectReason::NotAnAddress)?;
        match self.prefixes.exclusion(&prefix) {
            None => Ok(prefix),
            Some(exclusion) => Err(RejectReason::Excluded(exclusion)),
        }
    }

    /// Whether `confidence` is below the floor.
    pub fn is_low(&self, confidence: Option<f64>) -> bool {
        matches!((self.min_confidence, confidence), (Some(least), Some(it)) if it < f64::from(least))
    }
}

/// Why nothing of a document can be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("read the body")]
    Io(#[from] io::Error),
    /// It ends in the middle.
    #[error("the body ends early, {0}; it was cut on its way")]
    Truncated(String),
    /// It is something else.
    #[error("{0}; check the feed's kind and URL")]
    Format(String),
}

/// Everything that a reader finds, in memory: for tests and small inputs.
#[derive(Debug, Default)]
pub struct CollectedEntries {
    /// In input order.
    pub entries: Vec<FeedEntry>,
    /// What is not used.
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
