//! Addresses of a text: of a line of a plain list, or of one value of a table.
//!
//! Lists write more on a line than one address: ranges in several spellings, a mask that stands apart,
//! several addresses, and any text after them. Nothing that looks like an address may get lost without
//! a count, and the first address of a range must never be taken for a host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::endpoint::Endpoint;
use super::entry::ReadPolicy;
use crate::intel::address::Exclusion;
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
        std::iter::once(first).chain(self.more.iter().map(move |prefix| Endpoint { prefix: *prefix, ..first }))
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
        let too_short = |prefix: &IpNet| policy.prefixes.exclusion(prefix) == Some(Exclusion::TooShort);
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

    const fn single(first: Endpoint<'a>) -> Self {
        Self { first, more: Vec::new() }
    }
}

/// Parses a value that must consist of addresses only: one, a range, or several with separators.
pub(crate) fn parse_value(text: &str) -> Result<Vec<ListedAddress<'_>>, RejectReason> {
    if let Ok(single) = Endpoint::parse(text) {
        return Ok(vec![ListedAddress::single(single)]);
    }
    let mut found = Vec::new();
    for part in AddressScanner::new(text) {
        match part {
            LinePart::Address(address) => found.push(address),
            LinePart::Invalid(reason, _) => return Err(reason),
            LinePart::InText(_) | LinePart::Text => return Err(RejectReason::NotAnAddress),
        }
    }
    if found.is_empty() { Err(RejectReason::NotAnAddress) } else { Ok(found) }
}

/// Returns the networks of a value, all of which may be used; otherwise the first reason against it.
pub(crate) fn usable_endpoints<'a>(
    text: &'a str,
    policy: &ReadPolicy,
) -> Result<Vec<Endpoint<'a>>, RejectReason> {
    let mut found = Vec::with_capacity(1);
    for address in parse_value(text)? {
        address.exclusion(policy).map_or(Ok(()), Err)?;
        for endpoint in address.endpoints() {
            policy.accept(endpoint.prefix)?;
            found.push(endpoint);
        }
    }
    Ok(found)
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

/// Splits a line into its addresses and the text after them. `#` begins a comment; so does `;`, unless
/// an address follows.
#[derive(Debug)]
pub(crate) struct AddressScanner<'a> {
    /// The rest of the line.
    rest: &'a str,
    is_first: bool,
    is_text: bool,
    /// True once two addresses side by side are two hosts.
    are_hosts: bool,
}

impl<'a> AddressScanner<'a> {
    /// Scans `line`, which has no line ending.
    pub(crate) const fn new(line: &'a str) -> Self {
        Self { rest: line, is_first: true, is_text: false, are_hosts: false }
    }

    fn address(&mut self) -> Option<LinePart<'a>> {
        let mut is_after_semicolon = false;
        let start = self.rest.trim_start_matches(|letter: char| {
            is_after_semicolon |= letter == ';';
            letter.is_whitespace() || letter == ',' || letter == ';' && !self.is_first
        });
        let word = first_word(start);
        // A line or a comment begins with "//" as well; at the start of a line it is told.
        if word.is_empty() || (!self.is_first && word.starts_with("//")) {
            return None;
        }
        let parsed = Endpoint::parse(word);
        let is_first = std::mem::take(&mut self.is_first);
        let after = start.get(word.len()..).unwrap_or_default();
        if let Some((part, rest)) = compound(start, word, parsed.as_ref().ok()) {
            self.rest = rest;
            return Some(part);
        }
        match parsed {
            Ok(_) if !self.are_hosts && let Some((part, rest)) = columns(start, word, after) => {
                self.rest = rest;
                Some(part)
            }
            Ok(single) => {
                self.rest = after;
                self.are_hosts = true;
                Some(LinePart::Address(ListedAddress::single(single)))
            }
            Err(reason) if is_first => {
                self.rest = after;
                self.is_text = true;
                Some(LinePart::Invalid(reason, word))
            }
            Err(_) if is_after_semicolon => None,
            Err(_) => {
                self.rest = start;
                self.is_text = true;
                Some(LinePart::Text)
            }
        }
    }

    fn in_text(&mut self) -> Option<LinePart<'a>> {
        loop {
            let start = self.rest.trim_start_matches(is_separator);
            let word = first_word(start);
            if word.is_empty() {
                return None;
            }
            self.rest = start.get(word.len()..).unwrap_or_default();
            let bare = word.trim_matches(|letter: char| "()'\"<>.!?".contains(letter));
            let count = |byte| memchr::memchr_iter(byte, bare.as_bytes()).count();
            let is_like = count(b'.') >= 3 || (count(b':') >= 2 && bare.contains(|it: char| it.is_ascii_digit()));
            if is_like && Endpoint::parse(bare).is_ok() {
                return Some(LinePart::InText(bare));
            }
        }
    }
}

