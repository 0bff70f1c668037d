//! Frame: the bytes of a segment.
//!
//! All numbers are little-endian. A segment begins with a header of 32 bytes: magic (8), version u32,
//! sequence u64 and ordinal u64 of what comes first, crc32 u32 of these. Then come frames: `length
//! u32, crc32 u32`, and so many bytes with that crc32. A frame is one commit: ordinal u64, sequence
//! u64 of its first alert, time i64 (nanoseconds), alerts u32, kind of state u8, number of the state
//! u64, length of state u32, the state, and each alert as a line of JSON.
//!
//! No frame is shorter than 41 bytes, so that zeros at the end of a file look like none: they are
//! room for frames (256 KiB at most), or what power loss left of frames that were not synced.

use std::sync::Arc;

use jiff::Timestamp;

use crate::pipeline::dedup::Alert;
use crate::pipeline::dedup::DedupState;

/// Bytes of a segment before its first frame.
pub(super) const HEADER: u64 = 32;
/// Bytes of a frame before what its crc32 covers.
pub(super) const PREFIX: usize = 8;
/// Bytes of a commit before its state.
pub(super) const HEAD: usize = 41;
/// A frame is not longer, bytes.
pub(super) const FRAME_MAX: u32 = 1 << 30;

const MAGIC: [u8; 8] = *b"netspool";
const VERSION: u32 = 1;

/// What the header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Sequence number of the first alert that it may hold.
    pub(super) sequence: u64,
    /// Ordinal of its first frame.
    pub(super) ordinal: u64,
}

impl Header {
    pub(super) fn bytes(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(self.ordinal.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// The header at the beginning of `bytes`, or what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Some((covered, mut rest)) = bytes.split_at_checked(28) else {
            return Err(format!("has {} bytes, a header has {HEADER}", bytes.len()));
        };
        let crc = u32::from_le_bytes(take(&mut rest).ok_or("the header is cut")?);
        let mut fields = covered;
        let magic: [u8; 8] = take(&mut fields).unwrap_or_default();
        let version = u32::from_le_bytes(take(&mut fields).unwrap_or_default());
        if magic != MAGIC {
            return Err("is no segment of a spool".to_owned());
        }
        if crc != crc32fast::hash(covered) {
            return Err("the header is damaged".to_owned());
        }
        if version != VERSION {
            return Err(format!("has version {version}, this netsensor reads {VERSION}"));
        }
        let sequence = u64::from_le_bytes(take(&mut fields).unwrap_or_default());
        let ordinal = u64::from_le_bytes(take(&mut fields).unwrap_or_default());
        Ok(Self { sequence, ordinal })
    }
}

/// What a frame says, read in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'b> {
    /// Number of the commit; grows by one, over restarts too.
    pub(super) ordinal: u64,
    /// Number of the first alert; the others follow.
    pub(super) sequence: u64,
    /// When it was put.
    pub(super) time: Timestamp,
    /// How many alerts.
    pub(super) alerts: u32,
    /// Dedup's.
    pub(super) state: Option<StateBytes<'b>>,
    /// Number of the state; grows by one from state to state.
    pub(super) chain: u64,
    lines: &'b [u8],
}

/// A `State`, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateBytes<'b> {
    Change(&'b [u8]),
    Snapshot(&'b [u8]),
}

impl<'b> Frame<'b> {
    /// What `body`, whose crc32 is right, says; `None` where it is not a commit.
    pub(super) fn parse(body: &'b [u8]) -> Option<Self> {
        let mut rest = body;
        let ordinal = u64::from_le_bytes(take(&mut rest)?);
        let sequence = u64::from_le_bytes(take(&mut rest)?);
        let time = i64::from_le_bytes(take(&mut rest)?);
        let time = Timestamp::from_nanosecond(time.into()).ok()?;
        let alerts = u32::from_le_bytes(take(&mut rest)?);
        let [kind] = take::<1>(&mut rest)?;
        let chain = u64::from_le_bytes(take(&mut rest)?);
        let length = u32::from_le_bytes(take(&mut rest)?);
        let (state, lines) = rest.split_at_checked(length as usize)?;
        let state = match kind {
            0 => None,
            1 => Some(StateBytes::Change(state)),
            2 => Some(StateBytes::Snapshot(state)),
            _ => return None,
        };
        sequence.checked_add(alerts.into())?;
        Some(Self { ordinal, sequence, time, alerts, state, chain, lines })
    }

    /// Number behind its last alert.
    pub(super) fn end(&self) -> u64 {
        self.sequence.saturating_add(self.alerts.into())
    }

    /// Number and JSON of each alert.
    pub(super) fn lines(&self) -> impl Iterator<Item = (u64, &'b [u8])> {
        let lines = self.lines.split(|byte| *byte == b'\n').take(self.alerts as usize);
        (self.sequence..).zip(lines)
    }
}

/// What of a frame is not in its commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) ordinal: u64,
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
    /// Of the state, where there is one.
    pub(super) chain: u64,
}

/// Appends a frame to `out`; gives the bytes of each alert's JSON.
pub(super) fn encode(
    out: &mut Vec<u8>,
    place: Place,
    state: Option<&DedupState>,
    alerts: &[Arc<Alert>],
) -> Vec<usize> {
    let start = out.len();
    let (kind, state) = match state {
        None => (0_u8, [].as_slice()),
        Some(DedupState::Change(bytes)) => (1, bytes.as_slice()),
        Some(DedupState::Snapshot(bytes)) => (2, bytes.as_slice()),
    };
    let time = i64::try_from(place.time.as_nanosecond()).unwrap_or(i64::MAX);
    out.extend([0; PREFIX]);
    out.extend(place.ordinal.to_le_bytes());
    out.extend(place.sequence.to_le_bytes());
    out.extend(time.to_le_bytes());
    out.extend(u32::try_from(alerts.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.push(kind);
    out.extend(place.chain.to_le_bytes());
    out.extend(u32::try_from(state.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(state);
    let mut sizes = Vec::with_capacity(alerts.len());
    for alert in alerts {
        let before = out.len();
        // An alert's JSON cannot fail; a line that is not one is skipped by who reads it.
        let _infallible = serde_json::to_writer(&mut *out, &**alert);
        sizes.push(out.len() - before);
        out.push(b'\n');
    }
    if let Some((prefix, body)) =
        out.get_mut(start..).and_then(|frame| frame.split_first_chunk_mut::<PREFIX>())
    {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let crc = crc32fast::hash(body).to_le_bytes();
        prefix.iter_mut().zip(length.into_iter().chain(crc)).for_each(|(to, from)| *to = from);
    }
    sizes
}

/// Length and crc32 that a frame says of itself.
pub(super) fn prefix(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut rest = bytes;
    let length = u32::from_le_bytes(take(&mut rest)?);
    Some((length, u32::from_le_bytes(take(&mut rest)?)))
}

/// The next `N` bytes of `rest`.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}
