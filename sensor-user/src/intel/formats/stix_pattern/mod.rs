//! STIX patterns: which addresses and networks of a pattern are sufficient on their own.
//!
//! A reader of the STIX 2.1 patterning grammar (section 9 of the specification) that takes what
//! feeds write besides: keywords in any case, `==` and `<>`, double quotes, ports in quotes, `NOT`
//! before a comparison. It never judges a connection; it turns a pattern into alternatives (its
//! disjunctive form) and keeps those that nothing but the remote end of one connection decides.
//!
//! What makes an alternative insufficient: a comparison of anything that is not an address or a
//! port of the flow (a hash, a domain), both ends named, a contradiction, a second observation
//! (`AND`, `FOLLOWEDBY`, `REPEATS` of more than one), a window of time (`START … STOP`). What is
//! and is not used is listed in docs/stix.md.
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

use ipnet::IpNet;

use crate::intel::indicator::Ports;
use parser::PatternParser;

/// Bytes of a pattern at most.
const TEXT_MAX: usize = 1 << 20;

/// An address or network that is an indicator by itself, with what its connection must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SufficientPrefix {
    /// The address or network, canonical.
    pub prefix: IpNet,
    /// The text that named it.
    pub entity: String,
    /// Ports that the connection must have besides.
    pub ports: Ports,
}

/// A pattern cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {at}")]
pub struct PatternError {
    /// Byte of the text at which the fault is, from 0.
    pub at: usize,
    /// What is wrong there.
    pub fault: PatternErrorKind,
}

/// What is wrong in a pattern. Texts are hostile; their display is escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternErrorKind {
    /// Longer than `TEXT_MAX`.
    #[error("more than {TEXT_MAX} bytes")]
    TooLong,
    /// More parentheses inside each other than allowed.
    #[error("nested too deeply")]
    TooDeep,
    /// So many alternatives that they are not worked out.
    #[error("too many alternatives")]
    TooComplex,
    /// A string, or a comment, without its end.
    #[error("a {0} without end")]
    Open(&'static str),
    /// Something else than the grammar has there.
    #[error("{found:?} where {expected} should be")]
    Unexpected {
        /// What is there, shortened; "" at the end.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// An address is compared with this, and there is no other address.
    #[error("{0:?} is neither an address nor a network")]
    NotAnAddress(String),
}

/// The addresses and networks of a pattern that are sufficient on their own, in the order of the
/// text, none inside another that has no ports; none is a good answer.
///
/// As in SPEC I2; grammar of STIX 2.1, section 9.
pub fn read_pattern(text: &str) -> Result<Vec<SufficientPrefix>, PatternError> {
    if text.len() > TEXT_MAX {
        return Err(PatternError { at: TEXT_MAX, fault: PatternErrorKind::TooLong });
    }
    let mut parser = PatternParser::new(text)?;
    let alternatives = parser.pattern()?;
    let mut found = Vec::with_capacity(alternatives.len());
    for clause in alternatives {
        clause.finish(&mut found);
    }
    match parser.no_address {
        Some(fault) if found.is_empty() => Err(fault),
        _ => Ok(normalize::tidy(found)),
    }
}
