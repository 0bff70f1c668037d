//! Store: a feed's indicators in one file, and the little of it that a lookup needs in memory.
//!
//! Layout, all numbers little-endian, in this order:
//!
//! - records: `crc32 u32, length u32, since u32, pulled u32`, the indicator (postcard), zeros up to
//!   the next multiple of eight. The crc is that of the indicator's bytes; `since` is when this
//!   version came, `pulled` when a pull last had it (seconds since 1970).
//! - for a merge: a [`Fact`] of each record, and an [`Identity`] of each id, sorted by it.
//! - tables: hosts and networks of IPv4 and IPv6, each sorted by address, with the number of their
//!   record; and the place of each record, in units of eight bytes.
//! - meta: a [`Meta`] as JSON.
//! - a footer of [`FOOTER`] bytes: seven counts, the length of the records, the crc32 of what is
//!   for a merge and that of tables and meta, [`MAGIC`].
//!
//! A file is written under another name, synced, and moved into place: it is whole or not there.

mod file;
mod writer;

pub use file::{Frames, OpenSet, RECORD_MAX, Stored, With};
pub use writer::{Encoded, Writer};

use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::intel::pull::Cursor;
use crate::intel::rejects::Rejects;

/// Ends every file; its last byte is the version of the layout.
const MAGIC: [u8; 8] = *b"NSENSET\x01";
/// Bytes of the footer.
const FOOTER: usize = 52;
/// Bytes of a record's head.
const HEAD: usize = 16;

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// What the feed was when it was pulled; indicators of another one are not its.
    pub origin: String,
    /// When it was pulled.
    pub pulled: Timestamp,
    /// Where the next pull goes on.
    pub cursor: Cursor,
    /// What of the pull was not used.
    pub rejects: Rejects,
}

/// What a merge must know of an id that is in the set already, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// XXH3 (128 bits) of the id.
    pub id: u128,
    /// Its version, by [`ticks`].
    pub version: i64,
    /// XXH3 (64 bits) of its group; 0 for none.
    pub group: u64,
    /// First of its records.
    pub first: u32,
    /// Its records, which stand together; 0 for an id that is gone.
    pub count: u32,
}

impl Identity {
    /// Bytes in the table.
    const BYTES: usize = 40;

    /// The numbers of its records.
    pub const fn records(&self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.count)
    }
}

/// What a merge must know of a record; times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// The crc32 of the indicator's bytes.
    pub crc: u32,
    /// When this version came.
    pub since: u32,
    /// When a pull last had it.
    pub pulled: u32,
    /// Its own expiry; 0 for none.
    pub expires: u32,
}

impl Fact {
    /// Bytes in the table.
    const BYTES: usize = 16;
}

/// A version as a number: units of 100 ns since 1970, the finest that any feed has. What has none
/// is older than all others.
pub fn ticks(version: Option<Timestamp>) -> i64 {
    let ticks = |time: Timestamp| i64::try_from(time.as_nanosecond() / 100).unwrap_or(i64::MAX);
    version.map_or(i64::MIN, ticks)
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not to be read.
    #[error("read it")]
    Read(#[from] io::Error),
    /// Cut, damaged, or of another version.
    #[error("it is damaged or of another version ({0})")]
    Damaged(&'static str),
}

/// Little-endian numbers of a table, one after the other.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }
}

/// Seconds since 1970, as records have them.
pub(crate) fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.as_second().max(0)).unwrap_or(u32::MAX)
}

/// The instant of [`seconds`].
pub(crate) fn instant(seconds: u32) -> Timestamp {
    Timestamp::from_second(i64::from(seconds)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
