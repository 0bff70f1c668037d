//! Addresses of several parts: ranges, masks that stand apart from their address, and ranges in columns.

use std::net::{IpAddr, Ipv4Addr};

use super::listed::{LinePart, ListedAddress, first_word, is_separator};
use crate::intel::formats::endpoint::Endpoint;
use crate::intel::rejects::RejectReason;

fn is_dash(letter: char) -> bool {
    matches!(letter, '-' | '\u{2013}' | '\u{2014}')
}

/// Reads an address of several parts at the start of `text`: a range, or an address and its mask.
/// `word` is the first word, and `single` the address that it is. Returns the rest of the line too.
pub(super) fn compound<'a>(
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
            // A description may follow a dash, but a part of an address may not.
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
        let masked = if is_host {
            single.with_length(mask).or_else(|| with_host_mask(single, mask))
        } else {
            None
        };
        let text = whole(end);
        let is_repeated =
            |it: &Endpoint<'_>| it.with_length(mask).is_some_and(|it| it.prefix == single.prefix);
        let part = match masked {
            Some(network) => {
                LinePart::Address(ListedAddress::single(Endpoint { entity: text, ..network }))
            }
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
    let after = next
        .strip_prefix(is_dash)
        .or_else(|| next.strip_prefix(".."))
        .or_else(|| next.strip_prefix("to").filter(|rest| rest.starts_with(char::is_whitespace)))?;
    let (last, end) = split(after);
    Some((word, last, end))
}

/// True for digits and dots, or digits and colons, of which an address may consist.
fn is_part_of_address(text: &str) -> bool {
    let is_of = |extra: char| text.chars().all(|it| it == extra || it.is_ascii_digit());
    !text.is_empty()
        && (is_of('.')
            || (text.contains("::") && text.chars().all(|it| it == ':' || it.is_ascii_hexdigit())))
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
pub(super) fn columns<'a>(
    text: &'a str,
    word: &str,
    after: &'a str,
) -> Option<(LinePart<'a>, &'a str)> {
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
        Columns::Unclear
            if first_word(end.trim_start_matches(is_separator)).parse::<IpAddr>().is_err() =>
        {
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
                (first.to_bits(), last.to_bits(), 128, [64, 96, 96])
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
