//! Common Event Format, for alerts.
//!
//! Invariant: whatever text an alert has, the line is one header of seven fields and pairs of a key
//! and a value; every value is bounded by the length that the format's dictionary gives its key.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::facts::Facts;
use crate::pipeline::dedup::{Alert, AlertKind};

/// The alert as one line.
pub(super) fn line(alert: &Alert) -> String {
    let mut line = String::with_capacity(1024);
    line.push_str("CEF:0");
    for (text, most) in [
        ("netsensor", 63),
        ("netsensor", 63),
        (env!("CARGO_PKG_VERSION"), 31),
        (alert.rule_id.as_str(), 1023),
        (alert.rule_name.as_str(), 512),
        (severity(&alert.severity), 2),
    ] {
        line.push('|');
        push(&mut line, text, most, '|');
    }
    line.push('|');
    let mut pairs = Pairs { line, is_first: true };
    add(&mut pairs, alert);
    pairs.line
}

/// The format's 0 to 10; readers take 0 to 3 as low, to 6 as medium, to 8 as high.
fn severity(word: &str) -> &'static str {
    match word {
        "Informational" => "1",
        "Low" => "3",
        "High" => "8",
        _ => "5",
    }
}

fn add(pairs: &mut Pairs, alert: &Alert) {
    let facts = Facts::of_alert(alert);
    pairs.add("externalId", 40, &alert.alert_id);
    pairs.add("rt", 13, &alert.vm_connection_time_generated.as_millisecond().to_string());
    pairs.add("start", 13, &alert.first_seen.as_millisecond().to_string());
    pairs.add("end", 13, &alert.last_seen.as_millisecond().to_string());
    pairs.add("dvchost", 100, &alert.computer);
    let is_aggregated = alert.alert_kind == AlertKind::Summary;
    pairs.add("type", 1, if is_aggregated { "1" } else { "0" });
    pairs.add("cat", 1023, &alert.tactics.join(","));
    pairs.add("deviceDirection", 1, if facts.is_inbound() { "0" } else { "1" });
    pairs.add("proto", 31, &alert.protocol.to_ascii_uppercase());
    add_address(pairs, facts.source, "src", ("c6a2", "c6a2Label", "Source IPv6 Address"));
    pairs.add_number("spt", alert.source_port);
    add_address(pairs, facts.destination, "dst", ("c6a3", "c6a3Label", "Destination IPv6 Address"));
    pairs.add_number("dpt", alert.destination_port);
    pairs.add_number("cnt", Some(alert.connection_count));
    pairs.add_number("in", Some(alert.bytes_received));
    pairs.add_number("out", Some(alert.bytes_sent));
    let (name, id, user, remote_name) = if facts.is_inbound() {
        ("dproc", "dpid", "duser", "shost")
    } else {
        ("sproc", "spid", "suser", "dhost")
    };
    pairs.add(name, 1023, &alert.process_name);
    pairs.add_number(id, alert.process_id);
    pairs.add(user, 1023, &alert.user_name);
    pairs.add(remote_name, 1023, facts.names.first().map_or("", String::as_str));
    pairs.add("filePath", 1023, &alert.process_path);
    pairs.add("request", 1023, &alert.url);
    pairs.add("msg", 1023, &alert.description);
    pairs.add("reason", 1023, &alert.threat_type);
    for (key, label, about, text) in [
        ("cs1", "cs1Label", "IndicatorId", alert.indicator_id.as_str()),
        ("cs2", "cs2Label", "MatchedPrefix", &alert.matched_prefix),
        ("cs3", "cs3Label", "Feed", &alert.feed),
        ("cs4", "cs4Label", "AlertKind", alert.alert_kind.as_str()),
        ("cs5", "cs5Label", "CommandLine", &alert.command_line),
        ("cs6", "cs6Label", "ContainerId", &alert.container_id),
    ] {
        pairs.add_labelled((key, label), about, text);
    }
    let score = alert.confidence_score.map(|score| score.round().to_string());
    pairs.add_labelled(("cn1", "cn1Label"), "Confidence", score.as_deref().unwrap_or_default());
}

/// `key` where it is an address of IPv4, which is all that the key takes; else the custom field.
fn add_address(pairs: &mut Pairs, address: Option<IpAddr>, key: &str, other: (&str, &str, &str)) {
    let (custom, label, about) = other;
    match address {
        Some(address @ IpAddr::V4(_)) => pairs.add(key, 39, &address.to_string()),
        Some(address @ IpAddr::V6(_)) => {
            pairs.add_labelled((custom, label), about, &address.to_string());
        }
        None => {}
    }
}

/// The extension: `key=value`, with a space between two.
struct Pairs {
    line: String,
    is_first: bool,
}

impl Pairs {
    /// Nothing where `text` is "".
    fn add(&mut self, key: &str, most: usize, text: &str) {
        if text.is_empty() {
            return;
        }
        if !self.is_first {
            self.line.push(' ');
        }
        self.is_first = false;
        self.line.push_str(key);
        self.line.push('=');
        push(&mut self.line, text, most, '=');
    }

    fn add_number(&mut self, key: &str, number: Option<impl std::fmt::Display>) {
        if let Some(number) = number {
            self.add(key, 20, &number.to_string());
        }
    }

    /// A custom field and what it is about.
    fn add_labelled(&mut self, (key, label): (&str, &str), about: &str, text: &str) {
        if !text.is_empty() {
            self.add(key, 4000, text);
            self.add(label, 1023, about);
        }
    }
}

/// Adds `text`, cut to `most` characters, with `\` and `separator` escaped. A line end becomes `\n`
/// or `\r` where the format has those (values, not the header); what else a terminal or a reader
/// might obey is made visible.
fn push(line: &mut String, text: &str, most: usize, separator: char) {
    let is_value = separator == '=';
    for character in text.chars().take(most) {
        match character {
            '\n' if is_value => line.push_str("\\n"),
            '\r' if is_value => line.push_str("\\r"),
            '\\' => line.push_str("\\\\"),
            '"' | '\'' => line.push(character),
            other if other == separator => {
                line.push('\\');
                line.push(other);
            }
            other => {
                for shown in other.escape_debug() {
                    // `\u{1b}` is text of the value, so its `\` is escaped.
                    let _infallible = match shown {
                        '\\' => line.write_str("\\\\"),
                        shown => line.write_char(shown),
                    };
                }
            }
        }
    }
}
