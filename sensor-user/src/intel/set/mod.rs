//! `IndicatorSet`: all indicators by prefix, immutable, swapped as a whole.
//!
//! A segment a feed. In front of them stands one bit for each IPv4 /24 that any prefix touches:
//! a miss, which is nearly every lookup, costs one cache line.

pub mod segment;
pub mod store;
pub mod ttl;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::Ipv4Net;

use super::indicator::Indicator;
use segment::Segment;

/// Indicators by prefix.
#[derive(Debug, Default)]
pub struct IndicatorSet {
    filter: Filter,
    segments: Vec<Arc<Segment>>,
}

impl IndicatorSet {
    /// A set of all of `indicators`, in memory; several may have the same prefix.
    pub fn build(indicators: Vec<Arc<Indicator>>) -> Self {
        Self::join(vec![Arc::new(Segment::of(indicators))])
    }

    /// A set of all that is in `segments`.
    pub fn join(segments: Vec<Arc<Segment>>) -> Self {
        let mut filter = Filter::default();
        for segment in &segments {
            let (hosts, networks) = segment.v4();
            hosts.for_each(|host| filter.add(host.into()));
            networks.for_each(|network| filter.add(network));
        }
        Self { filter, segments }
    }

    /// Every indicator whose prefix contains `address`, feed by feed, the shortest prefix of each
    /// first. An IPv4-mapped address is looked up as IPv4.
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

    /// The feeds' shares.
    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// All indicators: for tests and small sets.
    pub fn indicators(&self) -> Vec<Arc<Indicator>> {
        self.segments.iter().flat_map(|segment| segment.indicators()).collect()
    }

    /// Number of indicators.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.segments.iter().all(|segment| segment.is_empty())
    }
}

/// A bit for each /24 that a prefix touches; 2 MiB, or nothing where no prefix is IPv4.
#[derive(Debug, Default)]
struct Filter(Vec<u64>);

impl Filter {
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
        IndicatorSet::build(indicators.collect())
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
        fn all_covering_prefixes_are_found_and_no_other(
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

        /// The filter has no false negative, and none but the bits of its prefixes.
        #[test]
        fn the_filter_knows_each_24(bits: u32, len in 0..=32_u8, probe: u32) {
            let network = Ipv4Net::new(bits.into(), len).unwrap().trunc();
            let mut filter = Filter::default();
            filter.add(network);
            let around = Ipv4Net::new(network.network(), len.min(24)).unwrap().trunc();
            for address in [network.network(), network.broadcast(), probe.into()] {
                prop_assert_eq!(filter.may_cover(address), around.contains(&address));
            }
        }
    }
}
