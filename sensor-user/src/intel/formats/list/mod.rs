//! Lists of addresses and networks, as most publishers give them: plain, CSV, JSON, JSON lines.
//!
//! What names an entry is its address with its port, where the list has no column for that.

mod csv;
mod format;
mod from_config;
mod json;
mod plain;
mod presets;
mod row;
#[cfg(test)]
mod tests;

pub use format::{ListColumns, ListField, ListFormat, ListShape};
pub use from_config::ListFormatError;
pub use presets::{NAMES as PRESETS, preset};

use std::io::{self, BufRead};
use std::sync::Arc;

use jiff::Timestamp;

use self::row::ListRules;
use super::entry::{CollectedEntries, EntryContent, EntrySink, ReadError, ReadPolicy};
use crate::intel::address::PrefixPolicy;
use crate::intel::indicator::Indicator;
use crate::intel::rejects::Rejects;

/// Reads a list in `format`; gives the lines (JSON: the entries) that it took. The first of them
/// is at `first_place`.
pub fn read_list(
    input: impl BufRead,
    format: &ListFormat,
    policy: &ReadPolicy,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let judge = ListRules { format, policy };
    match format.shape {
        ListShape::Plain => plain::read(input, judge, first_position, entries),
        ListShape::Csv => csv::read(input, judge, first_position, entries),
        ListShape::Json => json::read(input, judge, first_position, entries),
        ListShape::JsonLines => json::read_lines(input, judge, first_position, entries),
    }
}

/// What a list or a table of rows yields.
#[derive(Debug, Default)]
pub struct ParsedIndicators {
    /// What can be used.
    pub indicators: Vec<Indicator>,
    /// What cannot, and why.
    pub rejects: Rejects,
}

/// Reads a plain list. Its entries were made at `pulled` and are valid until `expires` (`None`: for
/// ever). An entry that is there twice is one indicator.
pub fn parse(
    reader: impl BufRead,
    feed: &Arc<str>,
    policy: PrefixPolicy,
    (pulled, expires): (Timestamp, Option<Timestamp>),
) -> io::Result<ParsedIndicators> {
    let policy =
        ReadPolicy { prefixes: policy, min_confidence: None, now: pulled, oldest: Timestamp::MIN };
    let mut found = CollectedEntries::default();
    match read_list(reader, &ListFormat::default(), &policy, 1, &mut found) {
        Ok(_) => {}
        Err(ReadError::Io(error)) => return Err(error),
        Err(other) => return Err(io::Error::other(other)),
    }
    let mut seen = std::collections::HashSet::new();
    let mut indicators = Vec::with_capacity(found.entries.len());
    for entry in found.entries {
        let EntryContent::Indicators(of_entry) = entry.content else { continue };
        if seen.insert(entry.id) {
            indicators.extend(of_entry.into_iter().map(|indicator| Indicator {
                id: format!("{feed}:{}", indicator.id),
                feed: Arc::clone(feed),
                expires,
                ..indicator
            }));
        }
    }
    Ok(ParsedIndicators { indicators, rejects: found.rejects })
}
