//! Lists of addresses and networks in common formats: plain, CSV, JSON, JSON lines.
//!
//! The id of an entry is its address with its port, unless the list has a column for it.

mod csv;
mod format;
mod from_config;
mod json;
mod json_state;
#[cfg(test)]
mod odd_tests;
mod plain;
mod presets;
mod row;
#[cfg(test)]
mod tests;

pub use format::{ListColumns, ListField, ListFormat, ListShape};
pub use from_config::ListFormatError;
pub use presets::{NAMES as PRESETS, preset};

use std::io::BufRead;

use self::row::RowConverter;
use super::entry::{EntrySink, ReadError, ReadPolicy};

/// Reads a list in `format`, whose first line (JSON: entry) has the position `first_position`.
/// Returns the number of its lines (JSON: entries).
///
/// ```
/// use sensor_user::intel::{
///     CollectedEntries, EntryContent, PrefixPolicy, ReadPolicy, preset, read_list,
/// };
///
/// let policy = ReadPolicy {
///     prefixes: PrefixPolicy::default(),
///     min_confidence: None,
///     now: "2026-11-24T12:00:00Z".parse()?,
///     oldest: jiff::Timestamp::MIN,
/// };
/// let list = "# C2 servers\n203.0.113.7\n10.0.0.1\n198.51.100.0/24 ; a network\n";
/// let format = preset("feodo-txt").unwrap_or_default();
/// let mut found = CollectedEntries::default();
/// let lines = read_list(list.as_bytes(), &format, &policy, 1, &mut found)?;
///
/// assert_eq!(lines, 4);
/// let ids: Vec<&str> = found.entries.iter().map(|entry| entry.id.as_str()).collect();
/// assert_eq!(ids, ["203.0.113.7/32", "198.51.100.0/24"]);
/// assert!(matches!(&found.entries[0].content, EntryContent::Indicators(of_entry)
///     if of_entry[0].threat_type == "C2"));
/// // A private address is rejected, with its line and the reason.
/// let reject = &found.rejects.kept()[0];
/// assert_eq!((reject.position, reject.reason.name()), (3, "private or special range"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_list(
    input: impl BufRead,
    format: &ListFormat,
    policy: &ReadPolicy,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let rows = RowConverter { format, policy };
    match format.shape {
        ListShape::Plain => plain::read(input, rows, first_position, entries),
        ListShape::Csv => csv::read(input, rows, first_position, entries),
        ListShape::Json => json::read(input, rows, first_position, entries),
        ListShape::JsonLines => json::read_lines(input, rows, first_position, entries),
    }
}
