//! Common Event Format, for alerts.
//!
//! Invariant: whatever text an alert contains, the line is one header of seven fields and pairs of a
//! key and a value; every value is bounded by the length that the format's dictionary gives its key.

use serde_json::Value;

use super::facts::FactWriter;
use super::{Format, push_escaped};
use crate::deliver::item::{Item, Severity};
use crate::pipeline::dedup::Alert;

/// Returns the alert as one line; `item` is the same alert.
pub(super) fn line(item: &Item, alert: &Alert) -> String {
    // 0 to 10; readers treat 0 to 3 as low, up to 6 as medium, up to 8 as high.
    let severity = match item.severity() {
        Severity::Informational => "1",
        Severity::Low => "3",
        Severity::High => "8",
        Severity::Unknown | Severity::Warning | Severity::Medium => "5",
    };
    let mut line = String::with_capacity(1024);
    line.push_str("CEF:0");
    for (text, max) in [
        ("netsensor", 63),
        ("netsensor", 63),
        (env!("CARGO_PKG_VERSION"), 31),
        (alert.rule_id.as_str(), 1023),
        (alert.rule_name.as_str(), 512),
        (severity, 2),
    ] {
        line.push('|');
        push(&mut line, text, max, '|');
    }
    line.push('|');
    FactWriter::new(Format::Cef, &mut |name, value| {
        let text = match value {
            Value::Null => return,
            Value::String(text) => text,
            other => other.to_string(),
        };
        if text.is_empty() {
            return;
        }
        // Also before the first key: liblognorm (rsyslog) drops the first letter of a key without it.
        line.push(' ');
        // A custom field has a second pair with its label.
        let (key, label) = name.split_once(':').unwrap_or((name, ""));
        line.extend([key, "="]);
        push(&mut line, &text, if label.is_empty() { length(key) } else { 4000 }, '=');
        if !label.is_empty() {
            line.extend([" ", key, "Label=", label]);
        }
    })
    .item(item);
    line
}

/// Maximum length of the value of a key, in characters.
fn length(key: &str) -> usize {
    match key {
        "type" | "deviceDirection" => 1,
        "rt" | "start" | "end" => 13,
        "spt" | "dpt" | "cnt" | "in" | "out" | "spid" | "dpid" => 20,
        "proto" => 31,
        "src" | "dst" => 39,
        "externalId" => 40,
        "dvchost" => 100,
        _ => 1023,
    }
}

/// Appends at most `max` characters of `text` with `\` and `separator` escaped. A line end becomes
/// `\n` or `\r` where the format permits it (in values, not in the header).
fn push(line: &mut String, text: &str, max: usize, separator: char) {
    for character in text.chars().take(max) {
        match character {
            '\n' if separator == '=' => line.push_str("\\n"),
            '\r' if separator == '=' => line.push_str("\\r"),
            other => push_escaped(line, other, &['\\', separator]),
        }
    }
}
