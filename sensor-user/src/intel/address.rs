//! Addresses and networks of indicators: canonical form, and the ranges that are excluded.

use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Private, special and local ranges. An indicator that overlaps one of them is excluded, unless
/// its feed sets `allow_private`.
static EXCLUDED: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    ]
    .iter()
    .filter_map(|text| text.parse().ok())
    .collect()
});

/// Prefixes that are accepted from a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixPolicy {
    /// True to accept private and special ranges.
    pub allow_private: bool,
    /// Minimum length of an IPv4 prefix.
    pub min_v4: u8,
    /// Minimum length of an IPv6 prefix.
    pub min_v6: u8,
}

impl Default for PrefixPolicy {
    /// No private ranges; nothing shorter than /8 (IPv4) or /19 (IPv6).
    fn default() -> Self {
        Self { allow_private: false, min_v4: 8, min_v6: 19 }
    }
}

/// Reason why a prefix is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exclusion {
    /// Overlaps this private or special range.
    Private(IpNet),
    /// Shorter than the minimum length.
    TooShort,
}

impl PrefixPolicy {
    /// Returns why `prefix` (canonical) must not be used; `None` if it may be.
    pub fn exclusion(&self, prefix: &IpNet) -> Option<Exclusion> {
        let shortest = match prefix {
            IpNet::V4(_) => self.min_v4,
            IpNet::V6(_) => self.min_v6,
        };
        if prefix.prefix_len() < shortest {
            return Some(Exclusion::TooShort);
        }
        if self.allow_private {
            return None;
        }
        EXCLUDED.iter().find(|range| overlap(range, prefix)).map(|range| Exclusion::Private(*range))
    }
}

/// True if one network contains the other, that is if they agree in the bits of the shorter prefix.
fn overlap(one: &IpNet, other: &IpNet) -> bool {
    let len = one.prefix_len().min(other.prefix_len());
    match (one, other) {
        (IpNet::V4(one), IpNet::V4(other)) => {
            let differ = u32::from(one.addr()) ^ u32::from(other.addr());
            differ.leading_zeros() >= len.into()
        }
        (IpNet::V6(one), IpNet::V6(other)) => {
            let differ = u128::from(one.addr()) ^ u128::from(other.addr());
            differ.leading_zeros() >= len.into()
        }
        _ => false,
    }
}

/// True if the address is in one of the private, special and local ranges that are excluded unless
/// a feed allows them.
pub fn is_special(address: IpAddr) -> bool {
    let host = host(address);
    EXCLUDED.iter().any(|range| overlap(range, &host))
}

/// Parses an address, or a network with a prefix length. Host bits become zero, IPv4-mapped IPv6
/// becomes IPv4.
pub fn parse_prefix(text: &str) -> Option<IpNet> {
    let prefix = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse::<IpNet>().ok()?.trunc(),
    };
    Some(canonical(prefix))
}

/// Converts IPv4-mapped networks (inside `::ffff:0:0/96`) to IPv4; returns all others unchanged.
pub fn canonical(prefix: IpNet) -> IpNet {
    const MAPPED_LEN: u8 = 96;
    let IpNet::V6(v6) = prefix else { return prefix };
    let (Some(v4), Some(len)) =
        (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(MAPPED_LEN))
    else {
        return prefix;
    };
    Ipv4Net::new(v4, len).map_or(prefix, |net| IpNet::V4(net.trunc()))
}

/// Returns the address as a canonical prefix of full length.
pub fn host(address: IpAddr) -> IpNet {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::from(v4)),
        IpAddr::V6(v6) => IpNet::V6(Ipv6Net::from(v6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn networks_overlap_if_one_contains_the_other(
            bits: (u32, u32), lens in (0..=32_u8, 0..=32_u8), shared in 0..=32_u32, is_v6: bool,
        ) {
            let other = bits.1 ^ (bits.0 ^ bits.1) & u32::MAX.checked_shl(32 - shared).unwrap_or(0);
            let net = |bits: u32, len: u8| if is_v6 {
                let bits = u128::from(bits) << 96;
                IpNet::new(std::net::Ipv6Addr::from(bits).into(), len).unwrap().trunc()
            } else {
                IpNet::new(std::net::Ipv4Addr::from(bits).into(), len).unwrap().trunc()
            };
            let (one, other) = (net(bits.0, lens.0), net(other, lens.1));
            prop_assert_eq!(overlap(&one, &other), one.contains(&other) || other.contains(&one));
        }
    }

    #[test]
    fn texts_become_canonical_prefixes_or_none() {
        for (text, prefix) in [
            ("203.0.113.5", Some("203.0.113.5/32")),
            ("203.0.113.5/32", Some("203.0.113.5/32")),
            ("203.0.113.5/24", Some("203.0.113.0/24")),
            ("::ffff:203.0.113.5", Some("203.0.113.5/32")),
            ("::ffff:203.0.113.5/120", Some("203.0.113.0/24")),
            ("::FFFF:CB00:7105", Some("203.0.113.5/32")),
            ("2001:DB8::1", Some("2001:db8::1/128")),
            ("2001:db8::1/64", Some("2001:db8::/64")),
            ("::ffff:0:0/95", Some("::fffe:0:0/95")),
            (" ", None),
            ("", None),
            ("1.2.3.4:443", None),
            ("example.com", None),
            ("1.2.3.4/33", None),
            ("01.2.3.4", None),
            ("fe80::1%eth0", None),
        ] {
            let expected = prefix.map(|prefix| prefix.parse().unwrap());
            assert_eq!(parse_prefix(text), expected, "{text:?}");
        }
    }

    #[test]
    fn private_ranges_and_networks_around_them_are_excluded() {
        let policy = PrefixPolicy::default();
        for (text, used) in [
            ("10.1.2.3", false),
            ("172.31.0.1", false),
            ("172.32.0.1", true),
            ("172.0.0.0/8", false),
            ("192.168.1.1/24", false),
            ("169.254.1.1", false),
            ("127.0.0.1", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("192.0.2.1", true),
            ("8.0.0.0/8", true),
            ("8.0.0.0/7", false),
            ("0.0.0.0/0", false),
            ("::", false),
            ("::1", false),
            ("::/64", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("2001:db8::1", true),
            ("2000::/18", false),
            ("2000::/19", true),
            ("::ffff:10.0.0.1", false),
        ] {
            let prefix = parse_prefix(text).unwrap();
            assert_eq!(policy.exclusion(&prefix).is_none(), used, "{text}");
        }
        let open = PrefixPolicy { allow_private: true, min_v4: 0, min_v6: 0 };
        assert_eq!(open.exclusion(&parse_prefix("10.0.0.0/7").unwrap()), None);
    }
}
