//! `Segment`: the indicators of one feed as a lookup sees them.
//!
//! Hosts are sorted arrays, networks a prefix trie; what an indicator says is read from the feed's
//! file when it is hit, and the latest hits are kept. So a million indicators take a few bytes
//! each, and a hit costs one read of the page cache.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::{SignedDuration, Timestamp};
use prefix_trie::PrefixMap;

use super::store::{OpenSet, Stored};
use super::ttl::Ttl;
use crate::base::collections;
use crate::base::collections::Table;
use crate::intel::indicator::Indicator;

/// Records of a segment that are kept in memory at most, the latest that were hit.
const CACHED: usize = 512;

/// One feed's share of a set.
#[derive(Debug)]
pub struct Segment {
    tables: Tables,
    records: Records,
}

/// Numbers of records by prefix. Those of equal prefixes stand together.
#[derive(Debug, Default)]
struct Tables {
    hosts_v4: Vec<(u32, u32)>,
    hosts_v6: Vec<(u128, u32)>,
    /// First and last place in `networks`.
    nets_v4: PrefixMap<Ipv4Net, (u32, u32)>,
    nets_v6: PrefixMap<Ipv6Net, (u32, u32)>,
    networks: Vec<u32>,
}

#[derive(Debug)]
enum Records {
    Memory(Vec<Arc<Indicator>>),
    File(Box<FromFile>),
}

#[derive(Debug)]
struct FromFile {
    set: OpenSet,
    feed: Arc<str>,
    validity: Validity,
    cache: Mutex<Table<u32, Arc<Indicator>>>,
}

/// What of a feed's configuration says how long its indicators count.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// For what names no expiry.
    pub ttl: Ttl,
    /// Rows of tables count for this long after they were made.
    pub rows_for: Option<SignedDuration>,
    /// Whether ids are those of a list, unique only with the name of the feed before them.
    pub is_list: bool,
}

impl Segment {
    /// Of indicators in memory.
    pub fn of(indicators: Vec<Arc<Indicator>>) -> Self {
        let prefixes = (0_u32..).zip(&indicators).map(|(number, it)| (it.prefix, number));
        Self { tables: Tables::of(prefixes), records: Records::Memory(indicators) }
    }

    /// Of a feed's file.
    pub fn open(mut set: OpenSet, feed: Arc<str>, validity: Validity) -> Self {
        let networks = std::mem::take(&mut set.networks);
        let mut tables = Tables::of(networks.into_iter());
        tables.hosts_v4 = std::mem::take(&mut set.hosts_v4);
        tables.hosts_v6 = std::mem::take(&mut set.hosts_v6);
        let cache = Mutex::new(collections::table(CACHED));
        Self { tables, records: Records::File(Box::new(FromFile { set, feed, validity, cache })) }
    }

