//! `Endpoint`: an address or a network in the spellings of lists, with or without a port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::entry::ReadPolicy;
use crate::intel::address::{canonical, host, parse_prefix};
use crate::intel::indicator::{Indicator, PortRange, Ports};
use crate::intel::rejects::RejectReason;

/// Address or network with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoint<'a> {
    /// Address or network, canonical.
    pub(crate) prefix: IpNet,
    /// Part of the text without the port.
    pub(crate) entity: &'a str,
    /// Port; `None` for any, also where the text has port 0.
    pub(crate) port: Option<u16>,
}

impl<'a> Endpoint<'a> {
    /// Parses an address, `address/length`, `address/netmask`, `address:port` or `[address]:port`.
    pub(crate) fn parse(text: &'a str) -> Result<Self, RejectReason> {
        let whole = |prefix| Self { prefix, entity: text, port: None };
        if let Some(prefix) = parse_prefix(text) {
            return Ok(whole(prefix));
        }
        if let Some((address, mask)) = text.split_once('/')
            && let Some(prefix) = masked(address, mask)
        {
            return Ok(whole(prefix));
        }
        if let Some(it) = with_port(text) {
            return Ok(it);
        }
        Err(RejectReason::NotAnAddress)
    }

    /// Returns the endpoint with a prefix length or netmask from a separate column.
    pub(crate) fn with_length(self, length: &str) -> Option<Self> {
        let address = self.prefix.addr();
        let prefix = match length.parse::<u8>() {
            Ok(length) => canonical(IpNet::new(address, length).ok()?.trunc()),
            Err(_not_a_number) => masked(&address.to_string(), length)?,
        };
        Some(Self { prefix, ..self })
    }

    /// Builds an indicator whose id is the prefix, and the port if it is not 0.
    pub(crate) fn indicator(self, port: Option<u16>, policy: &ReadPolicy) -> Indicator {
        let Self { prefix, entity, .. } = self;
        let port = port.filter(|port| *port > 0);
        let remote = port.map(|port| PortRange { first: port, last: port });
        let is_dotted = entity.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let name = match prefix {
            // A dotted quad has a single spelling, so it needs no formatting: lists have millions.
            IpNet::V4(net) if net.prefix_len() == 32 && is_dotted => [entity, "/32"].concat(),
            _ => prefix.to_string(),
        };
        Indicator {
            id: match port {
                None => name,
                Some(port) => format!("{name}:{port}"),
            },
            entity: entity.to_owned(),
            time_generated: policy.now,
            ports: Ports { remote: remote.into_iter().collect(), local: Vec::new() },
            ..Indicator::blank(prefix)
        }
    }
}

/// Parses a network with a netmask; `None` for a non-contiguous mask.
fn masked(address: &str, mask: &str) -> Option<IpNet> {
    let (address, mask) = (address.parse::<Ipv4Addr>().ok()?, mask.parse::<Ipv4Addr>().ok()?);
    Ipv4Net::with_netmask(address, mask).ok().map(|net| IpNet::V4(net.trunc()))
}

fn with_port(text: &str) -> Option<Endpoint<'_>> {
    let (entity, address, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inner, rest) = rest.split_once(']')?;
        let address = IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?);
        let port = if rest.is_empty() { "0" } else { rest.strip_prefix(':')? };
        (inner, address, port)
    } else {
        let (host, port) = text.rsplit_once(':')?;
        (host, IpAddr::V4(host.parse::<Ipv4Addr>().ok()?), port)
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port = port.parse::<u16>().ok()?;
    Some(Endpoint { prefix: host(address), entity, port: (port > 0).then_some(port) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_an_address_are_read() {
        for (text, prefix, entity, port) in [
            ("203.0.113.7", "203.0.113.7/32", "203.0.113.7", None),
            ("203.0.113.7/255.255.255.0", "203.0.113.0/24", "203.0.113.7/255.255.255.0", None),
            ("203.0.113.7:443", "203.0.113.7/32", "203.0.113.7", Some(443)),
            ("203.0.113.7:0", "203.0.113.7/32", "203.0.113.7", None),
            ("[2001:db8::7]:80", "2001:db8::7/128", "2001:db8::7", Some(80)),
            ("[2001:db8::7]", "2001:db8::7/128", "2001:db8::7", None),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7/32", "::ffff:203.0.113.7", Some(80)),
            ("2001:db8::7:80", "2001:db8::7:80/128", "2001:db8::7:80", None),
        ] {
            let expected = Endpoint { prefix: prefix.parse().unwrap(), entity, port };
            assert_eq!(Endpoint::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "example.com",
            "example.com:80",
            "203.0.113.7:+80",
            "203.0.113.7:65536",
            "203.0.113.7/255.0.255.0",
            "203.0.113.7:443:1",
            "[203.0.113.7]:80",
            "[2001:db8::7]80",
            "[2001:db8::7",
            "192.0.2.1-192.0.2.9",
        ] {
            assert_eq!(Endpoint::parse(text), Err(RejectReason::NotAnAddress), "{text}");
        }
    }

    #[test]
    fn a_length_may_be_in_its_own_column() {
        let net = |length| Endpoint::parse("198.51.100.9").unwrap().with_length(length);
        assert_eq!(net("24").unwrap().prefix, "198.51.100.0/24".parse().unwrap());
        assert_eq!(net("255.255.0.0").unwrap().prefix, "198.51.0.0/16".parse().unwrap());
        assert_eq!((net("33"), net("x"), net("")), (None, None, None));
    }
}
