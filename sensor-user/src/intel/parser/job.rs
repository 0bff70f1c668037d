//! `ParseJob`: the task of one run of the feed parser.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::merge::{Merge, MergeSummary};
use crate::intel::formats::entry::{ReadError, ReadPolicy};
use crate::intel::formats::kind::FeedKind;
use crate::intel::formats::list::ListFormat;
use crate::intel::formats::{DocumentFormat, read_document};
use crate::intel::pull::{Cursor, Extent, OpenDocuments};
use crate::intel::rejects::Rejects;
use crate::intel::set::store::{SetFile, SetFileError, SetMeta, SetParts};
use crate::intel::set::ttl::Ttl;

/// Maximum number of entries for which memory is reserved in advance.
const EXPECTED_MAX: usize = 1 << 20;

/// Input of one run of the feed parser.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ParseJob {
    /// Format of the documents.
    pub kind: FeedKind,
    /// Format of a list.
    pub list: ListFormat,
    /// File with the documents, one after the other.
    pub documents: PathBuf,
    /// Length of each document in bytes.
    pub lengths: Vec<u64>,
    /// Maximum size of a document after decompression, bytes.
    pub max_bytes: u64,
    /// Part of the feed that they are.
    pub extent: Extent,
    /// File of the set to merge into; `None` for the first pull.
    pub previous: Option<PathBuf>,
    /// File of the new set; it must not exist yet.
    pub out: PathBuf,
    /// Rules by which entries are accepted.
    pub policy: ReadPolicy,
    /// Addresses of this host, which are left out.
    pub own: Vec<IpAddr>,
    /// Validity of indicators without an expiry.
    pub ttl: SignedDuration,
    /// Time of the last confirmation of the whole previous set, for snapshot feeds.
    pub confirmed: Option<Timestamp>,
    /// Origin for [`SetMeta`].
    pub origin: String,
    /// Cursor for [`SetMeta`].
    pub cursor: Cursor,
}

/// A job failed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A file in the state directory cannot be used.
    #[error("work in the state directory: {0}")]
    State(#[from] io::Error),
    /// The previous set is damaged, and changes are not enough without it.
    #[error("the saved set: {}", shown(.0))]
    Previous(#[source] SetFileError),
    /// The body cannot be read, or has another format.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// All entries are malformed.
    #[error("none of {entries} entries can be used, {first}; check the feed's kind")]
    Unusable {
        /// Number of entries.
        entries: u64,
        /// Position, text and reason of the first one.
        first: String,
    },
}

/// Open files of a job.
#[derive(Debug)]
pub struct OpenedJob {
    documents: OpenDocuments,
    previous: Option<SetFile>,
    out: File,
}

impl ParseJob {
    /// Opens the files of the job.
    pub fn open(&self) -> Result<OpenedJob, JobError> {
        let documents = OpenDocuments::open(&self.documents, self.lengths.clone())?;
        let open = |path: &PathBuf| SetFile::open(path, SetParts::Merge);
        let previous = match self.previous.as_ref().map(open).transpose() {
            // A snapshot does not depend on the previous set.
            Err(_damaged) if self.extent == Extent::Snapshot => None,
            outcome => outcome.map_err(JobError::Previous)?,
        };
        let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.out)?;
        Ok(OpenedJob { documents, previous, out })
    }

    /// Reads the documents and writes the new set.
    pub fn perform(&self, opened: OpenedJob) -> Result<MergeSummary, JobError> {
        let OpenedJob { mut documents, previous, out } = opened;
        let merge = Merge::new(out, previous, self.extent.clone(), self.policy.now);
        let merge = merge.withdrawing_groups(self.kind == FeedKind::CrowdSec);
        let mut merge = merge.without_addresses(&self.own);
        merge.reserve(self.expected());
        let mut position = 1;
        while let Some(document) = documents.next_document() {
            let document = BufReader::with_capacity(1 << 18, document);
            let format = DocumentFormat {
                kind: self.kind,
                list: &self.list,
                max_bytes: self.max_bytes,
            };
            position += read_document(document, format, &self.policy, position, &mut merge)?;
        }
        self.refuse_malformed(&merge)?;
        let meta = SetMeta {
            origin: self.origin.clone(),
            pulled: self.policy.now,
            cursor: self.cursor.clone(),
            rejects: Rejects::default(),
            has_repeated_groups: false,
        };
        let ttl = Ttl { ttl: self.ttl, confirmed: self.confirmed };
        merge.finish(meta, ttl).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => JobError::Previous(SetFileError::Read(error)),
            _ => JobError::State(error),
        })
    }

    /// Returns an estimate of the number of entries, from typical sizes of an entry.
    fn expected(&self) -> usize {
        let each = if self.kind == FeedKind::List { 16 } else { 512 };
        let bytes = self.lengths.iter().sum::<u64>();
        usize::try_from(bytes / each).unwrap_or(usize::MAX).min(EXPECTED_MAX)
    }

    /// Fails if all of a snapshot is malformed. Valid entries that have expired or are excluded are
    /// a usable document, which removes the indicators.
    fn refuse_malformed(&self, merge: &Merge) -> Result<(), JobError> {
        let rejects = merge.rejects();
        let entries = rejects.malformed();
        let has_valid = merge.entries() > 0 || rejects.total() > entries;
        if self.extent != Extent::Snapshot || has_valid || entries == 0 {
            return Ok(());
        }
        let is_of_lines = matches!(self.kind, FeedKind::List | FeedKind::Sentinel);
        let position = if is_of_lines { "line" } else { "object" };
        let first = rejects.kept().first().map_or_else(
            || "without a reason".to_owned(),
            |it| {
                format!("{position} {}: \"{}\": {}", it.position, it.text.escape_debug(), it.reason)
            },
        );
        Err(JobError::Unusable { entries, first })
    }
}

fn shown(error: &SetFileError) -> String {
    match error {
        SetFileError::Read(error) => error.to_string(),
        damaged @ SetFileError::Damaged(_) => damaged.to_string(),
    }
}
