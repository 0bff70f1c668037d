//! `SetFile`: an open set file. Tables are in memory; records are read when they are hit.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;

use super::{FOOTER, HEAD, MAGIC, SetFileError, SetMeta, StoredFact, StoredIdentity, instant};
use crate::base::framing::{self, LittleEndian};
use crate::base::regular_file;
use crate::intel::indicator::Indicator;

/// Bytes of the longest record; a longer one is damaged.
pub const RECORD_MAX: usize = 16 << 20;
/// Bytes that are read for a single record; most are shorter.
const RECORD_USUAL: usize = 1 << 10;
/// Bytes that are read at once for consecutive records.
const BLOCK: usize = 1 << 18;

/// Parts of a file to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetParts {
    /// The tables, for lookups.
    Lookup,
    /// The tables, facts and identities, for a merge.
    Merge,
}

/// Open file; takes about 12 bytes of memory per IPv4 host.
#[derive(Debug)]
pub struct SetFile {
    file: File,
    /// IPv4 hosts and the numbers of their records, sorted.
    pub hosts_v4: Vec<(u32, u32)>,
    /// IPv6 hosts and the numbers of their records, sorted.
    pub hosts_v6: Vec<(u128, u32)>,
    /// Networks of both families with the numbers of their records.
    pub networks: Vec<(IpNet, u32)>,
    /// Offset of each record, in units of eight bytes.
    offsets: Vec<u32>,
    /// See [`SetParts::Merge`].
    facts: Vec<StoredFact>,
    /// See [`SetParts::Merge`]; sorted by id.
    pub identities: Vec<StoredIdentity>,
    /// Metadata of the file.
    pub meta: SetMeta,
}

/// Record of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredIndicator {
    /// Indicator as it was written.
    pub indicator: Indicator,
    /// Time of this version.
    pub since: Timestamp,
    /// Time of the last pull with it.
    pub pulled: Timestamp,
}

/// Counts and lengths of the parts.
struct SetFooter {
    hosts_v4: usize,
    hosts_v6: usize,
    networks_v4: usize,
    networks_v6: usize,
    offsets: usize,
    identities: usize,
    meta: usize,
    records: u64,
    merge_crc: u32,
    tables_crc: u32,
}

impl SetFooter {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut numbers = LittleEndian(bytes);
        let mut count = || numbers.u32().map(|count| count as usize);
        Some(Self {
            hosts_v4: count()?,
            hosts_v6: count()?,
            networks_v4: count()?,
            networks_v6: count()?,
            offsets: count()?,
            identities: count()?,
            meta: count()?,
            records: numbers.u64()?,
            merge_crc: numbers.u32()?,
            tables_crc: numbers.u32()?,
        })
    }

    const fn tables_len(&self) -> usize {
        self.hosts_v4 * 8
            + self.hosts_v6 * 20
            + self.networks_v4 * 9
            + self.networks_v6 * 21
            + self.offsets * 4
    }

    const fn merge_len(&self) -> usize {
        self.offsets * StoredFact::BYTES + self.identities * StoredIdentity::BYTES
    }
}

