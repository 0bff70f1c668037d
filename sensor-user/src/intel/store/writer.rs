//! `Writer`: makes a file of indicators, record by record, with one pass over the disk.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::net::IpAddr;

use ipnet::IpNet;

use super::file::OpenSet;
use super::{Fact, HEAD, Identity, MAGIC, Meta};
use crate::intel::Indicator;

/// Writes records as they come; tables, meta and footer at the end.
#[derive(Debug)]
pub struct Writer {
    out: BufWriter<File>,
    /// Bytes written.
    length: u64,
    /// Prefix and place of each record.
    records: Vec<(IpNet, u32)>,
    facts: Vec<Fact>,
    scratch: Vec<u8>,
}

/// An indicator as its record holds it.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    crc: u32,
}

impl Encoded {
    /// Encodes into the room of an earlier one.
    pub fn encode(&mut self, indicator: &Indicator) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.bytes = postcard::to_extend(indicator, bytes).map_err(io::Error::other)?;
        self.crc = crc32fast::hash(&self.bytes);
        Ok(())
    }

    /// The crc32 of its bytes.
    pub const fn crc(&self) -> u32 {
        self.crc
    }
}

impl Writer {
    /// Begins with an empty `file`.
    pub fn new(file: File) -> Self {
        let out = BufWriter::with_capacity(1 << 18, file);
        Self { out, length: 0, records: Vec::new(), facts: Vec::new(), scratch: Vec::new() }
    }

    /// Number of the next record.
    pub fn next(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// Adds a record of `prefix`; gives its number.
    pub fn add(&mut self, prefix: IpNet, encoded: &Encoded, fact: Fact) -> io::Result<u32> {
        let mut head = [0; HEAD];
        let length = u32::try_from(encoded.bytes.len()).map_err(io::Error::other)?;
        let numbers = [fact.crc, length, fact.since, fact.pulled];
        for (to, from) in head.chunks_exact_mut(4).zip(numbers) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        self.frame(prefix, fact, (&head, &encoded.bytes))
    }

    /// Adds record `number` of an earlier file as it is; gives its new number.
    pub fn copy(&mut self, from: &OpenSet, number: u32, prefix: IpNet) -> io::Result<u32> {
        let fact = from.fact(number).ok_or(io::ErrorKind::InvalidData)?;
        let mut frame = std::mem::take(&mut self.scratch);
        let read = from.frame(number, &mut frame);
        let added = read.and_then(|()| {
            let (head, bytes) = frame.split_at_checked(HEAD).unwrap_or_default();
            self.frame(prefix, fact, (head, bytes))
        });
        self.scratch = frame;
        added
    }

    fn frame(
        &mut self,
        prefix: IpNet,
        fact: Fact,
        (head, bytes): (&[u8], &[u8]),
    ) -> io::Result<u32> {
        let number = self.next();
        let place = u32::try_from(self.length / 8).map_err(io::Error::other)?;
        if number == u32::MAX {
            return Err(io::Error::other("too many indicators in one feed"));
        }
        self.out.write_all(head)?;
        self.out.write_all(bytes)?;
        let used = head.len() + bytes.len();
        let padded = used.next_multiple_of(8);
        self.out.write_all([0; 8].split_at_checked(padded - used).unwrap_or_default().0)?;
        self.length += padded as u64;
        self.records.push((prefix, place));
        self.facts.push(fact);
        Ok(number)
    }

    /// Writes the rest for the records that `kept` names, which alone count, and syncs the file.
    /// `identities` are sorted by id. Gives how many indicators are in it.
    pub fn finish(
        mut self,
        kept: &[bool],
        identities: &[Identity],
        meta: &Meta,
    ) -> io::Result<u32> {
        let meta = serde_json::to_vec(meta)?;
        let Tables { hosts, networks, places } = self.tables(kept);
        let (facts, names) = (self.facts.len(), identities.len());
        let mut ids = Vec::with_capacity(facts * Fact::BYTES + names * Identity::BYTES);
        for fact in std::mem::take(&mut self.facts) {
            for number in [fact.crc, fact.since, fact.pulled, fact.expires] {
                ids.extend_from_slice(&number.to_le_bytes());
            }
        }
        for identity in identities {
            ids.extend_from_slice(&identity.id.to_le_bytes());
            ids.extend_from_slice(&identity.version.to_le_bytes());
            ids.extend_from_slice(&identity.group.to_le_bytes());
            ids.extend_from_slice(&identity.first.to_le_bytes());
            ids.extend_from_slice(&identity.count.to_le_bytes());
        }
        let mut tables = Vec::new();
        for (address, number) in hosts.0.iter().chain(&hosts.1) {
            put_address(&mut tables, *address);
            tables.extend_from_slice(&number.to_le_bytes());
        }
        for (prefix, number) in networks.0.iter().chain(&networks.1) {
            put_address(&mut tables, prefix.network());
            tables.push(prefix.prefix_len());
            tables.extend_from_slice(&number.to_le_bytes());
        }
        for place in &places {
            tables.extend_from_slice(&place.to_le_bytes());
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&tables);
        crc.update(&meta);
        let counts = [
            hosts.0.len(),
            hosts.1.len(),
            networks.0.len(),
            networks.1.len(),
            places.len(),
            identities.len(),
            meta.len(),
        ];
        let live = hosts.0.len() + hosts.1.len() + networks.0.len() + networks.1.len();
        self.out.write_all(&ids)?;
        self.out.write_all(&tables)?;
        self.out.write_all(&meta)?;
        for count in counts {
            let count = u32::try_from(count).map_err(io::Error::other)?;
            self.out.write_all(&count.to_le_bytes())?;
        }
        self.out.write_all(&u64::to_le_bytes(self.length))?;
        self.out.write_all(&crc32fast::hash(&ids).to_le_bytes())?;
        self.out.write_all(&crc.finalize().to_le_bytes())?;
        self.out.write_all(&MAGIC)?;
        let mut file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.flush()?;
        file.sync_all()?;
        u32::try_from(live).map_err(io::Error::other)
    }

    fn tables(&mut self, kept: &[bool]) -> Tables {
        let mut tables = Tables::default();
        let records = std::mem::take(&mut self.records);
        for ((number, (prefix, place)), kept) in (0_u32..).zip(records).zip(kept) {
            tables.places.push(place);
            if !kept {
                continue;
            }
            let is_v4 = prefix.addr().is_ipv4();
            if prefix.prefix_len() == prefix.max_prefix_len() {
                let hosts = if is_v4 { &mut tables.hosts.0 } else { &mut tables.hosts.1 };
                hosts.push((prefix.addr(), number));
            } else {
                let networks = if is_v4 { &mut tables.networks.0 } else { &mut tables.networks.1 };
                networks.push((prefix, number));
            }
        }
        tables.hosts.0.sort_unstable();
        tables.hosts.1.sort_unstable();
        tables.networks.0.sort_unstable();
        tables.networks.1.sort_unstable();
        tables
    }
}

/// Of IPv4 and of IPv6.
#[derive(Debug, Default)]
struct Tables {
    hosts: (Vec<(IpAddr, u32)>, Vec<(IpAddr, u32)>),
    networks: (Vec<(IpNet, u32)>, Vec<(IpNet, u32)>),
    places: Vec<u32>,
}

fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => out.extend_from_slice(&u32::from(v4).to_le_bytes()),
        IpAddr::V6(v6) => out.extend_from_slice(&u128::from(v6).to_le_bytes()),
    }
}
