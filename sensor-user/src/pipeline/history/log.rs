//! The log: records of connections in files that are only appended to, a segment at a time.
//!
//! A record is `length u32, crc32 u32`, both little-endian, and its bytes (postcard). A file that
//! ends in the middle of a record, or is damaged, counts up to there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::entry::Entry;

/// A record is not longer, bytes.
const RECORD_MAX: u32 = 1 << 20;

/// What a record says. Times are nanoseconds since the segment's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record {
    /// A kind of connection, from here on known by this number.
    Entry(u32, Box<Entry>),
    /// A connection of a kind.
    Seen {
        entry: u32,
        time: i64,
        /// Port of the end that began, where known.
        port: Option<u16>,
        /// Whether it was open before the agent watched.
        preexisting: bool,
        /// What it was a hit of at first sight.
        hits: Vec<u64>,
    },
    /// What connections of a kind moved, and whether one ended.
    Moved { entry: u32, sent: u64, received: u64, has_ended: bool },
    /// All connections of a kind up to this time are told, of this indicator.
    Told { entry: u32, until: i64, indicator: u64 },
}

/// A file of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// When it begins; its name.
    pub(super) start: Timestamp,
    /// When its last connection was.
    pub(super) end: Timestamp,
    pub(super) bytes: u64,
    /// Kinds that are defined in it.
    pub(super) entries: usize,
}

impl Segment {
    /// The segment of the file at `path`, empty as yet; `None` where its name is not one.
    pub(super) fn named(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
        let start = Timestamp::from_nanosecond(name.parse().ok()?).ok()?;
        Some(Self { path, start, end: start, bytes: 0, entries: 0 })
    }

    /// A new one at `start`.
    pub(super) fn new(folder: &Path, start: Timestamp) -> Self {
        let path = folder.join(format!("{:020}.log", start.as_nanosecond()));
        Self { path, start, end: start, bytes: 0, entries: 0 }
    }

    /// Nanoseconds from its beginning to `time`.
    pub(super) fn offset(&self, time: Timestamp) -> i64 {
        i64::try_from(time.as_nanosecond() - self.start.as_nanosecond()).unwrap_or(i64::MAX)
    }

    /// The instant of an [`Self::offset`].
    pub(super) fn time(&self, offset: i64) -> Timestamp {
        time(self.start, offset)
    }

    /// Reads all records; gives the length of what is whole.
    pub(super) fn read(&self, mut take: impl FnMut(Record)) -> io::Result<u64> {
        let mut input = BufReader::with_capacity(1 << 17, File::open(&self.path)?);
        let mut bytes = Vec::new();
        let mut whole = 0;
        loop {
            let mut head = [0; 8];
            match input.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(whole),
                Err(error) => return Err(error),
            }
            let [a, b, c, d, crc @ ..] = head;
            let length = u32::from_le_bytes([a, b, c, d]);
            if length > RECORD_MAX {
                return Ok(whole);
            }
            bytes.resize(length as usize, 0);
            if input.read_exact(&mut bytes).is_err()
                || crc32fast::hash(&bytes) != u32::from_le_bytes(crc)
            {
                return Ok(whole);
            }
            match postcard::from_bytes(&bytes) {
                Ok(record) => take(record),
                Err(_other_version) => return Ok(whole),
            }
            whole += 8 + u64::from(length);
        }
    }
}

/// The instant `offset` nanoseconds after `start`.
pub(super) fn time(start: Timestamp, offset: i64) -> Timestamp {
    Timestamp::from_nanosecond(start.as_nanosecond() + i128::from(offset)).unwrap_or(start)
}

/// Appends to a segment; records wait in memory until [`Appender::flush`].
#[derive(Debug, Default)]
pub(super) struct Appender {
    file: Option<File>,
    waiting: Vec<u8>,
}

impl Appender {
    /// Goes on with the file of `segment`, of which only what is known to be whole stays.
    pub(super) fn open(&mut self, segment: &Segment) -> io::Result<()> {
        self.file = None;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&segment.path)?;
        file.set_len(segment.bytes)?;
        self.file = Some(file);
        Ok(())
    }

    /// Whether there is a segment to append to.
    pub(super) const fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Adds a record; gives its length.
    pub(super) fn add(&mut self, record: &Record) -> u64 {
        let start = self.waiting.len();
        let mut bytes = std::mem::take(&mut self.waiting);
        bytes.extend_from_slice(&[0; 8]);
        let Ok(mut bytes) = postcard::to_extend(record, bytes) else { return 0 };
        let length = bytes.len() - start - 8;
        if let Some((head, body)) =
            bytes.get_mut(start..).and_then(|frame| frame.split_first_chunk_mut::<8>())
        {
            let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
            let crc = crc32fast::hash(body).to_le_bytes();
            head.iter_mut().zip(length.into_iter().chain(crc)).for_each(|(to, from)| *to = from);
        }
        self.waiting = bytes;
        length as u64 + 8
    }

    /// Bytes that wait.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(&self.waiting));
        self.waiting.clear();
        written
    }
}