impl<'a> Iterator for AddressScanner<'a> {
    type Item = LinePart<'a>;

    fn next(&mut self) -> Option<LinePart<'a>> {
        if self.is_text { self.in_text() } else { self.address() }
    }
}

fn is_separator(letter: char) -> bool {
    letter.is_whitespace() || letter == ',' || letter == ';'
}

/// Returns the text up to a separator or a comment.
fn first_word(text: &str) -> &str {
    let end = text.find(|letter: char| is_separator(letter) || letter == '#');
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

fn is_dash(letter: char) -> bool {
    matches!(letter, '-' | '\u{2013}' | '\u{2014}')
}

/// Reads an address of several parts at the start of `text`: a range, or an address and its mask.
/// `word` is the first word, and `single` the address that it is. Returns the rest of the line too.
fn compound<'a>(
    text: &'a str,
    word: &'a str,
    single: Option<&Endpoint<'a>>,
) -> Option<(LinePart<'a>, &'a str)> {
    let after = text.get(word.len()..).unwrap_or_default();
    let next = after.trim_start();
    let whole = |end: &str| whole_of(text, end);
    if let Some((first, last, end)) = range_ends(word, next) {
        let part = match (first.parse::<IpAddr>(), last.parse::<IpAddr>()) {
            (Ok(first), Ok(last)) => match ListedAddress::range(first, last, whole(end)) {
                Ok(range) => LinePart::Address(range),
                Err(reason) => LinePart::Invalid(reason, whole(end)),
            },
            // A description may follow a dash, but what looks like a part of a range may not.
            _ if is_part_of_address(last) && Endpoint::parse(first).is_ok() => {
                LinePart::Invalid(RejectReason::AddressRange, whole(end))
            }
            _ => return None,
        };
        return Some((part, end));
    }
    let single = single?;
    if let Some((mask, end)) = separate_mask(single, next) {
        let is_host = single.port.is_none() && !word.contains('/');
        let masked = if is_host { single.with_length(mask).or_else(|| with_host_mask(single, mask)) } else { None };
        let text = whole(end);
        let is_repeated = |it: &Endpoint<'_>| it.with_length(mask).is_some_and(|it| it.prefix == single.prefix);
        let part = match masked {
            Some(network) => LinePart::Address(ListedAddress::single(Endpoint { entity: text, ..network })),
            None if word.contains('/') && is_repeated(single) => {
                LinePart::Address(ListedAddress::single(*single))
            }
            None => LinePart::Invalid(RejectReason::NotAnAddress, text),
        };
        return Some((part, end));
    }
    None
}

/// Returns `text` without `end`, its end, and without blanks.
fn whole_of<'a>(text: &'a str, end: &str) -> &'a str {
    text.get(..text.len() - end.len()).unwrap_or_default().trim_end()
}

