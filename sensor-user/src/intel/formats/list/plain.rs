//! Plain lists: an address or a network a line.

use std::borrow::Cow;
use std::io::BufRead;

use super::row::ListRules;
use crate::base::lines::Lines;
use crate::intel::formats::endpoint::Endpoint;
use crate::intel::formats::entry::{EntryContent, EntrySink, FeedEntry, ReadError};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// Reads a plain list: the first word of each line before a comment.
pub(super) fn read(
    input: impl BufRead,
    judge: ListRules<'_>,
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
        match indicator(judge, &text) {
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

fn indicator(judge: ListRules<'_>, text: &str) -> Result<Indicator, RejectReason> {
    let endpoint = Endpoint::parse(text)?;
    if let Some(exclusion) = judge.policy.prefixes.exclusion(&endpoint.prefix) {
        return Err(RejectReason::Excluded(exclusion));
    }
    Ok(Indicator {
        threat_type: judge.format.threat_type.clone(),
        description: judge.format.description.clone(),
        url: judge.format.url.clone(),
        ..endpoint.indicator(endpoint.port, judge.policy)
    })
}

/// The first word before any comment; "" on an empty line.
fn word(line: &[u8]) -> Cow<'_, str> {
    const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b',' | b'\r');
    let start = line.iter().position(|byte| !is_blank(byte)).unwrap_or(line.len());
    let (_, rest) = line.split_at(start);
    let is_end = |byte: &u8| is_blank(byte) || matches!(byte, b'#' | b';');
    let end = rest.iter().position(is_end).unwrap_or(rest.len());
    let (word, _) = rest.split_at(end);
    // Nearly all are UTF-8, which is quicker to check than to mend.
    std::str::from_utf8(word).map_or_else(|_mended| String::from_utf8_lossy(word), Cow::Borrowed)
}
