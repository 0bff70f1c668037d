//! Format of a segment: a header of 32 bytes, then one frame per commit.
//!
//! All numbers are little-endian. The header is:
//!
//! ```text
//! magic "netspool" | version u32 | sequence u64 | ordinal u64 | crc32 u32 of these
//! ```
//!
//! `sequence` and `ordinal` are those of the first alert and commit. The body of a frame
//! ([`crate::base::framing`]) is:
//!
//! ```text
//! ordinal u64 | sequence u64 of the first alert | time i64, ns | alerts u32 |
//! kind of state u8 | chain u64 | length of state u32 | state | alerts, one line of JSON each
//! ```
//!
//! A body has at least 41 bytes, so that zeros at the end of a file are not a frame. They are
//! reserved room (at most 256 KiB), or frames without a sync that power loss took.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use super::storage::Storage;
use crate::base::framing::{FrameFormat, FrameReader, LittleEndian, append_frame};
use crate::pipeline::dedup::{Alert, DedupState};

/// Bytes of a segment before its first frame.
pub(super) const HEADER: u64 = 32;
/// Bytes of the header that its checksum covers.
const CHECKED: usize = 28;
const MAGIC: [u8; 8] = *b"netspool";
const VERSION: u32 = 1;
/// Maximum difference between the ordinals of one segment.
const ORDINALS_MAX: u64 = 1 << 32;

/// Header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) sequence: u64,
    pub(super) ordinal: u64,
}

impl SegmentHeader {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.ordinal.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Parses the header at the beginning of `bytes`; the error is the reason for a person.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let too_short = || format!("has {} bytes, a header has {HEADER}", bytes.len());
        let mut rest = LittleEndian(bytes);
        let checked = rest.bytes(CHECKED).ok_or_else(too_short)?;
        let crc = rest.u32().ok_or_else(too_short)?;
        let mut fields = LittleEndian(checked);
        if fields.array() != Some(MAGIC) {
            return Err("is not a spool segment".to_owned());
        }
        if crc != crc32fast::hash(checked) {
            return Err("has a damaged header".to_owned());
        }
        let version = fields.u32().unwrap_or(0);
        if version != VERSION {
            return Err(format!("has version {version}, this netsensor reads {VERSION}"));
        }
        let mut field = || fields.u64().unwrap_or(0);
        Ok(Self { sequence: field(), ordinal: field() })
    }
}

/// Numbers and time of a commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitHeader {
    /// Number of the commit; grows by one, over restarts too.
    pub(super) ordinal: u64,
    /// Number of the first alert; the others follow.
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
    /// Number of the last state up to this commit; grows by one with each state.
    pub(super) chain: u64,
}

/// Commit of a segment, decoded in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredCommit<'b> {
    pub(super) header: CommitHeader,
    pub(super) alerts: u32,
    pub(super) state: Option<StateBytes<'b>>,
    lines: &'b [u8],
}

