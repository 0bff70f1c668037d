//! Addresses of a text: of a line of a plain list, or of one value of a table.
//!
//! Lists write more on a line than one address: ranges in several spellings, a mask that stands apart,
//! several addresses, and any text after them. No address may get lost without a count, and the first
//! address of a range must never be taken for a host.

mod compound;
mod listed;
#[cfg(test)]
mod tests;

pub(crate) use listed::{LinePart, ListedAddress};

use super::endpoint::Endpoint;
use super::entry::ReadPolicy;
use crate::intel::rejects::RejectReason;
use compound::{columns, compound};
use listed::{first_word, is_separator};

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
        // A line or a comment begins with "//" as well; at the start of a line it is reported.
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
            Ok(_)
                if !self.are_hosts
                    && let Some((part, rest)) = columns(start, word, after) =>
            {
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
            let is_like = count(b'.') >= 3
                || (count(b':') >= 2 && bare.contains(|it: char| it.is_ascii_digit()));
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
