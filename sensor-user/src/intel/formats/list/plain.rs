//! Plain lists: one address or network per line.

use std::borrow::Cow;
use std::io::BufRead;

use super::row::RowConverter;
use crate::base::lines::Lines;
use crate::intel::formats::endpoint::Endpoint;
use crate::intel::formats::entry::{EntryContent, EntrySink, FeedEntry, ReadError};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// Reads a plain list: the first word of each line, before any comment.
pub(super) fn read(
    input: impl BufRead,
    rows: RowConverter<'_>,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let mut lines = Lines::new(input);
    let mut used = 0;
    while let Some(line) = lines.next_line()? {
        used = line.number;
        let position = first_position.saturating_add(line.number - 1);
        let Some(bytes) = line.bytes else {
            entries.reject(position, RejectReason::LineTooLong, "");
            continue;
        };
        let text = word(bytes);
        if text.is_empty() {
            continue;
        }
        match indicator(rows, &text) {
            Ok(indicator) => entries.push(FeedEntry {
                id: indicator.id.clone(),
                group: String::new(),
                version: None,
                position,
                content: EntryContent::Indicators(vec![indicator]),
            }),
            Err(reason) => entries.reject(position, reason, &text),
        }
    }
    Ok(used)
}

fn indicator(rows: RowConverter<'_>, text: &str) -> Result<Indicator, RejectReason> {
    let endpoint = Endpoint::parse(text)?;
    rows.policy.accept(endpoint.prefix)?;
    Ok(Indicator {
        threat_type: rows.format.threat_type.clone(),
        description: rows.format.description.clone(),
        url: rows.format.url.clone(),
        ..endpoint.indicator(endpoint.port, rows.policy)
    })
}

/// Returns the first word before any comment; "" for an empty line.
fn word(line: &[u8]) -> Cow<'_, str> {
    const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b',' | b'\r');
    let start = line.iter().position(|byte| !is_blank(byte)).unwrap_or(line.len());
    let (_, rest) = line.split_at(start);
    let is_end = |byte: &u8| is_blank(byte) || matches!(byte, b'#' | b';');
    let end = rest.iter().position(is_end).unwrap_or(rest.len());
    let (word, _) = rest.split_at(end);
    // Nearly all are UTF-8, and a check is faster than a lossy conversion.
    std::str::from_utf8(word).map_or_else(|_invalid| String::from_utf8_lossy(word), Cow::Borrowed)
}
