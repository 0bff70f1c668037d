//! `RowIndicator`: the indicator that fills the malicious columns of a row.
//!
//! If several cover one address, the best is the one with the highest confidence (an indicator
//! without a confidence is last), then the most specific prefix, then the newest row. Feed and id
//! break ties, so that the same input gives the same row.

use std::cmp::{Ordering, Reverse};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::flow::Peer;
use crate::intel::Indicator;
use crate::schema::ConnectionRow;

/// Severity of an indicator without one, as documented by Microsoft.
const SEVERITY_DEFAULT: u8 = 3;
/// Maximum number of characters of one column: the text of a feed is unbounded.
const TEXT_CHARS_MAX: usize = 1024;

/// Indicator that was live at the time of a connection of the row, and the address that it covers.
#[derive(Debug, Clone)]
pub struct RowIndicator {
    /// Indicator for the malicious columns.
    pub indicator: Arc<Indicator>,
    /// Remote address, or the address that it embeds or is mapped to (NAT64, 6to4, NAT).
    pub address: IpAddr,
}

/// Remote end of a row: the input for finding its indicator.
#[derive(Debug, Clone, Copy)]
pub struct RowRemote {
    /// `RemoteIp` and the one port of the row, with the NAT mapping if one of its connections has one.
    pub peer: Peer,
    /// Time of the first connection of the row in its minute, or the start of the minute.
    pub since: Timestamp,
    /// Process id of a process behind the row.
    pub pid: Option<u32>,
}

/// Lookup of the indicator of a row by its remote end.
pub type FindIndicator<'a> = dyn Fn(&RowRemote) -> Option<RowIndicator> + 'a;

impl RowIndicator {
    /// Compares two indicators. The better one is greater.
    pub fn rank(&self, other: &Self) -> Ordering {
        let confidence = |it: &Self| it.indicator.confidence.unwrap_or(-1.0);
        let prefix = |it: &Self| it.indicator.prefix;
        let wide = |it: &Self| prefix(it).max_prefix_len() - prefix(it).prefix_len();
        let rest = |it: &Self| (Reverse(wide(it)), it.indicator.time_generated);
        let name = |it: &Self| (Arc::clone(&it.indicator.feed), it.indicator.id.clone());
        confidence(self)
            .total_cmp(&confidence(other))
            .then_with(|| rest(self).cmp(&rest(other)))
            .then_with(|| name(other).cmp(&name(self)))
    }

    /// Fills the malicious columns of `row`.
    pub fn fill(&self, row: &mut ConnectionRow) {
        let indicator = &*self.indicator;
        let severity = indicator.threat_severity.unwrap_or(SEVERITY_DEFAULT);
        row.malicious_ip = self.address.to_string();
        row.indicator_threat_type = bounded(&indicator.threat_type);
        row.description = bounded(&indicator.description);
        row.tlp_level = tlp_level(&indicator.tlp_level);
        row.confidence = indicator.confidence.map(confidence).unwrap_or_default();
        row.severity = Some(i32::from(severity.min(5)));
        row.first_reported_date_time =
            indicator.first_reported.map(|time| time.to_string()).unwrap_or_default();
        row.last_reported_date_time = indicator.time_generated.to_string();
        // Only a live indicator is a hit.
        "True".clone_into(&mut row.is_active);
        row.report_reference_link = bounded(&indicator.url);
        row.additional_information = bounded(&indicator.additional_information);
    }
}

#[cfg(test)]
pub(super) const fn no_indicator(_: &RowRemote) -> Option<RowIndicator> {
    None
}

fn confidence(score: f64) -> String {
    format!("{:.0}", score.clamp(0.0, 100.0))
}

/// Returns a level in Microsoft's spelling; text other than the four levels is unchanged. `CLEAR` is
/// the name of `WHITE` in TLP 2.
fn tlp_level(text: &str) -> String {
    let level = text.trim();
    let bare = level.get(..4).filter(|head| head.eq_ignore_ascii_case("tlp:"));
    let bare = bare.and_then(|_| level.get(4..)).unwrap_or(level).trim();
    match bare.to_ascii_lowercase().as_str() {
        "white" | "clear" => "White".to_owned(),
        "green" => "Green".to_owned(),
        "amber" => "Amber".to_owned(),
        "red" => "Red".to_owned(),
        _ => bounded(text),
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intel::parse_prefix;

    fn candidate(id: &str, prefix: &str, confidence: Option<f64>, second: i64) -> RowIndicator {
        let time_generated = Timestamp::from_second(second).unwrap();
        let blank = Indicator::blank(parse_prefix(prefix).unwrap());
        let indicator = Indicator { id: id.to_owned(), confidence, time_generated, ..blank };
        RowIndicator { indicator: Arc::new(indicator), address: "203.0.113.7".parse().unwrap() }
    }

    #[test]
    fn the_best_has_confidence_then_a_specific_prefix_then_is_new() {
        // In descending order.
        let all = [
            candidate("a", "203.0.113.0/24", Some(90.0), 1),
            candidate("b", "203.0.113.7", Some(80.0), 1),
            candidate("c", "203.0.113.0/28", Some(80.0), 2),
            candidate("d", "203.0.113.0/28", Some(80.0), 1),
            candidate("e", "203.0.113.0/28", Some(80.0), 1),
            candidate("f", "203.0.113.7", Some(0.0), 9),
            candidate("g", "203.0.113.7", None, 9),
        ];
        for (at, better) in all.iter().enumerate() {
            for worse in &all[at + 1..] {
                assert_eq!(better.rank(worse), Ordering::Greater);
                assert_eq!(worse.rank(better), Ordering::Less);
            }
        }
    }

    #[test]
    fn columns_have_microsofts_forms() {
        let mut row = ConnectionRow::default();
        let bare = candidate("a", "203.0.113.7", None, 0);
        bare.fill(&mut row);
        assert_eq!((row.malicious_ip.as_str(), row.is_active.as_str()), ("203.0.113.7", "True"));
        assert_eq!((row.severity, row.confidence.as_str()), (Some(3), ""));
        assert_eq!(row.first_reported_date_time, "");
        assert_eq!(row.last_reported_date_time, "1970-01-01T00:00:00Z");
        let full = Indicator {
            tlp_level: "TLP:amber".to_owned(),
            threat_severity: Some(9),
            confidence: Some(84.6),
            first_reported: Some(Timestamp::UNIX_EPOCH),
            description: "é".repeat(5000),
            ..Indicator::clone(&bare.indicator)
        };
        RowIndicator { indicator: Arc::new(full), ..bare }.fill(&mut row);
        assert_eq!((row.tlp_level.as_str(), row.confidence.as_str()), ("Amber", "85"));
        assert_eq!((row.severity, row.description.chars().count()), (Some(5), 1024));
        assert_eq!(row.first_reported_date_time, "1970-01-01T00:00:00Z");
        for (given, written) in [("white", "White"), ("CLEAR", "White"), ("tlpé", "tlpé"), ("", "")]
        {
            assert_eq!(tlp_level(given), written);
        }
    }
}
