//! `RowScan`: decides that a row is no hit without parsing it.
//!
//! Nearly every row of a replay is no hit. Of such a row only `RemoteIp` and `TimeGenerated` are searched in
//! its bytes. A key is found by its text in quotes, which no JSON string contains unescaped. The row is parsed
//! if a key occurs more or less than once, or if its value is not a plain string: the answer is then that of
//! the parser. Addresses and times repeat, so that those of earlier rows are remembered.
//!
//! What is not checked in a row that is no hit: that the rest of the object is JSON and UTF-8, and that the
//! two keys belong to the row itself and not to an object in it.

use std::net::IpAddr;

use jiff::Timestamp;
use memchr::memmem::Finder;

use super::options::Window;
use crate::base::collections::FastMap;
use crate::intel::{IndicatorSet, parse_time};
use crate::pipeline::matcher::covering_addresses;

/// Maximum number of remembered texts of each column; all are forgotten when there are more.
const REMEMBERED_MAX: usize = 1 << 16;
/// Maximum length of a text that is remembered: that of the longest address.
const TEXT_MAX: usize = 64;

/// See the module documentation.
pub(super) struct RowScan<'set> {
    set: &'set IndicatorSet,
    window: Window,
    remote_ip: Finder<'static>,
    time_generated: Finder<'static>,
    /// True for an address that an indicator covers.
    addresses: FastMap<Box<[u8]>, bool>,
    /// True for a time in the window.
    times: FastMap<Box<[u8]>, bool>,
}

/// Result for a row that is no hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    /// Before the window.
    Early,
    /// In the window.
    InWindow,
}

impl<'set> RowScan<'set> {
    pub(super) fn new(set: &'set IndicatorSet, window: Window) -> Self {
        Self {
            set,
            window,
            remote_ip: Finder::new("\"RemoteIp\""),
            time_generated: Finder::new("\"TimeGenerated\""),
            addresses: FastMap::default(),
            times: FastMap::default(),
        }
    }

    /// Returns the result for a row that is no hit; `None` if the row must be parsed.
    pub(super) fn miss(&mut self, line: &[u8]) -> Option<Miss> {
        let line = line.trim_ascii();
        if !line.starts_with(b"{") || !line.ends_with(b"}") {
            return None;
        }
        let remote = only_value(line, &self.remote_ip)?;
        let set = self.set;
        let is_covered = remembered(&mut self.addresses, remote, |text| {
            let address: IpAddr = text.parse().ok()?;
            Some(covering_addresses(set, address, None).next().is_some())
        })?;
        if is_covered {
            return None;
        }
        let time = only_value(line, &self.time_generated)?;
        let start = self.window.start;
        let is_in_window = remembered(&mut self.times, time, |text| {
            parse_time(text).map(|it: Timestamp| it >= start)
        })?;
        Some(if is_in_window { Miss::InWindow } else { Miss::Early })
    }
}

/// Returns what is known of `text`, or what `judge` returns of it.
fn remembered(
    known: &mut FastMap<Box<[u8]>, bool>,
    text: &[u8],
    judge: impl FnOnce(&str) -> Option<bool>,
) -> Option<bool> {
    if let Some(verdict) = known.get(text) {
        return Some(*verdict);
    }
    let verdict = judge(std::str::from_utf8(text).ok()?)?;
    if text.len() <= TEXT_MAX {
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(text.into(), verdict);
    }
    Some(verdict)
}

