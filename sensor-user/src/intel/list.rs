//! Plain lists: an address or a network a line; `#` and `;` begin a comment, and what follows the
//! first blank is ignored.

use std::io::{self, BufRead};
use std::sync::Arc;

use jiff::Timestamp;

use super::address::{PrefixPolicy, parse_prefix};
use super::indicator::Indicator;
use super::rejects::{Reason, Rejects};
use crate::lines::Lines;

/// What a list yields.
#[derive(Debug, Default)]
pub struct Parsed {
    /// What can be used.
    pub indicators: Vec<Indicator>,
    /// What cannot, and why.
    pub rejects: Rejects,
}

/// Reads a list. Its entries were made at `pulled` and are valid until `expires` (`None`: for
/// ever). An entry that is there twice is one indicator.
pub fn parse(
    reader: impl BufRead,
    feed: &Arc<str>,
    policy: PrefixPolicy,
    (pulled, expires): (Timestamp, Option<Timestamp>),
) -> io::Result<Parsed> {
    let mut parsed = Parsed::default();
    let mut seen = std::collections::HashSet::new();
    let mut lines = Lines::new(reader);
    while let Some(line) = lines.next_line()? {
        let Some(bytes) = line.bytes else {
            parsed.rejects.add(line.number, Reason::LineTooLong, "");
            continue;
        };
        let text = String::from_utf8_lossy(bytes);
        let Some(entry) = entry(&text) else { continue };
        match usable(entry, policy) {
            Ok(prefix) if seen.insert(prefix) => parsed.indicators.push(Indicator {
                id: format!("{feed}:{prefix}"),
                feed: Arc::clone(feed),
                prefix,
                entity: entry.to_owned(),
                expires,
                time_generated: pulled,
                ..Indicator::blank(prefix)
            }),
            Ok(_seen) => {}
            Err(reason) => parsed.rejects.add(line.number, reason, entry),
        }
    }
    Ok(parsed)
}

/// Reads a list as entries; an entry that is there twice is one.
pub fn read_list(
    reader: impl BufRead,
    policy: &super::ReadPolicy,
    first_place: u64,
    entries: &mut dyn super::Entries,
) -> Result<u64, super::ReadFault> {
    let mut lines = Lines::new(reader);
    let mut count = 0;
    while let Some(line) = lines.next_line()? {
        count += 1;
        let place = first_place + line.number - 1;
        let Some(bytes) = line.bytes else {
            entries.reject(place, Reason::LineTooLong, "");
            continue;
        };
        let text = String::from_utf8_lossy(bytes);
        let Some(entry) = entry(&text) else { continue };
        match usable(entry, policy.prefixes) {
            Ok(prefix) => {
                let id = prefix.to_string();
                let indicator = Indicator {
                    id: id.clone(),
                    entity: entry.to_owned(),
                    time_generated: policy.now,
                    ..Indicator::blank(prefix)
                };
                let content = super::Content::Indicators(vec![indicator]);
                entries.take(super::Entry {
                    id,
                    group: String::new(),
                    version: None,
                    place,
                    content,
                });
            }
            Err(reason) => entries.reject(place, reason, entry),
        }
    }
    Ok(count)
}

/// The first word before any comment; `None` on an empty line.
fn entry(line: &str) -> Option<&str> {
    let line = line.trim_start_matches('\u{feff}');
    let code = line.split(['#', ';']).next().unwrap_or_default();
    code.split([' ', '\t', ',']).find(|word| !word.is_empty())
}

fn usable(entry: &str, policy: PrefixPolicy) -> Result<ipnet::IpNet, Reason> {
    let prefix = parse_prefix(entry).ok_or_else(|| {
        let ends =
            entry.split_once('-').map(|(first, last)| (parse_prefix(first), parse_prefix(last)));
        if matches!(ends, Some((Some(_), Some(_)))) {
            Reason::AddressRange
        } else {
            Reason::NotAnAddress
        }
    })?;
    match policy.exclusion(&prefix) {
        None => Ok(prefix),
        Some(exclusion) => Err(Reason::Excluded(exclusion)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_its_prefixes_and_names_what_it_cannot_use() {
        let text = "\u{feff}# list\r\n203.0.113.7 # c2\r\n\n198.51.100.0/24;SBL1\n203.0.113.7\n\
                    example.com\n10.0.0.1\n192.0.2.1-192.0.2.9\n0.0.0.0/0\n  2001:db8::7\tx\n";
        let parsed = parse(
            text.as_bytes(),
            &"drop".into(),
            PrefixPolicy::default(),
            (Timestamp::UNIX_EPOCH, None),
        )
        .unwrap();
        let ids: Vec<&str> = parsed.indicators.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["drop:203.0.113.7/32", "drop:198.51.100.0/24", "drop:2001:db8::7/128"]);
        let rejects: Vec<(u64, &str)> =
            parsed.rejects.kept().iter().map(|it| (it.place, it.reason.name())).collect();
        assert_eq!(
            rejects,
            [
                (6, "not an address"),
                (7, "private or special range"),
                (8, "address range"),
                (9, "prefix too short"),
            ]
        );
        assert_eq!(parsed.rejects.malformed(), 2);
    }
}
