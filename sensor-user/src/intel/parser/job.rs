//! `ParseJob`: what one run of the reader does.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::merge::{Merge, MergeSummary};
use crate::intel::formats::crowdsec::read_crowdsec;
use crate::intel::formats::entry::{EntrySink, ReadError, ReadPolicy};
use crate::intel::formats::kind::FeedKind;
use crate::intel::formats::list::{ListFormat, read_list};
use crate::intel::formats::misp::read_misp;
use crate::intel::formats::rows::read_rows;
use crate::intel::formats::sentinel_query::read_sentinel_query;
use crate::intel::formats::stix::read_stix;
use crate::intel::pull::{Cursor, Extent, OpenDocuments};
use crate::intel::rejects::Rejects;
use crate::intel::set::store::{Meta, OpenSet, StoreError, With};
use crate::intel::set::ttl::Ttl;

/// Room is made for so many entries at once at most; for more it grows.
const EXPECTED_MAX: usize = 1 << 20;

/// Everything that the reader is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ParseJob {
    /// How to read the documents.
    pub kind: FeedKind,
    /// How a list is written.
    pub list: ListFormat,
    /// Where they are, one after the other.
    pub documents: PathBuf,
    /// The length of each.
    pub lengths: Vec<u64>,
    /// What they are of the feed.
    pub extent: Extent,
    /// The set to merge into; `None` for none.
    pub before: Option<PathBuf>,
    /// Where the new set is to be; there must be no such file.
    pub out: PathBuf,
    /// Which entries count.
    pub policy: ReadPolicy,
    /// Addresses of this host, which no entry may name.
    pub own: Vec<IpAddr>,
    /// How long what names no expiry is valid.
    pub ttl: SignedDuration,
    /// When the set before was last confirmed as a whole, where the feed is a snapshot.
    pub confirmed: Option<Timestamp>,
    /// For [`Meta`].
    pub origin: String,
    /// For [`Meta`].
    pub cursor: Cursor,
}

/// Why nothing came of a job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A file of the agent's own.
    #[error("work in the state directory: {0}")]
    State(#[from] io::Error),
    /// The set that is there is damaged, and what changed is not enough without it.
    #[error("the set that is there: {}", shown(.0))]
    Before(#[source] StoreError),
    /// The body is not of the feed's kind.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// All that is in it is malformed.
    #[error("none of {entries} entries can be used, {first}; check the feed's kind")]
    Unusable {
        /// How many.
        entries: u64,
        /// The first.
        first: String,
    },
}

/// The files of a job.
#[derive(Debug)]
pub struct OpenedJob {
    documents: OpenDocuments,
    before: Option<OpenSet>,
    out: File,
}

impl ParseJob {
    /// Opens all that the job needs.
    pub fn open(&self) -> Result<OpenedJob, JobError> {
        let documents = OpenDocuments::open(&self.documents, self.lengths.clone())?;
        let before = match self.before.as_ref().map(|path| OpenSet::open(path, With::Identities)) {
            Some(Ok(before)) => Some(before),
            // What is all of the feed needs nothing of it.
            Some(Err(_damaged)) if self.extent == Extent::Snapshot => None,
            Some(Err(damaged)) => return Err(JobError::Before(damaged)),
            None => None,
        };
        let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.out)?;
        Ok(OpenedJob { documents, before, out })
    }

    /// Reads the documents and writes the new set.
    pub fn perform(&self, opened: OpenedJob) -> Result<MergeSummary, JobError> {
        let OpenedJob { mut documents, before, out } = opened;
        let merge = Merge::new(out, before, self.extent.clone(), self.policy.now);
        let mut merge = merge.without(&self.own);
        merge.expect(self.expected());
        let mut position = 1;
        while let Some(document) = documents.next_document() {
            let document = BufReader::with_capacity(1 << 18, document);
            let form = (self.kind, &self.list);
            position += read_document(document, form, &self.policy, position, &mut merge)?;
        }
        self.refuse_malformed(merge.rejects())?;
        let meta = Meta {
            origin: self.origin.clone(),
            pulled: self.policy.now,
            cursor: self.cursor.clone(),
            rejects: Rejects::default(),
        };
        let ttl = Ttl { ttl: self.ttl, confirmed: self.confirmed };
        merge.finish(meta, ttl).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => JobError::Before(StoreError::Read(error)),
            _ => JobError::State(error),
        })
    }

    /// A guess at the number of entries: not more than there can be, nor more than are usual.
    fn expected(&self) -> usize {
        let each = if self.kind == FeedKind::List { 16 } else { 512 };
        let bytes = self.lengths.iter().sum::<u64>();
        usize::try_from(bytes / each).unwrap_or(usize::MAX).min(EXPECTED_MAX)
    }

    /// Rows that have ended are good news, and end what they named; a body in which everything is
    /// malformed is something else.
    fn refuse_malformed(&self, (rejects, taken): (&Rejects, u64)) -> Result<(), JobError> {
        let entries = rejects.malformed();
        if self.extent != Extent::Snapshot || taken > 0 || entries == 0 || rejects.total() > entries
        {
            return Ok(());
        }
        let first = rejects.kept().first().map_or_else(
            || "without a reason".to_owned(),
            |it| format!("line {}: \"{}\": {}", it.position, it.text.escape_debug(), it.reason),
        );
        Err(JobError::Unusable { entries, first })
    }
}

/// Reads a document of a kind; a list is in the format given. Gives the places that it takes, of
/// which the first is `position`.
pub fn read_document(
    document: impl BufRead,
    (kind, list): (FeedKind, &ListFormat),
    policy: &ReadPolicy,
    position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    match kind {
        FeedKind::List => read_list(document, list, policy, position, entries),
        FeedKind::Sentinel => read_rows(document, policy, position, entries),
        FeedKind::Misp | FeedKind::MispFeed => read_misp(document, policy, position, entries),
        FeedKind::CrowdSec => read_crowdsec(document, policy, position, entries),
        FeedKind::SentinelQuery => read_sentinel_query(document, policy, position, entries),
        FeedKind::Stix | FeedKind::Taxii2 => read_stix(document, policy, position, entries),
    }
}

fn shown(error: &StoreError) -> String {
    match error {
        StoreError::Read(error) => error.to_string(),
        damaged @ StoreError::Damaged(_) => damaged.to_string(),
    }
}
