//! `IndicatorSet`: all indicators by prefix, immutable, swapped as a whole.

pub(crate) mod memory;
mod memory_records;
pub mod segment;
pub mod store;
pub mod ttl;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::Ipv4Net;

use super::indicator::Indicator;
use memory::MemorySegment;
use segment::FeedSegment;

/// Indicators by prefix.
///
/// ```text
/// address -> filter, one bit per IPv4 /24 -> segment of each feed -> tables by prefix -> record
/// ```
///
/// The set has one segment per feed. The filter before them has a bit for each IPv4 /24 that a prefix
/// overlaps: a miss, which nearly every lookup is, costs one cache line.
///
/// ```
/// use std::sync::Arc;
///
/// use sensor_user::intel::{Indicator, IndicatorSet, parse_prefix};
///
/// let indicator = |id: &str, prefix: &str| {
///     let prefix = parse_prefix(prefix).expect("an address or a network");
///     Arc::new(Indicator { id: id.to_owned(), ..Indicator::blank(prefix) })
/// };
/// let set = IndicatorSet::from_indicators(vec![
///     indicator("host", "203.0.113.7"),
///     indicator("network", "203.0.113.0/24"),
///     indicator("other", "2001:db8::/32"),
/// ]);
///
/// let covering = |address: &str| -> Vec<String> {
///     let address = address.parse().expect("an address");
///     set.covering(address).map(|indicator| indicator.id.clone()).collect()
/// };
/// assert_eq!(covering("203.0.113.7"), ["network", "host"], "the shortest prefix first");
/// assert_eq!(covering("::ffff:203.0.113.9"), ["network"], "IPv4-mapped is IPv4");
/// assert_eq!(covering("192.0.2.1"), [""; 0]);
/// ```
#[derive(Debug, Default)]
pub struct IndicatorSet {
    filter: PrefixFilter,
    segments: Vec<Arc<FeedSegment>>,
}

impl IndicatorSet {
    /// Set of `indicators` in memory; several may have the same prefix.
    pub fn from_indicators(indicators: Vec<Arc<Indicator>>) -> Self {
        let segment: MemorySegment = indicators.into_iter().collect();
        Self::from_segments(vec![Arc::new(segment.finish())])
    }

    /// Set of the indicators in `segments`.
    pub fn from_segments(segments: Vec<Arc<FeedSegment>>) -> Self {
        let mut filter = PrefixFilter::default();
        for segment in &segments {
            let (hosts, networks) = segment.v4_prefixes();
            hosts.for_each(|host| filter.add(host.into()));
            networks.for_each(|network| filter.add(network));
        }
        Self { filter, segments }
    }

    /// Returns the indicators whose prefix contains `address`: an all-prefix match in each feed's trie, not
    /// only the longest prefix (LPM). Feed by feed, each with the shortest prefix first. An IPv4-mapped address is looked up as IPv4.
    pub fn covering(&self, address: IpAddr) -> impl Iterator<Item = Arc<Indicator>> {
        let address = address.to_canonical();
        let may_cover = match address {
            IpAddr::V4(v4) => self.filter.may_cover(v4),
            IpAddr::V6(_) => true,
        };
        let segments = if may_cover { &*self.segments } else { &[] };
        // The matches of a segment are a Vec, which is empty for most addresses and then does not
        // allocate: an iterator over both families is 2 KB, copied for every connection.
        segments.iter().flat_map(move |segment| {
            let found = segment.covering(address).into_iter();
            found.filter_map(|(record, prefix)| segment.indicator(record, prefix))
        })
    }

    /// Segments of the feeds.
    pub fn segments(&self) -> &[Arc<FeedSegment>] {
        &self.segments
    }

    /// Returns all indicators; for tests and small sets.
    pub fn indicators(&self) -> Vec<Arc<Indicator>> {
        self.segments.iter().flat_map(|segment| segment.indicators()).collect()
    }

    /// Number of indicators.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.len()).sum()
    }

    /// True if the set has no indicators.
    pub fn is_empty(&self) -> bool {
        self.segments.iter().all(|segment| segment.is_empty())
    }
}

/// One bit for each IPv4 /24 that a prefix overlaps: 2 MiB, or nothing without IPv4 prefixes.
#[derive(Debug, Default)]
struct PrefixFilter(Vec<u64>);

impl PrefixFilter {
    const WORDS: usize = 1 << (24 - 6);

    fn add(&mut self, network: Ipv4Net) {
        if self.0.is_empty() {
            self.0 = vec![0; Self::WORDS];
        }
        let first = u32::from(network.network()) >> 8;
        let last = u32::from(network.broadcast()) >> 8;
        let (from, to) = (first as usize / 64, last as usize / 64);
        let head = u64::MAX << (first % 64);
        let tail = u64::MAX >> (63 - last % 64);
        for (at, word) in (from..).zip(self.0.get_mut(from..=to).unwrap_or_default()) {
            let head = if at == from { head } else { u64::MAX };
            let tail = if at == to { tail } else { u64::MAX };
            *word |= head & tail;
        }
    }

    fn may_cover(&self, address: Ipv4Addr) -> bool {
        let bit = u32::from(address) >> 8;
        self.0.get(bit as usize / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intel::address::{canonical, host};

    use std::net::Ipv6Addr;

    use ipnet::IpNet;
    use proptest::prelude::*;

    fn set(prefixes: &[IpNet]) -> IndicatorSet {
        let indicators = prefixes.iter().map(|prefix| Arc::new(Indicator::blank(*prefix)));
        IndicatorSet::from_indicators(indicators.collect())
    }

    /// Few distinct addresses, so that prefixes nest and repeat.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0..4_u32, 0..8_u32).prop_map(|(net, low)| Ipv4Addr::from(net << 30 | low).into()),
            (0..4_u128, 0..8_u128).prop_map(|(net, low)| Ipv6Addr::from(net << 126 | low).into()),
            (0..8_u32).prop_map(|low| Ipv4Addr::from(low).to_ipv6_mapped().into()),
        ]
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        (address(), 0..=128_u8).prop_map(|(address, len)| {
            let len = if address.is_ipv4() { len.min(32) } else { len };
            canonical(IpNet::new(address, len).unwrap().trunc())
        })
    }

    proptest! {
        #[test]
        fn exactly_the_covering_prefixes_are_returned(
            prefixes in prop::collection::vec(prefix(), 0..40),
            address in address(),
        ) {
            let mut expected: Vec<IpNet> =
                prefixes.iter().copied().filter(|it| it.contains(&host(address))).collect();
            let mut found: Vec<IpNet> =
                set(&prefixes).covering(address).map(|it| it.prefix).collect();
            expected.sort_unstable();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        /// The filter has the bits of its prefixes, and no others.
        #[test]
        fn the_filter_has_each_24(bits: u32, len in 0..=32_u8, probe: u32) {
            let network = Ipv4Net::new(bits.into(), len).unwrap().trunc();
            let mut filter = PrefixFilter::default();
            filter.add(network);
            let around = Ipv4Net::new(network.network(), len.min(24)).unwrap().trunc();
            for address in [network.network(), network.broadcast(), probe.into()] {
                prop_assert_eq!(filter.may_cover(address), around.contains(&address));
            }
        }
    }
}
