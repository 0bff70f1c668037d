//! Parts of a line: addresses, ranges as networks, and words.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::intel::address::Exclusion;
use crate::intel::formats::endpoint::Endpoint;
use crate::intel::formats::entry::ReadPolicy;
use crate::intel::rejects::RejectReason;

/// An address or network, or a range of addresses as its smallest set of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedAddress<'a> {
    /// The address, or the first network of the range.
    first: Endpoint<'a>,
    /// Further networks of a range: at most 61 (IPv4) or 253 (IPv6).
    more: Vec<IpNet>,
}

impl<'a> ListedAddress<'a> {
    /// Returns the prefix of each network, with the text and the port of the whole.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = Endpoint<'a>> {
        let first = self.first;
        std::iter::once(first)
            .chain(self.more.iter().map(move |prefix| Endpoint { prefix: *prefix, ..first }))
    }

    /// Returns the text of the whole.
    pub(crate) const fn text(&self) -> &'a str {
        self.first.entity
    }

    /// True for several networks.
    pub(crate) const fn is_range(&self) -> bool {
        !self.more.is_empty()
    }

    /// Returns the range from this address, which must be a host without port, to `last`.
    pub(crate) fn up_to(&self, last: &str) -> Option<Self> {
        let first = self.first.entity.parse::<IpAddr>().ok()?;
        Self::range(first, last.parse().ok()?, self.first.entity).ok()
    }

    /// Returns why the whole must not be used: a range is too wide if one of its networks is.
    pub(crate) fn exclusion(&self, policy: &ReadPolicy) -> Option<RejectReason> {
        let too_short =
            |prefix: &IpNet| policy.prefixes.exclusion(prefix) == Some(Exclusion::TooShort);
        (self.is_range() && (too_short(&self.first.prefix) || self.more.iter().any(too_short)))
            .then_some(RejectReason::Excluded(Exclusion::TooShort))
    }

    /// Returns the range from `first` to `last`; an error if it is empty.
    pub(crate) fn range(first: IpAddr, last: IpAddr, text: &'a str) -> Result<Self, RejectReason> {
        let all: Vec<IpNet> = match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
            }
            _ => return Err(RejectReason::AddressRange),
        };
        let mut networks = all.into_iter();
        let prefix = networks.next().ok_or(RejectReason::AddressRange)?;
        let first = Endpoint { prefix, entity: text, port: None };
        Ok(Self { first, more: networks.collect() })
    }

    pub(super) const fn single(first: Endpoint<'a>) -> Self {
        Self { first, more: Vec::new() }
    }
}

/// Part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinePart<'a> {
    /// An address or a range.
    Address(ListedAddress<'a>),
    /// A part where an address should be, with the reason.
    Invalid(RejectReason, &'a str),
    /// Other text begins here.
    Text,
    /// An address in that text.
    InText(&'a str),
}

/// True for what separates the parts of a line.
pub(super) fn is_separator(letter: char) -> bool {
    letter.is_whitespace() || letter == ',' || letter == ';'
}

/// Returns the text up to a separator or a comment.
pub(super) fn first_word(text: &str) -> &str {
    let end = text.find(|letter: char| is_separator(letter) || letter == '#');
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}
