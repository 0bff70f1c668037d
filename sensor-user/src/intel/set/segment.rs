//! `FeedSegment`: lookup in the indicators of one feed.
//!
//! Hosts are sorted arrays, networks are in a prefix trie. The record of an indicator is read from the
//! feed's file (or from memory) at a hit, and the latest hits are cached. Thus a million indicators take a few bytes
//! each, and a hit costs one read from the page cache.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::{SignedDuration, Timestamp};
use prefix_trie::PrefixMap;

use super::memory_records::MemoryRecords;
use super::store::{SetFile, StoredIndicator};
use super::ttl::Ttl;
use crate::base::collections;
use crate::base::collections::Table;
use crate::intel::indicator::Indicator;

/// Maximum number of cached records per segment.
const CACHED: usize = 512;

/// Indicators of one feed.
#[derive(Debug)]
pub struct FeedSegment {
    tables: LookupTables,
    records: SegmentRecords,
    cache: Mutex<Table<u32, Arc<Indicator>>>,
}

/// Record numbers by prefix. Numbers of equal prefixes are adjacent.
#[derive(Debug, Default)]
struct LookupTables {
    hosts_v4: Vec<(u32, u32)>,
    hosts_v6: Vec<(u128, u32)>,
    /// Range in `networks`.
    nets_v4: PrefixMap<Ipv4Net, Range<u32>>,
    nets_v6: PrefixMap<Ipv6Net, Range<u32>>,
    networks: Vec<u32>,
}

#[derive(Debug)]
enum SegmentRecords {
    Memory(MemoryRecords),
    File(Box<FileRecords>),
}

#[derive(Debug)]
struct FileRecords {
    set: SetFile,
    feed: Arc<str>,
    validity: Validity,
}

/// Settings of a feed that limit the validity of its indicators.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// Validity of indicators without an expiry.
    pub ttl: Ttl,
    /// Validity of table rows after their creation.
    pub rows_for: Option<SignedDuration>,
    /// True if ids are those of a list, which are unique only with the feed's name before them.
    pub is_list: bool,
}

impl FeedSegment {
    /// Segment of records in memory, each with its prefix.
    pub(super) fn in_memory(
        prefixes: impl Iterator<Item = (IpNet, u32)>,
        records: MemoryRecords,
    ) -> Self {
        Self::new(LookupTables::from_prefixes(prefixes), SegmentRecords::Memory(records))
    }

    fn new(tables: LookupTables, records: SegmentRecords) -> Self {
        Self { tables, records, cache: Mutex::new(collections::table(CACHED)) }
    }

    /// Segment of a feed's file, whose tables it takes.
    pub fn open(mut set: SetFile, feed: Arc<str>, validity: Validity) -> Self {
        let networks = std::mem::take(&mut set.networks);
        let mut tables = LookupTables::from_prefixes(networks.into_iter());
        tables.hosts_v4 = std::mem::take(&mut set.hosts_v4);
        tables.hosts_v6 = std::mem::take(&mut set.hosts_v6);
        Self::new(tables, SegmentRecords::File(Box::new(FileRecords { set, feed, validity })))
    }

    /// Number of indicators.
    pub const fn len(&self) -> usize {
        self.tables.hosts_v4.len() + self.tables.hosts_v6.len() + self.tables.networks.len()
    }

    /// True if the segment has no indicators.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of hosts, and of networks.
    pub const fn sizes(&self) -> (usize, usize) {
        let hosts = self.tables.hosts_v4.len() + self.tables.hosts_v6.len();
        (hosts, self.tables.networks.len())
    }

    /// All IPv4 hosts, and all IPv4 networks.
    pub fn v4_prefixes(&self) -> (impl Iterator<Item = Ipv4Addr>, impl Iterator<Item = Ipv4Net>) {
        let hosts = self.tables.hosts_v4.iter().map(|(host, _)| Ipv4Addr::from(*host));
        (hosts, self.tables.nets_v4.iter().map(|(net, _)| net))
    }

    /// Numbers of the records whose prefix contains `address`, shortest first.
    pub fn covering_v4(&self, address: Ipv4Addr) -> impl Iterator<Item = (u32, IpNet)> {
        let host = Ipv4Net::from(address);
        let nets = self.tables.nets_v4.cover(&host).flat_map(|(net, range)| {
            self.tables.numbers(range).map(move |number| (number, IpNet::V4(net)))
        });
        let hosts = values_of(&self.tables.hosts_v4, u32::from(address));
        nets.chain(hosts.map(move |number| (number, IpNet::V4(host))))
    }

    /// Numbers of the records whose IPv6 prefix contains `address`, shortest first.
    pub fn covering_v6(&self, address: Ipv6Addr) -> impl Iterator<Item = (u32, IpNet)> {
        let host = Ipv6Net::from(address);
        let nets = self.tables.nets_v6.cover(&host).flat_map(|(net, range)| {
            self.tables.numbers(range).map(move |number| (number, IpNet::V6(net)))
        });
        let hosts = values_of(&self.tables.hosts_v6, u128::from(address));
        nets.chain(hosts.map(move |number| (number, IpNet::V6(host))))
    }

    /// Numbers of the records whose prefix contains `address`, which is canonical.
    pub fn covering(&self, address: IpAddr) -> Vec<(u32, IpNet)> {
        match address {
            IpAddr::V4(v4) => self.covering_v4(v4).collect(),
            IpAddr::V6(v6) => self.covering_v6(v6).collect(),
        }
    }

