//! `Via`: the address of a remote end that an indicator covers.
//!
//! Besides the address of the socket, this can be the IPv4 address embedded in a NAT64 or 6to4
//! address, or the address behind NAT (conntrack). Only the well-known NAT64 prefix counts: in
//! `64:ff9b:1::/48` (RFC 8215) each operator chooses the position of the IPv4 part.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Hit;
use crate::intel::{IndicatorSet, is_special};
use crate::pipeline::aggregate::Peer;

/// Relation of the address that an indicator covers to the remote end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Via {
    /// Remote address of the socket.
    #[default]
    #[serde(rename = "direct")]
    Direct,
    /// IPv4 address embedded in a `64:ff9b::/96` address (RFC 6052).
    #[serde(rename = "nat64")]
    Nat64,
    /// IPv4 address embedded in a `2002::/16` address (RFC 3056): the router of that site.
    #[serde(rename = "6to4")]
    SixToFour,
    /// Address that the kernel maps the remote address to or from (NAT).
    #[serde(rename = "conntrack")]
    Conntrack,
}

impl Via {
    /// Value of the `Via` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nat64 => "nat64",
            Self::SixToFour => "6to4",
            Self::Conntrack => "conntrack",
        }
    }
}

/// Returns the IPv4 address embedded in an IPv6 address, and the form of embedding. Private and
/// special addresses do not count: neither form may embed them (RFC 6052 section 3.1, RFC 3056
/// section 2).
pub fn embedded_ipv4(address: IpAddr) -> Option<(Via, Ipv4Addr)> {
    let IpAddr::V6(v6) = address else { return None };
    let (via, v4) = match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (Via::Nat64, ipv4(high, low)),
        [0x2002, high, low, ..] => (Via::SixToFour, ipv4(high, low)),
        _ => return None,
    };
    (!is_special(v4.into())).then_some((via, v4))
}

fn ipv4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

/// Returns the indicators that cover an address of the remote end and allow its ports. An indicator
/// with several prefixes is returned once. The order is: address of the socket, address embedded in
/// it, address behind NAT.
pub fn covering(set: &IndicatorSet, peer: Peer) -> impl Iterator<Item = Hit> {
    let mut returned = HashSet::new();
    covering_addresses(set, peer.address, peer.translated)
        .filter(move |it| {
            let remote_port = match it.via {
                Via::Conntrack => peer.translated.map(|mapped| mapped.port()),
                Via::Direct | Via::Nat64 | Via::SixToFour => peer.port,
            };
            it.indicator.ports.allow(remote_port, peer.local_port)
        })
        .filter(move |it| {
            returned.insert((Arc::clone(&it.indicator.feed), it.indicator.id.clone()))
        })
}

/// Like [`covering`], but by addresses alone, so that ports are needed only for the indicators that
/// are found. An indicator can be returned several times.
pub fn covering_addresses(
    set: &IndicatorSet,
    remote: IpAddr,
    translated: Option<SocketAddr>,
) -> impl Iterator<Item = Hit> {
    addresses(remote, translated).into_iter().flatten().flat_map(|(via, address)| {
        set.covering(address).map(move |indicator| Hit { indicator, via, address })
    })
}