/// Returns the two ends of a range `a-b`, and the text after it.
fn range_ends<'a>(word: &'a str, next: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
    let split = |text: &'a str| {
        let start = text.trim_start();
        let last = first_word(start);
        (last, start.get(last.len()..).unwrap_or_default())
    };
    if let Some((first, last)) = word.split_once(is_dash) {
        // The word ends where `next` begins, apart from blanks.
        if last.is_empty() {
            let (last, end) = split(next);
            return Some((first, last, end));
        }
        return Some((first, last, next));
    }
    let after = next.strip_prefix(is_dash).or_else(|| next.strip_prefix("..")).or_else(|| {
        next.strip_prefix("to").filter(|rest| rest.starts_with(char::is_whitespace))
    })?;
    let (last, end) = split(after);
    Some((word, last, end))
}

/// True for digits and dots, or digits and colons, of which an address may consist.
fn is_part_of_address(text: &str) -> bool {
    let is_of = |extra: char| text.chars().all(|it| it == extra || it.is_ascii_digit());
    !text.is_empty() && (is_of('.') || (text.contains("::") && text.chars().all(|it| it == ':' || it.is_ascii_hexdigit())))
}

/// Returns a prefix length or mask that stands apart from its address, and the text after it.
fn separate_mask<'a>(single: &Endpoint<'_>, next: &'a str) -> Option<(&'a str, &'a str)> {
    let split = |text: &'a str| {
        let mask = first_word(text);
        let is_numeric = mask.starts_with(|it: char| it.is_ascii_digit());
        is_numeric.then(|| (mask, text.get(mask.len()..).unwrap_or_default()))
    };
    if let Some(rest) = next.strip_prefix('/') {
        return split(rest.trim_start());
    }
    let keyword = first_word(next);
    if keyword.eq_ignore_ascii_case("mask") || keyword.eq_ignore_ascii_case("netmask") {
        return split(next.get(keyword.len()..).unwrap_or_default().trim_start());
    }
    let (mask, rest) = split(next.trim_start_matches(is_separator))?;
    let bits = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    // No host has such an address, so it can only be a mask: 255.… or, inverted, 0.….
    let is_mask = bits >> 24 == 0xff || (bits != 0 && bits >> 24 == 0);
    (is_mask && single.prefix.addr().is_ipv4()).then_some((mask, rest))
}

/// Returns the network with an inverted mask, such as `0.0.0.255`.
fn with_host_mask<'a>(single: &Endpoint<'a>, mask: &str) -> Option<Endpoint<'a>> {
    let bits = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    single.with_length(&Ipv4Addr::from(!bits).to_string())
}

/// Decides about two addresses side by side: two hosts, or the ends of a range in columns. `None`
/// leaves the second for itself.
fn columns<'a>(text: &'a str, word: &str, after: &'a str) -> Option<(LinePart<'a>, &'a str)> {
    let next = after.trim_start_matches(is_separator);
    let second = first_word(next);
    let end = next.get(second.len()..).unwrap_or_default();
    let (first, last) = (word.parse::<IpAddr>().ok()?, second.parse::<IpAddr>().ok()?);
    let (first, last) = (first.to_canonical(), last.to_canonical());
    if first == last {
        // The same twice; the second costs nothing.
        return None;
    }
    let whole = whole_of(text, end);
    match Columns::of(first, last) {
        Columns::Range => {
            let range = ListedAddress::range(first, last, whole).ok()?;
            Some((LinePart::Address(range), end))
        }
        Columns::Unclear if first_word(end.trim_start_matches(is_separator)).parse::<IpAddr>().is_err() => {
            Some((LinePart::Invalid(RejectReason::AddressRange, whole), end))
        }
        Columns::Unclear | Columns::Hosts => None,
    }
}

/// Meaning of two addresses side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Columns {
    /// The first and last address of a network, or of whole /24 (IPv6: /64) networks.
    Range,
    /// Neither, but near each other.
    Unclear,
    /// Neighbours, which are the same as a range, or hosts of different networks.
    Hosts,
}