    /// Indicator of record `number` with `prefix`. If the record is unreadable, the indicator has the
    /// prefix alone, so that it still matches.
    pub fn indicator(&self, number: u32, prefix: IpNet) -> Option<Arc<Indicator>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cache.get(&number) {
            return Some(Arc::clone(known));
        }
        let indicator = match &self.records {
            SegmentRecords::Memory(records) => records.get(number)?,
            SegmentRecords::File(file) => file.indicator(number, prefix),
        };
        let indicator = Arc::new(indicator);
        cache.push(number, Arc::clone(&indicator));
        Some(indicator)
    }

    /// Record `number` of the file; `None` for indicators in memory.
    pub fn stored(&self, number: u32) -> Option<StoredIndicator> {
        match &self.records {
            SegmentRecords::Memory(_) => None,
            SegmentRecords::File(file) => file.set.read_record(number).ok(),
        }
    }

    /// Returns all indicators; for tests and small sets.
    pub fn indicators(&self) -> Vec<Arc<Indicator>> {
        let v4 = self
            .tables
            .hosts_v4
            .iter()
            .map(|(host, number)| (*number, IpNet::V4(Ipv4Addr::from(*host).into())));
        let v6 = self
            .tables
            .hosts_v6
            .iter()
            .map(|(host, number)| (*number, IpNet::V6(Ipv6Addr::from(*host).into())));
        let nets_v4 = self.tables.nets_v4.iter().flat_map(|(net, range)| {
            self.tables.numbers(range).map(move |number| (number, IpNet::V4(net)))
        });
        let nets_v6 = self.tables.nets_v6.iter().flat_map(|(net, range)| {
            self.tables.numbers(range).map(move |number| (number, IpNet::V6(net)))
        });
        let mut all: Vec<_> = v4.chain(v6).chain(nets_v4).chain(nets_v6).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().filter_map(|(number, prefix)| self.indicator(number, prefix)).collect()
    }
}

/// Values of `key` in a sorted table.
fn values_of<K: Ord + Copy>(table: &[(K, u32)], key: K) -> impl Iterator<Item = u32> {
    let from = table.partition_point(|(known, _)| *known < key);
    let found = table.get(from..).unwrap_or_default();
    found.iter().take_while(move |(known, _)| *known == key).map(|(_, number)| *number)
}

impl LookupTables {
    fn from_prefixes(prefixes: impl Iterator<Item = (IpNet, u32)>) -> Self {
        let mut tables = Self::default();
        let mut networks = Vec::new();
        for (prefix, number) in prefixes {
            match (prefix, prefix.prefix_len() == prefix.max_prefix_len()) {
                (IpNet::V4(host), true) => tables.hosts_v4.push((host.addr().into(), number)),
                (IpNet::V6(host), true) => tables.hosts_v6.push((host.addr().into(), number)),
                _ => networks.push((prefix, number)),
            }
        }
        tables.hosts_v4.sort_unstable();
        tables.hosts_v6.sort_unstable();
        networks.sort_unstable();
        tables.networks = networks.iter().map(|(_, number)| *number).collect();
        let mut from = 0;
        for same in networks.chunk_by(|(a, _), (b, _)| a == b) {
            let to = from + u32::try_from(same.len()).unwrap_or(u32::MAX);
            match same.first() {
                Some((IpNet::V4(net), _)) => _ = tables.nets_v4.insert(*net, from..to),
                Some((IpNet::V6(net), _)) => _ = tables.nets_v6.insert(*net, from..to),
                None => {}
            }
            from = to;
        }
        tables
    }

    fn numbers(&self, range: &Range<u32>) -> impl Iterator<Item = u32> {
        self.networks
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
            .iter()
            .copied()
    }
}

impl FileRecords {
    fn indicator(&self, number: u32, prefix: IpNet) -> Indicator {
        match self.set.read_record(number) {
            Ok(stored) => self.complete(stored),
            Err(error) => {
                tracing::error!(
                    feed = &*self.feed, %prefix, %error,
                    "indicator cannot be read from the state directory; its prefix still matches"
                );
                let text = "its record in the state directory cannot be read";
                Indicator {
                    id: format!("{}:{prefix}", self.feed),
                    feed: Arc::clone(&self.feed),
                    entity: prefix.to_string(),
                    description: text.to_owned(),
                    ..Indicator::blank(prefix)
                }
            }
        }
    }

    fn complete(&self, stored: StoredIndicator) -> Indicator {
        let StoredIndicator { mut indicator, pulled, .. } = stored;
        let ttl = self.validity.ttl;
        if indicator.time_generated == Timestamp::MIN {
            indicator.time_generated = ttl.confirmed_at(pulled);
        }
        let mut end = ttl.end(indicator.expires, pulled);
        if let Some(rows_for) = self.validity.rows_for {
            // A row of exactly this age is valid.
            let last = indicator.time_generated.checked_add(rows_for);
            let after = last.and_then(|last| last.checked_add(SignedDuration::from_nanos(1)));
            end = end.min(after.unwrap_or(Timestamp::MAX));
        }
        indicator.expires = Some(end);
        if self.validity.is_list {
            indicator.id = format!("{}:{}", self.feed, indicator.id);
        }
        indicator.feed = Arc::clone(&self.feed);
        indicator
    }
}