/// Returns the value of the key that `finder` finds, if the key occurs once and the value is a string
/// without escapes.
fn only_value<'l>(line: &'l [u8], finder: &Finder<'_>) -> Option<&'l [u8]> {
    let at = finder.find(line)?;
    // After a backslash, the quotation mark is part of a string.
    let before = at.checked_sub(1).and_then(|at| line.get(at));
    let rest = line.get(at + finder.needle().len()..)?;
    if before == Some(&b'\\') || finder.find(rest).is_some() {
        return None;
    }
    let text = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let text = text.strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', text)?;
    let (value, after) = text.split_at_checked(end)?;
    let after = after.strip_prefix(b"\"")?.trim_ascii_start();
    matches!(after.first(), Some(b',' | b'}')).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::recorded_row::{RecordedLine, parse_head};
    use super::*;
    use crate::intel::{Indicator, parse_prefix};

    fn set() -> IndicatorSet {
        let indicators = ["203.0.113.0/24", "2001:db8::7"]
            .map(|prefix| Arc::new(Indicator::blank(parse_prefix(prefix).unwrap())));
        IndicatorSet::from_indicators(indicators.to_vec())
    }

    fn window() -> Window {
        let start = "2026-11-24T11:00:00Z".parse().unwrap();
        Window { start, at: "2026-11-24T12:00:00Z".parse().unwrap() }
    }

    #[test]
    fn only_rows_that_are_certainly_no_hit_are_not_parsed() {
        let time = r#""TimeGenerated":"2026-11-24T11:30:00Z""#;
        for (row, expected) in [
            (format!(r#"{{{time},"RemoteIp":"192.0.2.1"}}"#), Some(Miss::InWindow)),
            (
                format!(r#" {{ {time} , "RemoteIp" : "192.0.2.1" , "x": 1 }} "#),
                Some(Miss::InWindow),
            ),
            (
                r#"{"RemoteIp":"::1","TimeGenerated":"2026-11-24 10:59:59"}"#.to_owned(),
                Some(Miss::Early),
            ),
            (
                format!(r#"{{{time},"RemoteIp":"192.0.2.1","Type":"\"RemoteIp\""}}"#),
                Some(Miss::InWindow),
            ),
            // Hits, also by an address inside the address.
            (format!(r#"{{{time},"RemoteIp":"203.0.113.9"}}"#), None),
            (format!(r#"{{{time},"RemoteIp":"::ffff:203.0.113.9"}}"#), None),
            (format!(r#"{{{time},"RemoteIp":"64:ff9b::203.0.113.9"}}"#), None),
            (format!(r#"{{{time},"RemoteIp":"2001:DB8::7"}}"#), None),
            // A NAT mapping has an address of its own.
            (
                format!(
                    r#"{{{time},"RemoteIp":"192.0.2.1","Translated":{{"RemoteIp":"203.0.113.9"}}}}"#
                ),
                None,
            ),
            // Whatever is unusual is parsed.
            (format!(r#"{{{time},"RemoteIp":"192.0.2\u002e1"}}"#), None),
            (format!(r#"{{{time},"Remote\u0049p":"203.0.113.9"}}"#), None),
            (format!(r#"{{{time},"RemoteIp":"192.0.2.1","RemoteIp":"203.0.113.9"}}"#), None),
            (format!(r#"{{{time},"Name":"RemoteIp","RemoteIp":"192.0.2.1"}}"#), None),
            (format!(r#"{{{time},"x\"RemoteIp":"192.0.2.1"}}"#), None),
            (format!(r#"{{{time},"RemoteIp":null}}"#), None),
            (format!(r#"{{{time},"RemoteIp":"None"}}"#), None),
            (format!(r#"{{{time},"RemoteIp":["192.0.2.1"]}}"#), None),
            (format!(r#"{{{time},"RemoteIp":"192.0.2.1"x}}"#), None),
            (format!(r#"{{{time},"RemoteIp":"192.0.2.1""#), None),
            (r#"{"TimeGenerated":"soon","RemoteIp":"192.0.2.1"}"#.to_owned(), None),
            (r#"{"RemoteIp":"192.0.2.1"}"#.to_owned(), None),
            (r#"[{"RemoteIp":"192.0.2.1"}]"#.to_owned(), None),
        ] {
            let set = set();
            let mut scan = RowScan::new(&set, window());
            assert_eq!(scan.miss(row.as_bytes()), expected, "{row}");
            // The same with what is remembered.
            assert_eq!(scan.miss(row.as_bytes()), expected, "{row}");
        }
    }

    fn member() -> impl Strategy<Value = (String, String)> {
        let address =
            prop::sample::select(vec!["192.0.2.1", "203.0.113.9", "2001:db8::7", "::2", "x"]);
        let time =
            prop::sample::select(vec!["2026-11-24T11:30:00Z", "2026-11-24T10:30:00Z", "soon"]);
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let text = "[\"RemoteIp:{}, \\\\]{0,14}";
        prop_oneof![
            3 => address.prop_map(move |it| ("RemoteIp".to_owned(), quoted(it))),
            3 => time.prop_map(move |it| ("TimeGenerated".to_owned(), quoted(it))),
            2 => (text, text).prop_map(move |(key, value)| (key, quoted(&value))),
            1 => "[a-z]{1,3}".prop_map(|key| (key, "{\"RemoteIp\":\"203.0.113.9\"}".to_owned())),
        ]
    }

    proptest! {
        /// A row that is not parsed would be one without an indicator, as the parser reads it.
        #[test]
        fn a_row_that_is_not_parsed_is_no_hit(
            members in prop::collection::vec(member(), 0..6),
            blank in prop::sample::select(vec!["", " "]),
        ) {
            let members: Vec<String> = members
                .iter()
                .map(|(key, value)| format!("{}{blank}:{value}{blank}", serde_json::to_string(key).unwrap()))
                .collect();
            let row = format!("{{{}}}", members.join(","));
            let set = set();
            let miss = RowScan::new(&set, window()).miss(row.as_bytes());
            if let (Some(miss), Ok(RecordedLine::Row(head))) = (miss, parse_head(&row)) {
                prop_assert!(covering_addresses(&set, head.remote, head.translated).next().is_none());
                let expected =
                    if head.time < window().start { Miss::Early } else { Miss::InWindow };
                prop_assert_eq!(miss, expected);
            }
        }
    }
}
