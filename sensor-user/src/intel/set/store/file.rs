//! `OpenSet`: a file of indicators, opened: tables in memory, records read when they are hit.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;

use super::{FOOTER, Fact, HEAD, Identity, MAGIC, Meta, Numbers, StoreError, instant};
use crate::intel::indicator::Indicator;

/// Bytes of one record at most; a longer one is damaged.
pub const RECORD_MAX: usize = 16 << 20;
/// Most records are not longer, bytes.
const RECORD_USUAL: usize = 1 << 10;
/// Bytes that are read ahead where records follow each other.
const BLOCK: usize = 1 << 18;

/// How much of a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// What a lookup needs.
    Tables,
    /// And what a merge needs.
    Identities,
}

/// An open file; about 12 bytes of memory an IPv4 host.
#[derive(Debug)]
pub struct OpenSet {
    file: File,
    /// IPv4 hosts and the numbers of their records, sorted.
    pub hosts_v4: Vec<(u32, u32)>,
    /// IPv6 hosts and the numbers of their records, sorted.
    pub hosts_v6: Vec<(u128, u32)>,
    /// Networks of both, with the numbers of their records.
    pub networks: Vec<(IpNet, u32)>,
    /// Where each record is, in units of eight bytes.
    places: Vec<u32>,
    /// See [`With::Identities`].
    facts: Vec<Fact>,
    /// See [`With::Identities`]; sorted by id.
    pub identities: Vec<Identity>,
    /// What the file says of itself.
    pub meta: Meta,
}

/// A record as it is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// As it was written.
    pub indicator: Indicator,
    /// When this version came.
    pub since: Timestamp,
    /// When a pull last had it.
    pub pulled: Timestamp,
}

/// Counts and lengths of the parts.
struct Footer {
    hosts_v4: usize,
    hosts_v6: usize,
    networks_v4: usize,
    networks_v6: usize,
    places: usize,
    identities: usize,
    meta: usize,
    records: u64,
    identities_crc: u32,
    tables_crc: u32,
}

impl Footer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut numbers = Numbers(bytes);
        let mut count = || numbers.u32().map(|count| count as usize);
        Some(Self {
            hosts_v4: count()?,
            hosts_v6: count()?,
            networks_v4: count()?,
            networks_v6: count()?,
            places: count()?,
            identities: count()?,
            meta: count()?,
            records: numbers.u64()?,
            identities_crc: numbers.u32()?,
            tables_crc: numbers.u32()?,
        })
    }

    const fn tables(&self) -> usize {
        self.hosts_v4 * 8
            + self.hosts_v6 * 20
            + self.networks_v4 * 9
            + self.networks_v6 * 21
            + self.places * 4
    }

    const fn identities(&self) -> usize {
        self.places * Fact::BYTES + self.identities * Identity::BYTES
    }
}