impl SetFile {
    /// Opens `path` and checks all parts that are loaded. Records are checked when they are read.
    pub fn open(path: &Path, parts: SetParts) -> Result<Self, SetFileError> {
        let file = regular_file::open(path)?;
        let length = file.metadata()?.len();
        let damaged = SetFileError::Damaged;
        let at = length.checked_sub(FOOTER as u64).ok_or_else(|| damaged("too short"))?;
        let footer = framing::read_at(&file, at, FOOTER)?;
        let counts =
            footer.strip_suffix(&MAGIC).ok_or_else(|| damaged("cut or of another version"))?;
        let footer = SetFooter::parse(counts).ok_or_else(|| damaged("footer"))?;
        let (merge_len, tables_len) = (footer.merge_len(), footer.tables_len());
        let sum = merge_len as u64 + tables_len as u64 + footer.meta as u64;
        if footer.records.checked_add(sum) != Some(at) {
            return Err(damaged("lengths"));
        }
        let checked_part = |at: u64, length: usize, crc: u32, error: &'static str| {
            let bytes = framing::read_at(&file, at, length)?;
            let is_whole = bytes.len() == length && crc32fast::hash(&bytes) == crc;
            if is_whole { Ok(bytes) } else { Err(damaged(error)) }
        };
        let merge = match parts {
            SetParts::Lookup => Vec::new(),
            SetParts::Merge => {
                let error = "checksum of the identities";
                checked_part(footer.records, merge_len, footer.merge_crc, error)?
            }
        };
        let start = footer.records + merge_len as u64;
        let length = tables_len + footer.meta;
        let tables = checked_part(start, length, footer.tables_crc, "checksum of the tables")?;
        let (tables, meta) = tables.split_at_checked(tables_len).unwrap_or_default();
        let meta = serde_json::from_slice(meta).map_err(|_invalid| damaged("meta"))?;
        Self::parse(file, meta, &footer, tables, &merge).ok_or_else(|| damaged("tables"))
    }

    fn parse(
        file: File,
        meta: SetMeta,
        footer: &SetFooter,
        tables: &[u8],
        merge: &[u8],
    ) -> Option<Self> {
        let mut numbers = LittleEndian(tables);
        let hosts_v4 = (0..footer.hosts_v4).map(|_| Some((numbers.u32()?, numbers.u32()?)));
        let hosts_v4 = hosts_v4.collect::<Option<Vec<_>>>()?;
        let hosts_v6 = (0..footer.hosts_v6).map(|_| Some((numbers.u128()?, numbers.u32()?)));
        let hosts_v6 = hosts_v6.collect::<Option<Vec<_>>>()?;
        let mut networks = Vec::with_capacity(footer.networks_v4 + footer.networks_v6);
        for _ in 0..footer.networks_v4 {
            let net = Ipv4Net::new(numbers.u32()?.into(), numbers.u8()?).ok()?;
            networks.push((net.into(), numbers.u32()?));
        }
        for _ in 0..footer.networks_v6 {
            let net = Ipv6Net::new(numbers.u128()?.into(), numbers.u8()?).ok()?;
            networks.push((net.into(), numbers.u32()?));
        }
        let offsets = (0..footer.offsets).map(|_| numbers.u32()).collect::<Option<Vec<_>>>()?;
        let (facts, identities) =
            merge.split_at_checked(footer.offsets * StoredFact::BYTES).unwrap_or_default();
        let facts = facts.chunks_exact(StoredFact::BYTES);
        let facts = facts.map(StoredFact::parse).collect::<Option<Vec<_>>>()?;
        let identities = identities.chunks_exact(StoredIdentity::BYTES);
        let identities = identities.map(StoredIdentity::parse).collect::<Option<Vec<_>>>()?;
        if !have_own_records(&identities, footer.offsets) {
            return None;
        }
        Some(Self { file, hosts_v4, hosts_v6, networks, offsets, facts, identities, meta })
    }

    /// Number of indicators.
    pub const fn len(&self) -> usize {
        self.hosts_v4.len() + self.hosts_v6.len() + self.networks.len()
    }

    /// True if the file has no indicators.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each prefix with the number of its record.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpNet, u32)> {
        let hosts_v4 = self.hosts_v4.iter();
        let v4 = hosts_v4.map(|(host, it)| (Ipv4Net::from(Ipv4Addr::from(*host)).into(), *it));
        let hosts_v6 = self.hosts_v6.iter();
        let v6 = hosts_v6.map(|(host, it)| (Ipv6Net::from(Ipv6Addr::from(*host)).into(), *it));
        v4.chain(v6).chain(self.networks.iter().copied())
    }

    /// Prefix of each record by its number; `None` for records that a newer version replaced.
    pub fn prefixes_by_number(&self) -> Vec<Option<IpNet>> {
        let mut all = vec![None; self.offsets.len()];
        for (prefix, number) in self.prefixes() {
            if let Some(at) = all.get_mut(number as usize) {
                *at = Some(prefix);
            }
        }
        all
    }

    /// Reader for several records; fast for consecutive ones.
    pub const fn record_reader(&self) -> RecordReader<'_> {
        RecordReader { set: self, start: 0, block: Vec::new() }
    }

    /// Reads record `number`.
    pub fn read_record(&self, number: u32) -> io::Result<StoredIndicator> {
        let mut reader = self.record_reader();
        let record = reader.read_ahead(number, RECORD_USUAL)?;
        let (head, bytes) = record.split_at_checked(HEAD).unwrap_or_default();
        let mut times = LittleEndian(head.get(8..).unwrap_or_default());
        let mut time = || instant(times.u32().unwrap_or(0));
        let (since, pulled) = (time(), time());
        let indicator = postcard::from_bytes(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(StoredIndicator { indicator, since, pulled })
    }

    /// Fact of record `number`; see [`SetParts::Merge`].
    pub fn fact(&self, number: u32) -> Option<StoredFact> {
        self.facts.get(number as usize).copied()
    }

    /// Identity of `id`; see [`SetParts::Merge`].
    pub fn identity(&self, id: u128) -> Option<StoredIdentity> {
        let at = self.identities.binary_search_by_key(&id, |identity| identity.id).ok()?;
        self.identities.get(at).copied()
    }
}

