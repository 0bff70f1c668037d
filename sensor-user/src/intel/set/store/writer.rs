//! `SetWriter`: writes a set file, record by record, in one pass over the disk.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};

use crc32fast::Hasher;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{HEAD, MAGIC, SetMeta, StoredFact, StoredIdentity};
use crate::intel::indicator::Indicator;

/// Writer of a set file: records as they arrive; tables, meta and footer at the end.
#[derive(Debug)]
pub struct SetWriter {
    out: BufWriter<File>,
    /// Bytes of written records.
    length: u64,
    /// Offset of each record, in units of eight bytes.
    offsets: Vec<u32>,
    facts: Vec<StoredFact>,
    hosts_v4: Vec<(u32, u32)>,
    hosts_v6: Vec<(u128, u32)>,
    nets_v4: Vec<(Ipv4Net, u32)>,
    nets_v6: Vec<(Ipv6Net, u32)>,
}

/// Indicator in the form of its record.
#[derive(Debug, Clone, Default)]
pub struct EncodedIndicator {
    bytes: Vec<u8>,
    crc: u32,
}

impl EncodedIndicator {
    /// Encodes `indicator`, which replaces the earlier one in the same memory.
    pub fn encode(&mut self, indicator: &Indicator) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.bytes = postcard::to_extend(indicator, bytes).map_err(io::Error::other)?;
        self.crc = crc32fast::hash(&self.bytes);
        Ok(())
    }

    /// Number of bytes.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if nothing was encoded yet.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// CRC-32 of the bytes.
    pub const fn crc(&self) -> u32 {
        self.crc
    }
}