impl OpenSet {
    /// Opens `path` and checks all but the records, which are checked when they are read.
    pub fn open(path: &Path, with: With) -> Result<Self, StoreError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut end = [0; FOOTER];
        let at = length.checked_sub(FOOTER as u64).ok_or(StoreError::Damaged("too short"))?;
        file.read_exact_at(&mut end, at)?;
        let (counts, magic) = end.split_at(FOOTER - MAGIC.len());
        if magic != MAGIC {
            return Err(StoreError::Damaged("cut or of another version"));
        }
        let footer = Footer::read(counts).ok_or(StoreError::Damaged("footer"))?;
        let parts = footer.identities() as u64 + footer.tables() as u64 + footer.meta as u64;
        if footer.records.checked_add(parts) != Some(at) {
            return Err(StoreError::Damaged("lengths"));
        }
        let part = |at: u64, length: usize| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at).map(|()| bytes)
        };
        let ids = match with {
            With::Tables => Vec::new(),
            With::Identities => {
                let ids = part(footer.records, footer.identities())?;
                if crc32fast::hash(&ids) != footer.identities_crc {
                    return Err(StoreError::Damaged("checksum of the identities"));
                }
                ids
            }
        };
        let start = footer.records + footer.identities() as u64;
        let tables = part(start, footer.tables() + footer.meta)?;
        if crc32fast::hash(&tables) != footer.tables_crc {
            return Err(StoreError::Damaged("checksum of the tables"));
        }
        let (tables, meta) = tables.split_at_checked(footer.tables()).unwrap_or_default();
        let meta =
            serde_json::from_slice(meta).map_err(|_unreadable| StoreError::Damaged("meta"))?;
        Self::parse(tables, &ids, &footer, (file, meta)).ok_or(StoreError::Damaged("tables"))
    }

    fn parse(
        tables: &[u8],
        ids: &[u8],
        footer: &Footer,
        (file, meta): (File, Meta),
    ) -> Option<Self> {
        let mut numbers = Numbers(tables);
        let hosts_v4 =
            (0..footer.hosts_v4).map(|_| Some((numbers.u32()?, numbers.u32()?))).collect();
        let hosts_v4: Option<Vec<_>> = hosts_v4;
        let hosts_v6: Option<Vec<_>> =
            (0..footer.hosts_v6).map(|_| Some((numbers.u128()?, numbers.u32()?))).collect();
        let mut networks = Vec::with_capacity(footer.networks_v4 + footer.networks_v6);
        for _ in 0..footer.networks_v4 {
            let net = Ipv4Net::new(numbers.u32()?.into(), numbers.u8()?).ok()?;
            networks.push((net.into(), numbers.u32()?));
        }
        for _ in 0..footer.networks_v6 {
            let net = Ipv6Net::new(numbers.u128()?.into(), numbers.u8()?).ok()?;
            networks.push((net.into(), numbers.u32()?));
        }
        let places: Option<Vec<_>> = (0..footer.places).map(|_| numbers.u32()).collect();
        let mut numbers = Numbers(ids);
        let identity = |numbers: &mut Numbers<'_>| {
            Some(Identity {
                id: numbers.u128()?,
                version: numbers.i64()?,
                group: numbers.u64()?,
                first: numbers.u32()?,
                count: numbers.u32()?,
            })
        };
        let facts: Option<Vec<_>> = match ids.len() {
            0 => Some(Vec::new()),
            _ => (0..footer.places).map(|_| fact(&mut numbers)).collect(),
        };
        let facts = facts?;
        let identities: Vec<_> = std::iter::from_fn(|| identity(&mut numbers)).collect();
        if !have_their_records(&identities, footer.places) {
            return None;
        }
        let (hosts_v4, hosts_v6, places) = (hosts_v4?, hosts_v6?, places?);
        Some(Self { file, hosts_v4, hosts_v6, networks, places, facts, identities, meta })
    }

    /// Number of indicators.
    pub const fn len(&self) -> usize {
        self.hosts_v4.len() + self.hosts_v6.len() + self.networks.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every prefix with the number of its record.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpNet, u32)> {
        let v4 = self
            .hosts_v4
            .iter()
            .map(|(host, number)| (Ipv4Net::from(std::net::Ipv4Addr::from(*host)).into(), *number));
        let v6 = self
            .hosts_v6
            .iter()
            .map(|(host, number)| (Ipv6Net::from(std::net::Ipv6Addr::from(*host)).into(), *number));
        v4.chain(v6).chain(self.networks.iter().copied())
    }

    /// The prefix of each record by its number; `None` for records that do not count.
    pub fn prefixes_by_number(&self) -> Vec<Option<IpNet>> {
        let mut all = vec![None; self.places.len()];
        for (prefix, number) in self.prefixes() {
            if let Some(at) = all.get_mut(number as usize) {
                *at = Some(prefix);
            }
        }
        all
    }

    /// Reads records one by one; quick where they follow each other.
    pub fn frames(&self) -> Frames<'_> {
        Frames { set: self, start: 0, block: Vec::new() }
    }

    /// Reads record `number`.
    pub fn record(&self, number: u32) -> io::Result<Stored> {
        let mut frames = Frames { set: self, start: 0, block: Vec::new() };
        let frame = frames.read(number, RECORD_USUAL)?;
        let (head, bytes) = frame.split_at_checked(HEAD).unwrap_or_default();
        let mut head = Numbers(head.split_at_checked(8).unwrap_or_default().1);
        let (since, pulled) = (head.u32().unwrap_or(0), head.u32().unwrap_or(0));
        let indicator = postcard::from_bytes(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Stored { indicator, since: instant(since), pulled: instant(pulled) })
    }

    /// What a merge must know of record `number`; see [`With::Identities`].
    pub fn fact(&self, number: u32) -> Option<Fact> {
        self.facts.get(number as usize).copied()
    }

    /// The identity of `id`; see [`With::Identities`].
    pub fn identity(&self, id: u128) -> Option<Identity> {
        let at = self.identities.binary_search_by_key(&id, |identity| identity.id).ok()?;
        self.identities.get(at).copied()
    }
}

