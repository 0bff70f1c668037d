//! Segment: a file of the log, in memory and on disk.

use std::io;

use jiff::Timestamp;

use super::frame::{HEADER, SegmentHeader, StoredCommit};
use super::storage::Storage;

/// Name and length of a segment file. The name has the first sequence number and the generation,
/// which is unique: `00000000000000000001-0000000001.log`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentFile {
    pub(super) generation: u64,
    /// First sequence number in the name.
    pub(super) first: u64,
    pub(super) name: String,
    pub(super) bytes: u64,
}

impl SegmentFile {
    /// `None` if `name` is not that of a segment.
    pub(super) fn new(name: String, bytes: u64) -> Option<Self> {
        let (first, generation) = name.strip_suffix(".log")?.split_once('-')?;
        let number = |text: &str| text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse());
        let (first, generation) = (number(first)?.ok()?, number(generation)?.ok()?);
        Some(Self { generation, first, name, bytes })
    }

    /// All segments in `storage`, oldest first.
    pub(super) fn list(storage: &dyn Storage) -> io::Result<Vec<Self>> {
        let files = storage.list()?.into_iter();
        let mut segments: Vec<Self> =
            files.filter_map(|(name, bytes)| Self::new(name, bytes)).collect();
        segments.sort();
        Ok(segments)
    }

    /// Reads the header. The inner error is the reason why it is invalid.
    pub(super) fn read_header(&self, storage: &dyn Storage) -> io::Result<Result<Segment, String>> {
        let header = storage.read_at(&self.name, 0, usize::try_from(HEADER).unwrap_or(0))?;
        Ok(SegmentHeader::parse(&header).map(|header| Segment {
            name: self.name.clone(),
            bytes: self.bytes,
            ..Segment::new(self.generation, header)
        }))
    }
}

/// Segment as memory knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) name: String,
    /// Grows by one with each segment.
    pub(super) generation: u64,
    /// Ordinal of the first commit.
    pub(super) ordinal: u64,
    /// Number of the first alert.
    pub(super) first: u64,
    /// Number after that of the last alert which is known to be on disk.
    pub(super) end: u64,
    /// Alerts from `first` to `end`.
    pub(super) alerts: u64,
    /// Length of the file without reserved room.
    pub(super) bytes: u64,
    /// Time of the first commit.
    pub(super) oldest: Option<Timestamp>,
    /// Time of the last commit.
    pub(super) newest: Option<Timestamp>,
}

impl Segment {
    /// Segment without frames.
    pub(super) fn new(generation: u64, SegmentHeader { sequence, ordinal }: SegmentHeader) -> Self {
        Self {
            name: format!("{sequence:020}-{generation:010}.log"),
            generation,
            ordinal,
            first: sequence,
            end: sequence,
            alerts: 0,
            bytes: HEADER,
            oldest: None,
            newest: None,
        }
    }

    /// Adds a commit of the file.
    pub(super) fn add_stored(&mut self, commit: &StoredCommit<'_>) {
        self.add_alerts(commit.end(), commit.alerts.into(), commit.header.time);
    }

    /// Adds the `alerts` of a commit before the number `end`.
    pub(super) fn add_alerts(&mut self, end: u64, alerts: u64, time: Timestamp) {
        self.end = self.end.max(end);
        self.alerts = self.alerts.saturating_add(alerts);
        self.oldest.get_or_insert(time);
        self.newest = self.newest.max(Some(time));
    }

    /// Number of alerts from the number `from` on.
    pub(super) fn alerts_from(&self, from: u64) -> u64 {
        self.end.saturating_sub(from.max(self.first)).min(self.alerts)
    }
}