/// Reader of records, with a block of the file as its buffer.
#[derive(Debug)]
pub struct RecordReader<'set> {
    set: &'set SetFile,
    /// Offset of the block in the file.
    start: u64,
    block: Vec<u8>,
}

impl RecordReader<'_> {
    /// Returns head and bytes of record `number`.
    pub fn read(&mut self, number: u32) -> io::Result<&[u8]> {
        self.read_ahead(number, BLOCK)
    }

    fn read_ahead(&mut self, number: u32, ahead: usize) -> io::Result<&[u8]> {
        let offset = self.set.offsets.get(number as usize).ok_or_else(|| damaged("its offset"))?;
        let at = u64::from(*offset) * 8;
        let mut head = LittleEndian(self.part(at, HEAD, ahead)?);
        let (crc, length) = (head.u32().unwrap_or(0), head.u32().unwrap_or(0) as usize);
        if length > RECORD_MAX {
            return Err(damaged("its length"));
        }
        let record = self.part(at, HEAD + length, ahead)?;
        let (_, bytes) = record.split_at_checked(HEAD).unwrap_or_default();
        if crc32fast::hash(bytes) == crc { Ok(record) } else { Err(damaged("its checksum")) }
    }

    /// Returns `length` bytes at the offset `at`; reads up to `ahead` bytes if they are not buffered.
    fn part(&mut self, at: u64, length: usize, ahead: usize) -> io::Result<&[u8]> {
        let offset = at.checked_sub(self.start).and_then(|offset| usize::try_from(offset).ok());
        let mut offset = offset.unwrap_or(usize::MAX);
        if offset.saturating_add(length) > self.block.len() {
            (self.start, offset) = (at, 0);
            self.block = framing::read_at(&self.set.file, at, length.max(ahead))?;
        }
        self.block.get(offset..offset + length).ok_or_else(|| damaged("its end"))
    }
}

fn damaged(part: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the record is damaged: {part}"))
}

/// True if all records of the identities exist, and none can belong to two; otherwise a merge would
/// not end.
fn have_own_records(identities: &[StoredIdentity], records: usize) -> bool {
    let mut left = records;
    identities.iter().all(|it| {
        let end = u64::from(it.first) + u64::from(it.count);
        left.checked_sub(it.count as usize).is_some_and(|rest| {
            left = rest;
            end <= records as u64
        })
    })
}