/// Canonical addresses to look up for a remote end. (An array, since a chain of iterators is large
/// and expensive to move, for every connection.)
fn addresses(remote: IpAddr, translated: Option<SocketAddr>) -> [Option<(Via, IpAddr)>; 4] {
    let remote = remote.to_canonical();
    let behind = translated.map(|mapped| mapped.ip().to_canonical());
    let inside = |address| embedded_ipv4(address).map(|(via, v4)| (via, IpAddr::V4(v4)));
    [
        Some((Via::Direct, remote)),
        inside(remote),
        behind.map(|behind| (Via::Conntrack, behind)),
        behind.and_then(inside).map(|(_, v4)| (Via::Conntrack, v4)),
    ]
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;
    use crate::intel::{Indicator, PortRange, Ports, parse_prefix};

    fn peer(address: IpAddr, translated: Option<&str>) -> Peer {
        let translated = translated.map(|text| SocketAddr::new(text.parse().unwrap(), 9));
        Peer { address, port: Some(443), local_port: None, translated }
    }

    #[test]
    fn only_the_two_forms_embed_an_address() {
        for (text, expected) in [
            ("64:ff9b::cb00:7105", Some((Via::Nat64, "203.0.113.5"))),
            ("64:ff9b::203.0.113.5", Some((Via::Nat64, "203.0.113.5"))),
            ("2002:cb00:7105::1", Some((Via::SixToFour, "203.0.113.5"))),
            ("2002:cb00:7105:ffff:ffff:ffff:ffff:ffff", Some((Via::SixToFour, "203.0.113.5"))),
            ("64:ff9b::1:cb00:7105", None),
            ("64:ff9b:1::cb00:7105", None),
            ("64:ff9b::10.0.0.1", None),
            ("64:ff9b::", None),
            ("2002:a00:1::1", None),
            ("2002:7f00:1::1", None),
            ("2002:e000:1::1", None),
            ("2003:cb00:7105::1", None),
            ("::ffff:203.0.113.5", None),
            ("203.0.113.5", None),
        ] {
            let found = embedded_ipv4(text.parse().unwrap());
            let expected = expected.map(|(via, v4)| (via, v4.parse().unwrap()));
            assert_eq!(found, expected, "{text}");
        }
    }

    fn set(prefixes: &[&str]) -> IndicatorSet {
        let indicator = |text: &&str| {
            let blank = Indicator::blank(parse_prefix(text).unwrap());
            Arc::new(Indicator { id: (*text).to_owned(), ..blank })
        };
        IndicatorSet::from_indicators(prefixes.iter().map(indicator).collect())
    }

    #[test]
    fn each_indicator_is_found_once_by_the_nearest_address() {
        let set = set(&["203.0.113.0/24", "64:ff9b::/96", "198.51.100.9"]);
        let found = |remote: &str, translated: Option<&str>| -> Vec<(String, Via, String)> {
            covering(&set, peer(remote.parse().unwrap(), translated))
                .map(|hit| (hit.indicator.id.clone(), hit.via, hit.address.to_string()))
                .collect()
        };
        let hit = |id: &str, via, address: &str| (id.to_owned(), via, address.to_owned());
        let by_v4 = hit("203.0.113.0/24", Via::Direct, "203.0.113.5");
        assert_eq!(found("::ffff:203.0.113.5", None), std::slice::from_ref(&by_v4));
        assert_eq!(
            found("64:ff9b::203.0.113.5", None),
            [
                hit("64:ff9b::/96", Via::Direct, "64:ff9b::cb00:7105"),
                hit("203.0.113.0/24", Via::Nat64, "203.0.113.5"),
            ]
        );
        let behind = hit("198.51.100.9", Via::Conntrack, "198.51.100.9");
        assert_eq!(found("10.96.0.1", Some("198.51.100.9")), std::slice::from_ref(&behind));
        assert_eq!(found("203.0.113.5", Some("198.51.100.9")), [by_v4.clone(), behind]);
        // Both addresses are inside the same network: one hit.
        assert_eq!(found("203.0.113.5", Some("203.0.113.6")), [by_v4]);
        assert_eq!(
            found("10.96.0.1", Some("64:ff9b::203.0.113.5")),
            [
                hit("64:ff9b::/96", Via::Conntrack, "64:ff9b::cb00:7105"),
                hit("203.0.113.0/24", Via::Conntrack, "203.0.113.5"),
            ]
        );
        assert_eq!(found("10.96.0.1", None), []);
    }

    #[test]
    fn ports_are_those_of_the_address_that_is_covered() {
        let indicator = |id: &str, prefix: &str, port: u16| {
            let remote = vec![PortRange { first: port, last: port }];
            let blank = Indicator::blank(parse_prefix(prefix).unwrap());
            let ports = Ports { remote, local: Vec::new() };
            Arc::new(Indicator { id: id.to_owned(), ports, ..blank })
        };
        let set = IndicatorSet::from_indicators(vec![
            indicator("of the service", "10.96.0.1", 443),
            indicator("behind it", "198.51.100.9", 9),
            indicator("other port", "198.51.100.9", 443),
            indicator("both", "10.96.0.0/16", 9),
            indicator("both", "198.51.100.0/24", 9),
            indicator("either", "10.96.0.0/16", 443),
            indicator("either", "198.51.100.0/24", 9),
        ]);
        let found: Vec<(String, Via)> =
            covering(&set, peer([10, 96, 0, 1].into(), Some("198.51.100.9")))
                .map(|hit| (hit.indicator.id.clone(), hit.via))
                .collect();
        let expected = [
            ("either", Via::Direct),
            ("of the service", Via::Direct),
            ("both", Via::Conntrack),
            ("behind it", Via::Conntrack),
        ];
        assert_eq!(found, expected.map(|(id, via)| (id.to_owned(), via)));
    }

    /// The iterator is created and moved for every connection.
    #[test]
    fn the_lookup_iterator_is_small() {
        let set = set(&["203.0.113.0/24"]);
        let found = covering(&set, peer([203, 0, 113, 5].into(), None));
        assert!(size_of_val(&found) <= 1024, "{}", size_of_val(&found));
        assert_eq!(found.count(), 1);
    }

    proptest! {
        /// Both IPv6 forms of an IPv4 address match like it, unless it is private.
        #[test]
        fn both_forms_match_as_ipv4_does(bits: u32, len in 1..=32_u8, rest: [u8; 10]) {
            let v4 = Ipv4Addr::from(bits);
            let prefix = IpNet::new(v4.into(), len).unwrap().trunc();
            let set = IndicatorSet::from_indicators(vec![Arc::new(Indicator::blank(prefix))]);
            let [a, b, c, d] = v4.octets();
            let nat64 = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d];
            let mut six = [0x20, 0x02, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            six[6..].copy_from_slice(&rest);
            for (bytes, via) in [(nat64, Via::Nat64), (six, Via::SixToFour)] {
                let address = Ipv6Addr::from(bytes).into();
                let found: Vec<_> =
                    covering(&set, peer(address, None)).map(|hit| (hit.via, hit.address)).collect();
                let expected = if is_special(v4.into()) { vec![] } else { vec![(via, v4.into())] };
                prop_assert_eq!(found, expected, "{}", address);
            }
        }

        /// No other IPv6 address embeds an IPv4 address.
        #[test]
        fn no_other_address_embeds_one(bits: u128) {
            let address = Ipv6Addr::from(bits);
            prop_assume!(address.segments()[0] != 0x2002);
            prop_assume!(bits >> 32 != 0x64_ff9b << 64);
            prop_assert_eq!(embedded_ipv4(address.into()), None);
        }
    }
}
