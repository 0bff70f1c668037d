//! `IndicatorSet`: all live indicators by prefix, immutable, swapped as a whole.
//!
//! `prefix-trie`'s `cover` gives every prefix that contains an address; each holds the place of its
//! first indicator, and each of these that of the next one with its prefix, so that none hides
//! another and none takes a list of its own.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::indicator::Indicator;

/// Indicators by prefix.
#[derive(Debug, Default)]
pub struct IndicatorSet {
    /// Place of the first indicator.
    v4: PrefixMap<Ipv4Net, u32>,
    v6: PrefixMap<Ipv6Net, u32>,
    indicators: Vec<Arc<Indicator>>,
    /// For each indicator the place of the next one with its prefix, or [`LAST`].
    next: Vec<u32>,
}

/// No place: at most this many indicators are in a set.
const LAST: u32 = u32::MAX;

impl IndicatorSet {
    /// A set of all of `indicators`; several may have the same prefix. At most `u32::MAX`.
    pub fn build(indicators: Vec<Arc<Indicator>>) -> Self {
        let mut set = Self { next: vec![LAST; indicators.len()], ..Self::default() };
        // From the last one on, so that the first comes first.
        let places = (0..LAST).zip(&mut set.next).zip(&indicators).collect::<Vec<_>>();
        for ((place, next), indicator) in places.into_iter().rev() {
            let known = match indicator.prefix {
                IpNet::V4(prefix) => set.v4.insert(prefix, place),
                IpNet::V6(prefix) => set.v6.insert(prefix, place),
            };
            *next = known.unwrap_or(LAST);
        }
        set.indicators = indicators;
        set
    }

    /// Every indicator whose prefix contains `address`, shortest prefix first. An IPv4-mapped
    /// address is looked up as IPv4.
    pub fn covering(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Indicator>> {
        let (v4, v6) = match address.to_canonical() {
            IpAddr::V4(v4) => (Some(Ipv4Net::from(v4)), None),
            IpAddr::V6(v6) => (None, Some(Ipv6Net::from(v6))),
        };
        let v4 = v4.into_iter().flat_map(|host| self.v4.cover(&host).map(|(_, found)| found));
        let v6 = v6.into_iter().flat_map(|host| self.v6.cover(&host).map(|(_, found)| found));
        let of_prefix = |first: &u32| {
            std::iter::successors(
                self.indicators.get(*first as usize).map(|it| (*first, it)),
                |it| {
                    let next = *self.next.get(it.0 as usize)?;
                    Some((next, self.indicators.get(next as usize)?))
                },
            )
        };
        v4.chain(v6).flat_map(of_prefix).map(|(_, indicator)| indicator)
    }

    /// All indicators, in the order in which they were given.
    pub fn indicators(&self) -> &[Arc<Indicator>] {
        &self.indicators
    }

    /// Number of indicators.
    pub const fn len(&self) -> usize {
        self.indicators.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.indicators.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::{canonical, host};
    use super::*;

    use std::net::{Ipv4Addr, Ipv6Addr};

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
    }
}
