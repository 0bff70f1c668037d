//! Set file: the indicators of a feed, of which a lookup needs little in memory.
//!
//! The parts of a file in order; all numbers are little-endian:
//!
//! ```text
//! records   crc32 u32 | length u32 | since u32 | pulled u32 | indicator | zeros to a multiple of 8
//! merge     a StoredFact per record | a StoredIdentity per id, sorted by id
//! tables    hosts IPv4 | hosts IPv6 | networks IPv4 | networks IPv6 | offset u32 of each record
//! meta      SetMeta as JSON
//! footer    7 counts u32 | length of records u64 | crc32 of merge | crc32 of tables and meta | magic
//! ```
//!
//! - The crc32 of a record covers the indicator (postcard). `since` is the time of this version,
//!   `pulled` that of the last pull with it, both in seconds since 1970.
//! - Tables are sorted by address; each row has the number of its record. Offsets are in units of
//!   eight bytes.
//! - The footer has [`FOOTER`] bytes. Its last eight, [`MAGIC`], include the version.
//!
//! A file is written under another name, synced, and renamed: it is complete, or absent. Thus records
//! are found by the offsets, without [`crate::base::framing`]; a torn tail cannot occur.

mod file;
mod writer;

pub use file::{RECORD_MAX, RecordReader, SetFile, SetParts, StoredIndicator};
pub use writer::{EncodedIndicator, SetWriter};

use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::framing::LittleEndian;
use crate::intel::pull::Cursor;
use crate::intel::rejects::Rejects;

/// Last bytes of a file; the last one is the version of the layout.
const MAGIC: [u8; 8] = *b"NSENSET\x01";
/// Bytes of the footer.
const FOOTER: usize = 52;
/// Bytes of a record's head.
const HEAD: usize = 16;

/// Metadata of a set file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetMeta {
    /// Identity of the pulled feed. A file with another origin is not used.
    pub origin: String,
    /// Time of the pull.
    pub pulled: Timestamp,
    /// Position at which the next pull continues.
    pub cursor: Cursor,
    /// Entries of the pull that were rejected.
    pub rejects: Rejects,
    /// True if one pull had two entries of a group: the server does not de-duplicate them.
    #[serde(default)]
    pub has_repeated_groups: bool,
}

/// Data for a merge about an id that the set has, or had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredIdentity {
    /// XXH3 (128 bits) of the id.
    pub id: u128,
    /// Version, by [`ticks`].
    pub version: i64,
    /// XXH3 (64 bits) of the group; 0 for none.
    pub group: u64,
    /// Number of the first record.
    pub first: u32,
    /// Number of records, which are adjacent; 0 for a removed id.
    pub count: u32,
}

impl StoredIdentity {
    /// Bytes in the table.
    const BYTES: usize = 40;

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut numbers = LittleEndian(bytes);
        Some(Self {
            id: numbers.u128()?,
            version: numbers.i64()?,
            group: numbers.u64()?,
            first: numbers.u32()?,
            count: numbers.u32()?,
        })
    }

    /// Numbers of the records.
    pub const fn records(&self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.count)
    }
}

/// Data for a merge about a record. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredFact {
    /// CRC-32 of the indicator's bytes.
    pub crc: u32,
    /// Time of this version.
    pub since: u32,
    /// Time of the last pull with it.
    pub pulled: u32,
    /// Expiry of the indicator; 0 for none.
    pub expires: u32,
}

impl StoredFact {
    /// Bytes in the table.
    const BYTES: usize = 16;

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut numbers = LittleEndian(bytes);
        Some(Self {
            crc: numbers.u32()?,
            since: numbers.u32()?,
            pulled: numbers.u32()?,
            expires: numbers.u32()?,
        })
    }
}

/// Number of a version: units of 100 ns since 1970, the finest resolution of any feed. No version is
/// older than all others.
pub fn ticks(version: Option<Timestamp>) -> i64 {
    let ticks = |time: Timestamp| i64::try_from(time.as_nanosecond() / 100).unwrap_or(i64::MAX);
    version.map_or(i64::MIN, ticks)
}

/// Error of a set file.
#[derive(Debug, thiserror::Error)]
pub enum SetFileError {
    /// The file cannot be read.
    #[error("read it")]
    Read(#[from] io::Error),
    /// The file is cut, damaged, or of another version.
    #[error("it is damaged or of another version ({0})")]
    Damaged(&'static str),
}

/// Seconds since 1970, as in records.
pub(crate) fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.as_second().max(0)).unwrap_or(u32::MAX)
}

/// Time of [`seconds`].
pub(crate) fn instant(seconds: u32) -> Timestamp {
    Timestamp::from_second(i64::from(seconds)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
