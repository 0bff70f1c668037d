//! Plain lists: the addresses and networks at the start of each line.

use std::borrow::Cow;
use std::io::BufRead;

use super::row::RowConverter;
use crate::base::lines::{Lines, OTHER_ENDINGS};
use crate::intel::formats::addresses::{AddressScanner, LinePart};
use crate::intel::formats::endpoint::Endpoint;
use crate::intel::formats::entry::{EntryContent, EntrySink, FeedEntry, ReadError};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// Reads a plain list.
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
        let mut reader = LineReader { rows, position, entries };
        match only_word(bytes) {
            Some(word) => reader.word(word),
            None => reader.line(bytes),
        }
    }
    Ok(used)
}

/// Returns the content of a line that consists of one word, as nearly all do, and a comment; `None`
/// for any other line.
fn only_word(line: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'/');
    let end = line.iter().position(|byte| !is_plain(byte)).unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end)?;
    let is_alone = matches!(rest.trim_ascii_start(), [] | [b'#', ..]);
    // A comment may contain a line ending of another system.
    let is_over = rest.iter().all(|byte| byte.is_ascii() && !matches!(byte, 0xb | 0xc));
    std::str::from_utf8(word).ok().filter(|word| !word.is_empty() && is_alone && is_over)
}

/// Reader of the entries of one line.
struct LineReader<'r, 'e> {
    rows: RowConverter<'r>,
    position: u64,
    entries: &'e mut dyn EntrySink,
}

impl LineReader<'_, '_> {
    fn word(&mut self, word: &str) {
        match Endpoint::parse(word) {
            Ok(endpoint) => self.endpoint(endpoint),
            Err(reason) => self.entries.reject(self.position, reason, word),
        }
    }

    fn line(&mut self, bytes: &[u8]) {
        // Nearly all are UTF-8, and a check is faster than a lossy conversion.
        let text = std::str::from_utf8(bytes)
            .map_or_else(|_invalid| String::from_utf8_lossy(bytes), Cow::Borrowed);
        for line in text.split(OTHER_ENDINGS) {
            for part in AddressScanner::new(line.trim_start_matches('\u{feff}')) {
                match part {
                    LinePart::Address(address) => match address.exclusion(self.rows.policy) {
                        None => address.endpoints().for_each(|it| self.endpoint(it)),
                        Some(reason) => self.entries.reject(self.position, reason, address.text()),
                    },
                    LinePart::Invalid(reason, text) => {
                        self.entries.reject(self.position, reason, text);
                    }
                    LinePart::InText(text) => {
                        self.entries.reject(self.position, RejectReason::AddressInText, text);
                    }
                    LinePart::Text => {}
                }
            }
        }
    }

    fn endpoint(&mut self, endpoint: Endpoint<'_>) {
        if let Err(reason) = self.rows.policy.accept(endpoint.prefix) {
            return self.entries.reject(self.position, reason, endpoint.entity);
        }
        let format = self.rows.format;
        let indicator = Indicator {
            threat_type: format.threat_type.clone(),
            description: format.description.clone(),
            url: format.url.clone(),
            ..endpoint.indicator(endpoint.port, self.rows.policy)
        };
        self.entries.push(FeedEntry {
            id: indicator.id.clone(),
            group: String::new(),
            version: None,
            position: self.position,
            content: EntryContent::Indicators(vec![indicator]),
        });
    }
}