    /// Number of indicators.
    pub const fn len(&self) -> usize {
        self.tables.hosts_v4.len() + self.tables.hosts_v6.len() + self.tables.networks.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Indicators that are one address, and those that are a network.
    pub const fn sizes(&self) -> (usize, usize) {
        let hosts = self.tables.hosts_v4.len() + self.tables.hosts_v6.len();
        (hosts, self.tables.networks.len())
    }

    /// Every IPv4 host, and every IPv4 network.
    pub fn v4(&self) -> (impl Iterator<Item = Ipv4Addr>, impl Iterator<Item = Ipv4Net>) {
        let hosts = self.tables.hosts_v4.iter().map(|(host, _)| Ipv4Addr::from(*host));
        (hosts, self.tables.nets_v4.iter().map(|(net, _)| net))
    }

    /// Numbers of the records whose prefix contains `address`, the shortest first.
    pub fn covering_v4(&self, address: Ipv4Addr) -> impl Iterator<Item = (u32, IpNet)> {
        let host = Ipv4Net::from(address);
        let nets = self.tables.nets_v4.cover(&host).flat_map(|(net, range)| {
            self.tables.range(*range).map(move |number| (number, IpNet::V4(net)))
        });
        let hosts = equal(&self.tables.hosts_v4, u32::from(address));
        nets.chain(hosts.map(move |number| (number, IpNet::V4(host))))
    }

    /// The same for IPv6.
    pub fn covering_v6(&self, address: Ipv6Addr) -> impl Iterator<Item = (u32, IpNet)> {
        let host = Ipv6Net::from(address);
        let nets = self.tables.nets_v6.cover(&host).flat_map(|(net, range)| {
            self.tables.range(*range).map(move |number| (number, IpNet::V6(net)))
        });
        let hosts = equal(&self.tables.hosts_v6, u128::from(address));
        nets.chain(hosts.map(move |number| (number, IpNet::V6(host))))
    }

    /// Numbers of the records whose prefix contains `address`, canonical.
    pub fn covering(&self, address: IpAddr) -> Vec<(u32, IpNet)> {
        match address {
            IpAddr::V4(v4) => self.covering_v4(v4).collect(),
            IpAddr::V6(v6) => self.covering_v6(v6).collect(),
        }
    }

    /// The indicator of record `number`, which names `prefix`. Where the disk has lost it, the
    /// prefix alone still counts.
    pub fn indicator(&self, number: u32, prefix: IpNet) -> Option<Arc<Indicator>> {
        match &self.records {
            Records::Memory(indicators) => indicators.get(number as usize).map(Arc::clone),
            Records::File(file) => Some(file.indicator(number, prefix)),
        }
    }

    /// Record `number` as its file has it.
    pub fn stored(&self, number: u32) -> Option<Stored> {
        match &self.records {
            Records::Memory(_) => None,
            Records::File(file) => file.set.record(number).ok(),
        }
    }

    /// All indicators, in no order: for tests and small sets.
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
            self.tables.range(*range).map(move |number| (number, IpNet::V4(net)))
        });
        let nets_v6 = self.tables.nets_v6.iter().flat_map(|(net, range)| {
            self.tables.range(*range).map(move |number| (number, IpNet::V6(net)))
        });
        let mut all: Vec<_> = v4.chain(v6).chain(nets_v4).chain(nets_v6).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().filter_map(|(number, prefix)| self.indicator(number, prefix)).collect()
    }
}

/// The values of `key` in a sorted table.
fn equal<K: Ord + Copy>(table: &[(K, u32)], key: K) -> impl Iterator<Item = u32> {
    let from = table.partition_point(|(known, _)| *known < key);
    let found = table.get(from..).unwrap_or_default();
    found.iter().take_while(move |(known, _)| *known == key).map(|(_, number)| *number)
}

impl Tables {
    fn of(prefixes: impl Iterator<Item = (IpNet, u32)>) -> Self {
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
                Some((IpNet::V4(net), _)) => _ = tables.nets_v4.insert(*net, (from, to)),
                Some((IpNet::V6(net), _)) => _ = tables.nets_v6.insert(*net, (from, to)),
                None => {}
            }
            from = to;
        }
        tables
    }

    fn range(&self, (from, to): (u32, u32)) -> impl Iterator<Item = u32> {
        self.networks.get(from as usize..to as usize).unwrap_or_default().iter().copied()
    }
}

impl FromFile {
    fn indicator(&self, number: u32, prefix: IpNet) -> Arc<Indicator> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cache.get(&number) {
            return Arc::clone(known);
        }
        let indicator = match self.set.record(number) {
            Ok(stored) => self.complete(stored),
            Err(error) => {
                tracing::error!(
                    feed = &*self.feed, %prefix, %error,
                    "an indicator cannot be read from the state directory; its prefix still counts"
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
        };
        let indicator = Arc::new(indicator);
        cache.push(number, Arc::clone(&indicator));
        indicator
    }

    fn complete(&self, stored: Stored) -> Indicator {
        let Stored { mut indicator, pulled, .. } = stored;
        let ttl = self.validity.ttl;
        let confirmed = ttl.confirmed.map_or(pulled, |confirmed| confirmed.max(pulled));
        if indicator.time_generated == Timestamp::MIN {
            indicator.time_generated = confirmed;
        }
        let mut end = ttl.end(indicator.expires, pulled);
        if let Some(rows_for) = self.validity.rows_for {
            // A row made exactly so long ago still counts.
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
