//! `IndicatorSet`: all live indicators by prefix, immutable, swapped as a whole.
//!
//! `prefix-trie`'s `cover` gives every prefix that contains an address; each holds the ids of all
//! its indicators, so that none hides another.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use super::indicator::Indicator;

/// Indicators by prefix.
#[derive(Debug, Default)]
pub struct IndicatorSet {
    v4: PrefixMap<Ipv4Net, Vec<u32>>,
    v6: PrefixMap<Ipv6Net, Vec<u32>>,
    indicators: Vec<Arc<Indicator>>,
}

impl IndicatorSet {
    /// A set of all of `indicators`; several may have the same prefix. At most `u32::MAX`.
    pub fn build(indicators: Vec<Arc<Indicator>>) -> Self {
        let mut set = Self::default();
        for (number, indicator) in (0_u32..).zip(&indicators) {
            match indicator.prefix {
                IpNet::V4(prefix) => set.v4.entry(prefix).or_default().push(number),
                IpNet::V6(prefix) => set.v6.entry(prefix).or_default().push(number),
            }
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
        v4.chain(v6).flatten().filter_map(|number| self.indicators.get(*number as usize))
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