/// [`DedupState`], decoded in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateBytes<'b> {
    Change(&'b [u8]),
    Snapshot(&'b [u8]),
}

impl<'b> StoredCommit<'b> {
    fn parse(body: &'b [u8]) -> Option<Self> {
        let mut fields = LittleEndian(body);
        let (ordinal, sequence) = (fields.u64()?, fields.u64()?);
        let time = Timestamp::from_nanosecond(fields.i64()?.into()).ok()?;
        let (alerts, kind, chain) = (fields.u32()?, fields.u8()?, fields.u64()?);
        let length = fields.u32()? as usize;
        let state = fields.bytes(length)?;
        let state = match kind {
            0 => None,
            1 => Some(StateBytes::Change(state)),
            2 => Some(StateBytes::Snapshot(state)),
            _ => return None,
        };
        sequence.checked_add(alerts.into())?;
        let header = CommitHeader { ordinal, sequence, time, chain };
        Some(Self { header, alerts, state, lines: fields.0 })
    }

    /// Number after that of the last alert.
    pub(super) fn end(&self) -> u64 {
        self.header.sequence.saturating_add(self.alerts.into())
    }

    /// Number and JSON of each alert.
    pub(super) fn lines(&self) -> impl Iterator<Item = (u64, &'b [u8])> {
        let lines = self.lines.split(|byte| *byte == b'\n').take(self.alerts as usize);
        (self.header.sequence..).zip(lines)
    }
}

/// Bytes of a body without state and alerts.
pub(super) const BODY_MIN: usize = 41;

/// Number of the first alert, and of the alerts, in the body of a frame, which may be damaged.
pub(super) fn numbers_of_body(body: &[u8]) -> Option<(u64, u64)> {
    let mut fields = LittleEndian(body);
    let (_ordinal, sequence, _time) = (fields.u64()?, fields.u64()?, fields.i64()?);
    Some((sequence, fields.u32()?.into()))
}

/// Frames of a segment.
#[derive(Debug)]
pub(super) struct CommitFormat {
    /// Lowest ordinal of the next frame.
    ordinal: u64,
}

impl FrameFormat for CommitFormat {
    /// A commit without state and alerts.
    const LEN_MIN: u32 = 41;
    const LEN_MAX: u32 = 1 << 30;
    const SEARCH_MAX: usize = 64 << 20;
    type Body<'b> = StoredCommit<'b>;

    fn decode<'b>(&mut self, body: &'b [u8]) -> Option<StoredCommit<'b>> {
        let commit = StoredCommit::parse(body)?;
        self.ordinal = self.ordinal.max(commit.header.ordinal);
        Some(commit)
    }

    fn may_follow(&self, body: &[u8]) -> bool {
        let ordinals = self.ordinal..self.ordinal.saturating_add(ORDINALS_MAX);
        StoredCommit::parse(body).is_some_and(|commit| ordinals.contains(&commit.header.ordinal))
    }
}

/// Reads the commits in `range` of the segment file `name`, whose ordinals begin at `ordinal`.
pub(super) fn read_commits<'s>(
    storage: &'s dyn Storage,
    name: &'s str,
    range: Range<u64>,
    ordinal: u64,
) -> FrameReader<impl FnMut(u64, usize) -> io::Result<Vec<u8>> + 's, CommitFormat> {
    let read = |offset, length| storage.read_at(name, offset, length);
    FrameReader::new(read, CommitFormat { ordinal }, range)
}

/// Commit that is not known to be on disk.
#[derive(Debug)]
pub(super) struct PendingCommit {
    pub(super) header: CommitHeader,
    pub(super) alerts: Vec<Arc<Alert>>,
    /// Bytes of each alert's JSON, once the commit was encoded.
    pub(super) sizes: Vec<usize>,
    pub(super) state: Option<DedupState>,
    pub(super) is_published: bool,
    /// Number that [`super::Spool::put`] returned.
    pub(super) number: u64,
}

impl PendingCommit {
    /// Number after that of the last alert.
    pub(super) fn end(&self) -> u64 {
        self.header.sequence.saturating_add(self.alerts.len() as u64)
    }

    /// Bytes of the state.
    pub(super) fn state_bytes(&self) -> &[u8] {
        match &self.state {
            None => &[],
            Some(DedupState::Change(bytes) | DedupState::Snapshot(bytes)) => bytes,
        }
    }

    /// Appends the frame to `out`.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>) {
        let CommitHeader { ordinal, sequence, time, chain } = self.header;
        let kind = match self.state {
            None => 0,
            Some(DedupState::Change(_)) => 1,
            Some(DedupState::Snapshot(_)) => 2,
        };
        let state = self.state_bytes();
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let sizes = append_frame(out, |out| {
            out.extend(ordinal.to_le_bytes());
            out.extend(sequence.to_le_bytes());
            out.extend(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX).to_le_bytes());
            out.extend(length(self.alerts.len()));
            out.push(kind);
            out.extend(chain.to_le_bytes());
            out.extend(length(state.len()));
            out.extend(state);
            let mut sizes = Vec::with_capacity(self.alerts.len());
            for alert in &self.alerts {
                let before = out.len();
                // The JSON of an alert cannot fail; a reader skips a line that is not an alert.
                let _infallible = serde_json::to_writer(&mut *out, &**alert);
                sizes.push(out.len() - before);
                out.push(b'\n');
            }
            sizes
        });
        self.sizes = sizes;
    }
}