/// Reads records through a block of the file.
#[derive(Debug)]
pub struct Frames<'set> {
    set: &'set OpenSet,
    /// Where in the file the block begins.
    start: u64,
    block: Vec<u8>,
}

impl Frames<'_> {
    /// Record `number`, head and bytes.
    pub fn get(&mut self, number: u32) -> io::Result<&[u8]> {
        self.read(number, BLOCK)
    }

    fn read(&mut self, number: u32, ahead: usize) -> io::Result<&[u8]> {
        let place = self.set.places.get(number as usize).ok_or_else(|| damaged("its place"))?;
        let at = u64::from(*place) * 8;
        let mut head = Numbers(self.part(at, HEAD, ahead)?);
        let (crc, length) = (head.u32().unwrap_or(0), head.u32().unwrap_or(0) as usize);
        if length > RECORD_MAX {
            return Err(damaged("its length"));
        }
        let frame = self.part(at, HEAD + length, ahead)?;
        let (_, bytes) = frame.split_at_checked(HEAD).unwrap_or_default();
        if crc32fast::hash(bytes) == crc { Ok(frame) } else { Err(damaged("its checksum")) }
    }

    /// `length` bytes from `at` on; where they are not at hand, up to `ahead` bytes are read.
    fn part(&mut self, at: u64, length: usize, ahead: usize) -> io::Result<&[u8]> {
        let offset = at.checked_sub(self.start).and_then(|offset| usize::try_from(offset).ok());
        let have = offset.is_some_and(|offset| offset + length <= self.block.len());
        let offset = if have { offset.unwrap_or(0) } else { 0 };
        if !have {
            self.start = at;
            self.block.resize(length.max(ahead), 0);
            let mut filled = 0;
            while filled < self.block.len() {
                let rest = self.block.get_mut(filled..).unwrap_or_default();
                match self.set.file.read_at(rest, at + filled as u64)? {
                    0 => break,
                    count => filled += count,
                }
            }
            self.block.truncate(filled);
        }
        self.block.get(offset..offset + length).ok_or_else(|| damaged("its end"))
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the record is damaged: {what}"))
}

/// Whether the records of all are among `places`, and none of them can be that of two: or a merge
/// would go on forever.
fn have_their_records(identities: &[Identity], places: usize) -> bool {
    let mut left = places;
    identities.iter().all(|it| {
        let end = u64::from(it.first) + u64::from(it.count);
        left.checked_sub(it.count as usize).is_some_and(|rest| {
            left = rest;
            end <= places as u64
        })
    })
}

fn fact(numbers: &mut Numbers<'_>) -> Option<Fact> {
    Some(Fact {
        crc: numbers.u32()?,
        since: numbers.u32()?,
        pulled: numbers.u32()?,
        expires: numbers.u32()?,
    })
}