impl SetWriter {
    /// Writer to an empty `file`.
    pub fn new(file: File) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 18, file),
            length: 0,
            offsets: Vec::new(),
            facts: Vec::new(),
            hosts_v4: Vec::new(),
            hosts_v6: Vec::new(),
            nets_v4: Vec::new(),
            nets_v6: Vec::new(),
        }
    }

    /// Number of the next record.
    pub fn next_number(&self) -> u32 {
        u32::try_from(self.offsets.len()).unwrap_or(u32::MAX)
    }

    /// Appends a record of `prefix`.
    pub fn append(
        &mut self,
        prefix: IpNet,
        encoded: &EncodedIndicator,
        fact: StoredFact,
    ) -> io::Result<()> {
        let mut head = [0; HEAD];
        let length = u32::try_from(encoded.bytes.len()).map_err(io::Error::other)?;
        let numbers = [fact.crc, length, fact.since, fact.pulled];
        for (to, from) in head.chunks_exact_mut(4).zip(numbers) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        self.out.write_all(&head)?;
        self.out.write_all(&encoded.bytes)?;
        self.appended(prefix, fact, HEAD + encoded.bytes.len())
    }

    /// Appends a record of an earlier file, head and bytes, without a change.
    pub fn append_copy(
        &mut self,
        prefix: IpNet,
        fact: StoredFact,
        record: &[u8],
    ) -> io::Result<()> {
        self.out.write_all(record)?;
        self.appended(prefix, fact, record.len())
    }

    fn appended(&mut self, prefix: IpNet, fact: StoredFact, length: usize) -> io::Result<()> {
        let number = self.next_number();
        if number == u32::MAX {
            return Err(io::Error::other("too many indicators in one feed"));
        }
        let padded = length.next_multiple_of(8);
        self.out.write_all([0; 8].split_at_checked(padded - length).unwrap_or_default().0)?;
        self.offsets.push(u32::try_from(self.length / 8).map_err(io::Error::other)?);
        self.facts.push(fact);
        self.length += padded as u64;
        match (prefix, prefix.prefix_len() == prefix.max_prefix_len()) {
            (IpNet::V4(host), true) => self.hosts_v4.push((host.addr().into(), number)),
            (IpNet::V6(host), true) => self.hosts_v6.push((host.addr().into(), number)),
            (IpNet::V4(net), false) => self.nets_v4.push((net, number)),
            (IpNet::V6(net), false) => self.nets_v6.push((net, number)),
        }
        Ok(())
    }

    /// Writes the other parts and syncs the file. The tables have only the records for which `kept` is
    /// true; `identities` are sorted by id. Returns the number of indicators.
    pub fn finish(
        mut self,
        kept: &[bool],
        identities: impl ExactSizeIterator<Item = StoredIdentity>,
        meta: &SetMeta,
    ) -> io::Result<u32> {
        let meta = serde_json::to_vec(meta)?;
        let is_kept = |number: u32| kept.get(number as usize).is_some_and(|kept| *kept);
        keep_sorted(&mut self.hosts_v4, is_kept);
        keep_sorted(&mut self.hosts_v6, is_kept);
        keep_sorted(&mut self.nets_v4, is_kept);
        keep_sorted(&mut self.nets_v6, is_kept);
        let counts = [
            self.hosts_v4.len(),
            self.hosts_v6.len(),
            self.nets_v4.len(),
            self.nets_v6.len(),
            self.offsets.len(),
            identities.len(),
            meta.len(),
        ];
        let mut part = ChecksummedPart::new(&mut self.out);
        for fact in &self.facts {
            for number in [fact.crc, fact.since, fact.pulled, fact.expires] {
                part.put(&number.to_le_bytes())?;
            }
        }
        for identity in identities {
            part.put(&identity.id.to_le_bytes())?;
            part.put(&identity.version.to_le_bytes())?;
            part.put(&identity.group.to_le_bytes())?;
            part.put(&identity.first.to_le_bytes())?;
            part.put(&identity.count.to_le_bytes())?;
        }
        let merge = part.crc()?;
        let mut part = ChecksummedPart::new(&mut self.out);
        for (host, number) in &self.hosts_v4 {
            part.put(&host.to_le_bytes())?;
            part.put(&number.to_le_bytes())?;
        }
        for (host, number) in &self.hosts_v6 {
            part.put(&host.to_le_bytes())?;
            part.put(&number.to_le_bytes())?;
        }
        for (net, number) in &self.nets_v4 {
            part.put(&u32::from(net.network()).to_le_bytes())?;
            part.put(&[net.prefix_len()])?;
            part.put(&number.to_le_bytes())?;
        }
        for (net, number) in &self.nets_v6 {
            part.put(&u128::from(net.network()).to_le_bytes())?;
            part.put(&[net.prefix_len()])?;
            part.put(&number.to_le_bytes())?;
        }
        for offset in &self.offsets {
            part.put(&offset.to_le_bytes())?;
        }
        part.put(&meta)?;
        let tables = part.crc()?;
        self.write_footer(&counts, [merge, tables])
    }

    fn write_footer(mut self, counts: &[usize], crcs: [u32; 2]) -> io::Result<u32> {
        for count in counts {
            let count = u32::try_from(*count).map_err(io::Error::other)?;
            self.out.write_all(&count.to_le_bytes())?;
        }
        self.out.write_all(&u64::to_le_bytes(self.length))?;
        for crc in crcs {
            self.out.write_all(&crc.to_le_bytes())?;
        }
        self.out.write_all(&MAGIC)?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let indicators: usize = counts.iter().take(4).sum();
        u32::try_from(indicators).map_err(io::Error::other)
    }
}

fn keep_sorted<K: Ord>(table: &mut Vec<(K, u32)>, is_kept: impl Fn(u32) -> bool) {
    table.retain(|(_, number)| is_kept(*number));
    table.sort_unstable();
}

/// Part of the file with a checksum.
struct ChecksummedPart<'out> {
    out: &'out mut BufWriter<File>,
    crc: Hasher,
    /// Checksums of larger pieces are faster than those of single numbers.
    piece: Vec<u8>,
}

impl<'out> ChecksummedPart<'out> {
    const PIECE: usize = 1 << 14;

    fn new(out: &'out mut BufWriter<File>) -> Self {
        Self { out, crc: Hasher::new(), piece: Vec::with_capacity(Self::PIECE + 64) }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= Self::PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.crc.update(&self.piece);
        self.out.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    fn crc(mut self) -> io::Result<u32> {
        self.flush()?;
        Ok(self.crc.finalize())
    }
}