impl Columns {
    fn of(first: IpAddr, last: IpAddr) -> Self {
        let (first, last, bits, [edge, near, far]) = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                (u128::from(u32::from(first)), u128::from(u32::from(last)), 32, [8, 16, 24])
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                (u128::from(Ipv6Addr::to_bits(first)), u128::from(Ipv6Addr::to_bits(last)), 128, [64, 96, 96])
            }
            _ => return Self::Hosts,
        };
        if last <= first + 1 {
            return Self::Hosts;
        }
        let host_bits = 128 - (first ^ last).leading_zeros();
        let is_low = |count: u32| first.trailing_zeros().min(bits) >= count;
        let is_high = |count: u32| last.trailing_ones() >= count;
        match () {
            () if is_low(host_bits) && is_high(host_bits) => Self::Range,
            () if is_low(edge) && is_high(edge) && host_bits <= far => Self::Range,
            () if host_bits <= near => Self::Unclear,
            () => Self::Hosts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of a line: prefixes of an address joined by `+`, `!` before what is rejected, `?` before
    /// an address in a text.
    fn parts(line: &str) -> Vec<String> {
        AddressScanner::new(line)
            .filter_map(|part| match part {
                LinePart::Address(it) => {
                    let each = it.endpoints().map(|it| match it.port {
                        Some(port) => format!("{}:{port}", it.prefix),
                        None if it.prefix.addr().is_ipv4() => {
                            it.prefix.to_string().trim_end_matches("/32").to_owned()
                        }
                        None => it.prefix.to_string(),
                    });
                    Some(each.collect::<Vec<_>>().join("+"))
                }
                LinePart::Invalid(_, text) => Some(format!("!{text}")),
                LinePart::InText(text) => Some(format!("?{text}")),
                LinePart::Text => None,
            })
            .collect()
    }

    #[test]
    fn a_range_is_its_smallest_set_of_networks_in_every_spelling() {
        for line in [
            "192.0.2.0-192.0.2.255",
            "192.0.2.0 - 192.0.2.255 , 000 , a name",
            "192.0.2.0 -192.0.2.255",
            "192.0.2.0- 192.0.2.255 # comment",
            "192.0.2.0 \u{2013} 192.0.2.255",
            "192.0.2.0 to 192.0.2.255",
            "192.0.2.0 .. 192.0.2.255",
            "192.0.2.0\t192.0.2.255\t24\t1500",
            "192.0.2.0,192.0.2.255",
            "192.0.2.0 255.255.255.0",
            "192.0.2.0 0.0.0.255",
            "192.0.2.0, 255.255.255.0",
            "192.0.2.0 mask 255.255.255.0",
            "192.0.2.0 netmask 255.255.255.0 x",
            "192.0.2.0 /24",
            "192.0.2.0 / 24 x",
            "192.0.2.0 /255.255.255.0",
            "192.0.2.0/24 255.255.255.0",
            "::ffff:192.0.2.0 - ::ffff:192.0.2.255",
        ] {
            assert_eq!(parts(line), ["192.0.2.0/24"], "{line}");
        }
        for (line, networks) in [
            ("192.0.2.1-192.0.2.6", "192.0.2.1+192.0.2.2/31+192.0.2.4/31+192.0.2.6"),
            ("198.51.100.0 198.51.101.255", "198.51.100.0/23"),
            ("198.51.101.0 198.51.102.255", "198.51.101.0/24+198.51.102.0/24"),
            ("2001:db8::-2001:db8::ffff", "2001:db8::/112"),
            ("2001:db8:: - 2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8::/63"),
            ("2001:db8:: /32", "2001:db8::/32"),
            ("192.0.2.7-192.0.2.7", "192.0.2.7"),
        ] {
            assert_eq!(parts(line), [networks], "{line}");
        }
        for (first, last, count) in [
            ("0.0.0.1", "255.255.255.254", 62),
            ("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 254),
            ("0.0.0.0", "255.255.255.255", 1),
        ] {
            let range = ListedAddress::range(first.parse().unwrap(), last.parse().unwrap(), "");
            assert_eq!(range.unwrap().endpoints().count(), count);
        }
    }

    #[test]
    fn what_may_be_a_range_is_never_its_first_address() {
        for (line, text) in [
            ("192.0.2.9-192.0.2.1", "!192.0.2.9-192.0.2.1"),
            ("192.0.2.1 - 2001:db8::1", "!192.0.2.1 - 2001:db8::1"),
            ("192.0.2.1 - 254", "!192.0.2.1 - 254"),
            ("192.0.2.1-254", "!192.0.2.1-254"),
            ("192.0.2.1 - 192.0.2", "!192.0.2.1 - 192.0.2"),
            ("192.0.2.10 192.0.2.20 x", "!192.0.2.10 192.0.2.20"),
            ("192.0.2.0/24 - 192.0.3.0", "!192.0.2.0/24 - 192.0.3.0"),
            ("192.0.2.0 255.0.255.0", "!192.0.2.0 255.0.255.0"),
            ("192.0.2.0 /33", "!192.0.2.0 /33"),
            ("192.0.2.0 mask 7.7.7.7", "!192.0.2.0 mask 7.7.7.7"),
        ] {
            assert_eq!(parts(line).first().map(String::as_str), Some(text), "{line}");
        }
    }

    #[test]
    fn text_after_an_address_stays_text() {
        for line in [
            "192.0.2.7",
            "  192.0.2.7 # comment 203.0.113.9",
            "192.0.2.7;SBL1",
            "192.0.2.7 ; SBL1 see 203.0.113.9",
            "192.0.2.7 // 203.0.113.9",
            "192.0.2.7 12",
            "192.0.2.7\t2026-11-24 10:00:00\tscanner, US",
            "192.0.2.7 - a C2 server",
            "192.0.2.7 - example.com",
            "192.0.2.7 /wp-login.php",
            "192.0.2.7 mask of zorro",
            "192.0.2.7,443,a::b",
            "192.0.2.7 from nowhere",
            "192.0.2.7 total 9",
        ] {
            assert_eq!(parts(line), ["192.0.2.7"], "{line}");
        }
        assert_eq!(parts("192.0.2.7:443 x"), ["192.0.2.7/32:443"]);
    }

    #[test]
    fn each_address_of_a_line_is_used_or_reported() {
        for (line, expected) in [
            ("192.0.2.7 203.0.113.9", &["192.0.2.7", "203.0.113.9"][..]),
            ("192.0.2.7,203.0.113.9 ; 198.51.100.1", &["192.0.2.7", "203.0.113.9", "198.51.100.1"]),
            ("192.0.2.1 192.0.2.5 192.0.2.9", &["192.0.2.1", "192.0.2.5", "192.0.2.9"]),
            ("192.0.2.7 192.0.2.8", &["192.0.2.7", "192.0.2.8"]),
            ("192.0.2.7 2001:db8::7", &["192.0.2.7", "2001:db8::7/128"]),
            ("192.0.2.7 192.0.2.7", &["192.0.2.7", "192.0.2.7"]),
            ("192.0.2.7:80 192.0.2.9:81", &["192.0.2.7/32:80", "192.0.2.9/32:81"]),
            ("192.0.2.7 and (203.0.113.9).", &["192.0.2.7", "?203.0.113.9"]),
            ("bad.example 203.0.113.9", &["!bad.example", "?203.0.113.9"]),
            ("", &[]),
            (" ,; # 192.0.2.7", &[]),
            ("0.0.0.0 203.0.113.255", &["0.0.0.0", "203.0.113.255"]),
        ] {
            assert_eq!(parts(line), expected, "{line}");
        }
    }

    #[test]
    fn a_value_consists_of_addresses_only() {
        let count = |text: &str| parse_value(text).map(|found| found.len());
        for (text, found) in [
            ("192.0.2.7", Ok(1)),
            ("192.0.2.7, 203.0.113.9", Ok(2)),
            ("192.0.2.0 - 192.0.2.9", Ok(1)),
            ("192.0.2.7 x", Err(RejectReason::NotAnAddress)),
            ("192.0.2.9-192.0.2.7", Err(RejectReason::AddressRange)),
            ("x", Err(RejectReason::NotAnAddress)),
            ("", Err(RejectReason::NotAnAddress)),
        ] {
            assert_eq!(count(text), found, "{text}");
        }
    }
}
