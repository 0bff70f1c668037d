//! STIX patterns: addresses and networks of a pattern that are sufficient on their own.
//!
//! A parser of the STIX 2.1 patterning grammar (section 9 of the specification) that also accepts
//! deviations of feeds: keywords in any case, `==` and `<>`, double quotes, ports in quotes, `NOT`
//! before a comparison. It does not evaluate patterns. It converts a pattern into alternatives (its
//! disjunctive normal form) and keeps those that depend on the remote end of one connection only.
//!
//! An alternative is insufficient if it compares anything except an address or a port of the flow
//! (a hash, a domain), names both ends, contradicts itself, or requires a second observation
//! (`AND`, `FOLLOWEDBY`, `REPEATS` of more than one) or a time window (`START … STOP`).
//! docs/stix.md has the full list.
//!
//! Patterns are hostile: text, nesting and work are bounded.

mod clause;
mod comparison;
mod lexer;
mod normalize;
mod parser;
mod ports;
#[cfg(test)]
mod tests;
mod usable;

use ipnet::IpNet;

use crate::intel::indicator::Ports;
use parser::{Conjunction, PatternParser};
pub(crate) use usable::UsableAddresses;

/// Maximum length of a pattern in bytes.
const TEXT_MAX: usize = 1 << 20;

/// An address or network that is an indicator on its own, with the ports of its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SufficientPrefix {
    /// Address or network, canonical.
    pub prefix: IpNet,
    /// Address or network as the pattern writes it.
    pub entity: String,
    /// Ports that a connection must also have.
    pub ports: Ports,
}

/// Addresses of a pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatternAddresses {
    /// Those that are sufficient on their own, in the order of the text. A pattern may have none.
    pub sufficient: Vec<SufficientPrefix>,
    /// Errors of texts that an address is compared with, but that are none.
    pub unreadable: Vec<PatternError>,
}

impl PatternAddresses {
    /// Returns the sufficient prefixes without duplicates and those inside another that has no ports.
    /// Prefixes that differ in their remote ports only are one.
    pub fn merged(self) -> Vec<SufficientPrefix> {
        normalize::merge(self.sufficient)
    }
}

/// A pattern is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {at}")]
pub struct PatternError {
    /// Offset of the error in bytes, from 0.
    pub at: usize,
    /// Kind of the error.
    pub kind: PatternErrorKind,
}

/// Kind of an error in a pattern. Texts are hostile; `Display` escapes them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternErrorKind {
    /// Longer than `TEXT_MAX`.
    #[error("more than {TEXT_MAX} bytes")]
    TooLong,
    /// Parentheses are nested too deeply.
    #[error("nested too deeply")]
    TooDeep,
    /// The pattern has too many alternatives.
    #[error("too many alternatives")]
    TooComplex,
    /// A string or a comment has no end.
    #[error("a {0} without end")]
    Unterminated(&'static str),
    /// A token that the grammar does not allow.
    #[error("expected {expected}, found {found:?}")]
    Unexpected {
        /// Text at the offset, shortened; "" at the end.
        found: String,
        /// Tokens that the grammar allows.
        expected: &'static str,
    },
    /// An address is compared with this text.
    #[error("{0:?} is neither an address nor a network")]
    NotAnAddress(String),
}

/// Returns the addresses and networks of a pattern. A range `first-last` is its smallest set of
/// networks. Fails if the pattern is invalid, or names no address except unreadable ones.
///
/// ```
/// use sensor_user::intel::read_pattern;
///
/// let text = "[ipv4-addr:value = '203.0.113.7' OR domain-name:value = 'c2.example']";
/// let found = read_pattern(text)?.sufficient;
/// assert_eq!(found.len(), 1);
/// assert_eq!(found[0].prefix, "203.0.113.7/32".parse()?);
///
/// // Ports qualify an address.
/// let text = "[network-traffic:dst_ref.value = '198.51.100.0/24' \
///              AND network-traffic:dst_port IN (80, 443)]";
/// let remote = &read_pattern(text)?.sufficient[0].ports.remote;
/// assert_eq!(remote.iter().map(|ports| ports.first).collect::<Vec<_>>(), [80, 443]);
///
/// // An address that counts only together with a file is not sufficient.
/// let text = "[ipv4-addr:value = '203.0.113.7' AND file:name = 'x']";
/// assert!(read_pattern(text)?.sufficient.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_pattern(text: &str) -> Result<PatternAddresses, PatternError> {
    read(text, Conjunction::All)
}

/// Returns every address and network of a pattern that joins them by `AND`, but means each of them, as
/// MISP's export of an object with several addresses does.
pub fn read_alternatives(text: &str) -> Result<PatternAddresses, PatternError> {
    read(text, Conjunction::Addresses)
}

fn read(text: &str, conjunction: Conjunction) -> Result<PatternAddresses, PatternError> {
    if text.len() > TEXT_MAX {
        return Err(PatternError { at: TEXT_MAX, kind: PatternErrorKind::TooLong });
    }
    let mut parser = PatternParser::new(text, conjunction)?;
    let alternatives = parser.pattern()?;
    let mut found = Vec::with_capacity(alternatives.len());
    for clause in alternatives {
        clause.finish(&mut found);
    }
    let mut unreadable = parser.unreadable;
    if found.is_empty() && !unreadable.is_empty() {
        return Err(unreadable.swap_remove(0));
    }
    Ok(PatternAddresses { sufficient: found, unreadable })
}
