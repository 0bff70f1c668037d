//! Log of the history: segments with records of connections, which are only appended to.
//!
//! A record is a frame ([`crate::base::framing`]) whose body is a [`HistoryRecord`] in postcard
//! encoding. Of a segment that is cut or damaged, the records before the damage are used.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::entry::HistoryEntry;
use crate::base::framing::{self, FrameFormat, FrameReader, FrameStep, append_frame};
use crate::base::regular_file;

/// Record of a segment. Times are nanoseconds since the start of the segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum HistoryRecord {
    /// Definition of an entry; later records refer to it by its number.
    Entry(u32, Box<HistoryEntry>),
    /// Connection of an entry.
    Connection {
        entry: u32,
        time: i64,
        /// Port of the end that opened the connection, if known.
        port: Option<u16>,
        /// True if the connection was open before the agent started.
        preexisting: bool,
        /// Hashes of the indicators that it matched when it was first observed.
        hits: Vec<u64>,
    },
    /// Bytes of connections of an entry, and whether one of them closed.
    Traffic { entry: u32, sent: u64, received: u64, has_ended: bool },
    /// All connections of an entry up to this time are reported for this indicator.
    Reported { entry: u32, until: i64, indicator: u64 },
}

impl HistoryRecord {
    /// Number of the entry that the record belongs to.
    pub(super) const fn entry(&self) -> u32 {
        match self {
            Self::Entry(entry, _)
            | Self::Connection { entry, .. }
            | Self::Traffic { entry, .. }
            | Self::Reported { entry, .. } => *entry,
        }
    }
}

/// Frames of a segment.
struct RecordFormat;

impl FrameFormat for RecordFormat {
    const LEN_MIN: u32 = 0;
    const LEN_MAX: u32 = 1 << 20;
    // The reader stops at damage.
    const SEARCH_MAX: usize = 0;
    type Body<'b> = HistoryRecord;

    fn decode(&mut self, body: &[u8]) -> Option<HistoryRecord> {
        postcard::from_bytes(body).ok()
    }

    fn may_follow(&self, _body: &[u8]) -> bool {
        false
    }
}

/// File of the log.
#[derive(Debug)]
pub(super) struct HistorySegment {
    pub(super) path: PathBuf,
    /// Start of the segment, which is its file name.
    pub(super) start: Timestamp,
    /// Time of the last connection.
    pub(super) end: Timestamp,
    pub(super) bytes: u64,
    /// Number of entries that are defined in the segment.
    pub(super) entries: usize,
    /// Numbers of these entries; after a restart, of evicted ones too.
    pub(super) numbers: Range<u32>,
}

impl HistorySegment {
    /// New segment in `folder`, whose first entry has the number `next`.
    pub(super) fn new(folder: &Path, start: Timestamp, next: u32) -> Self {
        let path = folder.join(format!("{:020}.log", start.as_nanosecond()));
        Self { path, start, end: start, bytes: 0, entries: 0, numbers: next..next }
    }

    /// Segment of the file at `path`, not yet read; `None` if the name is not that of a segment.
    pub(super) fn from_path(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
        let start = Timestamp::from_nanosecond(name.parse().ok()?).ok()?;
        Some(Self { path, start, end: start, bytes: 0, entries: 0, numbers: 0..0 })
    }

    /// Nanoseconds from the start of the segment to `time`.
    pub(super) fn offset(&self, time: Timestamp) -> i64 {
        i64::try_from(time.as_nanosecond() - self.start.as_nanosecond()).unwrap_or(i64::MAX)
    }

    /// Time of an [`Self::offset`].
    pub(super) fn time(&self, offset: i64) -> Timestamp {
        time(self.start, offset)
    }

    /// Reads records up to the first that is damaged; returns the length of the whole records.
    pub(super) fn read(&self, mut take: impl FnMut(HistoryRecord)) -> io::Result<u64> {
        let file = regular_file::open(&self.path)?;
        let length = file.metadata()?.len();
        let read = |offset, length| framing::read_at(&file, offset, length);
        let mut frames = FrameReader::new(read, RecordFormat, 0..length);
        loop {
            match frames.next_step() {
                Ok(FrameStep::Frame(_, record)) => take(record),
                Ok(FrameStep::Damage(damage)) => return Ok(damage.start),
                Ok(FrameStep::Zeros(start)) => return Ok(start),
                Ok(FrameStep::End) => return Ok(length),
                // The disk cannot be read from here on; the records before are in use.
                Err(_unreadable) if frames.offset() > 0 => return Ok(frames.offset()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Time `offset` nanoseconds after `start`.
pub(super) fn time(start: Timestamp, offset: i64) -> Timestamp {
    Timestamp::from_nanosecond(start.as_nanosecond() + i128::from(offset)).unwrap_or(start)
}

/// Appends to a segment. Records are buffered until [`SegmentAppender::flush`].
#[derive(Debug, Default)]
pub(super) struct SegmentAppender {
    file: Option<File>,
    buffer: Vec<u8>,
}

impl SegmentAppender {
    /// Creates the file of `segment`.
    pub(super) fn open(&mut self, segment: &HistorySegment) -> io::Result<()> {
        self.file = None;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&segment.path)?;
        file.set_len(segment.bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// True if there is a segment to append to.
    pub(super) const fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Buffers a record; returns the length of its frame.
    pub(super) fn append(&mut self, record: &HistoryRecord) -> u64 {
        let before = self.buffer.len();
        // Serialisation to memory fails for none of these types.
        let _infallible = append_frame(&mut self.buffer, |out| {
            postcard::to_extend(record, std::mem::take(out)).map(|bytes| *out = bytes)
        });
        self.buffer.len().saturating_sub(before) as u64
    }

    /// Number of buffered bytes.
    pub(super) const fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Writes the buffered records.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(&self.buffer));
        self.buffer.clear();
        written
    }
}
