//! `ParseJob`: the task of one run of the feed parser.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::merge::{Merge, MergeSummary};
use crate::intel::formats::entry::{EntrySink as _, ReadError, ReadPolicy};
use crate::intel::formats::kind::FeedKind;
use crate::intel::formats::list::ListFormat;
use crate::intel::formats::{DocumentFormat, read_document};
use crate::intel::pull::{Cursor, Extent, OpenDocuments};
use crate::intel::rejects::{RejectReason, Rejects};
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
    /// Address space of the parser, bytes.
    pub memory: u64,
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
        let failed = self.read(&mut documents, &mut merge)?;
        self.refuse_malformed(&merge)?;
        let cursor = if failed.is_empty() {
            self.cursor.clone()
        } else {
            let (cursor, groups) = self.without(&failed, merge.previous_cursor());
            merge.keep_others(&groups);
            cursor
        };
        let meta = SetMeta {
            origin: self.origin.clone(),
            pulled: self.policy.now,
            cursor,
            rejects: Rejects::default(),
            has_repeated_groups: false,
        };
        let ttl = Ttl { ttl: self.ttl, confirmed: self.confirmed };
        merge.finish(meta, ttl).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => JobError::Previous(SetFileError::Read(error)),
            _ => JobError::State(error),
        })
    }

    /// Reads the documents. Returns the indexes of those that cannot be read, which cost only themselves
    /// as long as there is another.
    fn read(
        &self,
        documents: &mut OpenDocuments,
        merge: &mut Merge,
    ) -> Result<Vec<usize>, JobError> {
        let format =
            DocumentFormat { kind: self.kind, list: &self.list, max_bytes: self.max_bytes };
        let count = self.lengths.len();
        let (mut position, mut failed) = (1, Vec::new());
        for index in 0.. {
            let Some(document) = documents.next_document() else { break };
            let mut document = BufReader::with_capacity(1 << 18, document);
            match read_document(&mut document, format, &self.policy, position, merge) {
                Ok(positions) => position += positions,
                Err(error @ ReadError::Io(_)) => return Err(error.into()),
                Err(error) if failed.len() + 1 == count => return Err(error.into()),
                Err(error) => {
                    io::copy(&mut document, &mut io::sink())?;
                    let reason = format!("document {} of {count}: {error}", index + 1);
                    merge.reject(position, RejectReason::Malformed(reason), "");
                    position += 1;
                    failed.push(index);
                }
            }
        }
        Ok(failed)
    }

    /// Returns the cursor with which the next pull requests the documents at the indexes `failed` again,
    /// and the groups that they were to replace.
    fn without(&self, failed: &[usize], previous: Option<&Cursor>) -> (Cursor, Vec<String>) {
        let Cursor::Events(events) = &self.cursor else {
            // Of pages all changes are requested again.
            let from = previous.filter(|_| self.extent != Extent::Snapshot).cloned();
            return (from.unwrap_or_default(), Vec::new());
        };
        // Documents are in the order of the replaced events; of a snapshot, in that of all events.
        let ids: Vec<&String> = match &self.extent {
            Extent::Changes { replaced } => replaced.iter().collect(),
            Extent::Snapshot => events.keys().collect(),
        };
        let known = if let Some(Cursor::Events(known)) = previous { Some(known) } else { None };
        let mut events = events.clone();
        let mut groups = Vec::with_capacity(failed.len());
        for id in failed.iter().filter_map(|index| ids.get(*index)) {
            match known.and_then(|known| known.get(*id)) {
                Some(time) => events.insert((*id).clone(), *time),
                None => events.remove(*id),
            };
            groups.push((*id).clone());
        }
        (Cursor::Events(events), groups)
    }

    /// Returns an estimate of the number of entries, from typical sizes of an entry.
    fn expected(&self) -> usize {
        let each = if self.kind == FeedKind::List { 16 } else { 512 };
        let bytes = self.lengths.iter().sum::<u64>();
        usize::try_from(bytes / each).unwrap_or(usize::MAX).min(EXPECTED_MAX)
    }

    /// Fails if all of a snapshot is malformed, or if no row of a list has an address. Valid entries that have expired or are excluded are
    /// a usable document, which removes the indicators.
    fn refuse_malformed(&self, merge: &Merge) -> Result<(), JobError> {
        let rejects = merge.rejects();
        let mut entries = rejects.malformed();
        if self.kind == FeedKind::List {
            // Rows in which the address is in another column, or addresses only in texts.
            let also = [RejectReason::NoAddress, RejectReason::AddressInText];
            let count = |reason: RejectReason| rejects.counts().get(reason.name()).copied();
            entries += also.into_iter().filter_map(count).sum::<u64>();
        }
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

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
