//! Items as messages of RFC 5424.
//!
//! Invariant: whatever text an item contains, the message is one line, its header fields have only
//! the characters and lengths of the RFC, and each value of the structured data is bounded.

use std::fmt::Write as _;

use jiff::fmt::temporal::DateTimePrinter;

use super::{Framing, SyslogConfig};
use crate::deliver::batch::{Batch, BatchItem};
use crate::deliver::format::push_escaped;
use crate::deliver::item::{Item, Severity};

/// Maximum length of a value in the structured data, characters.
const VALUE_MAX: usize = 256;

/// The messages of `batch`, framed (RFC 6587).
pub(super) fn frames(config: &SyslogConfig, batch: &Batch) -> Vec<u8> {
    let frames = batch.items.iter().map(|item| {
        let message = message(config, item);
        match config.framing {
            Framing::Octets => format!("{} {message}", message.len()),
            Framing::Newline => message + "\n",
        }
    });
    frames.collect::<String>().into_bytes()
}

/// The message for `item`, without framing.
pub(super) fn message(config: &SyslogConfig, item: &BatchItem) -> String {
    let mut text = String::with_capacity(item.line.len() + 512);
    let priority = u16::from(config.facility) * 8 + u16::from(severity(&item.item));
    let _infallible = write!(text, "<{priority}>1 ");
    let _infallible = MICROSECONDS.print_timestamp(&item.time, &mut text);
    let computer = config.hostname.as_deref().unwrap_or_else(|| item.item.computer());
    push_name(&mut text, computer, 255);
    push_name(&mut text, &config.app_name, 48);
    let _infallible = write!(text, " {}", std::process::id());
    push_name(&mut text, &message_id(&item.item), 32);
    push_data(&mut text, &config.sd_id, item);
    text.extend([" ", &item.line]);
    text
}

/// Severity of the RFC: 2 (critical) to 6 (informational).
fn severity(item: &Item) -> u8 {
    match item.severity() {
        Severity::High => 2,
        Severity::Medium | Severity::Warning | Severity::Unknown => 4,
        Severity::Low => 5,
        Severity::Informational => 6,
    }
}

/// `MSGID`: the type of the item.
fn message_id(item: &Item) -> String {
    match item {
        Item::Row(row) => row.table().name.to_owned(),
        Item::Alert(_) | Item::AgentEvent(_) => item.short_type_name(),
    }
}

/// Appends the item's id, and the fields of an alert that are useful for filtering.
fn push_data(text: &mut String, sd_id: &str, item: &BatchItem) {
    text.extend([" [", sd_id]);
    push_value(text, "id", &item.id);
    if let Item::Alert(alert) = &item.item {
        let port = alert.destination_port.map(|port| port.to_string()).unwrap_or_default();
        for (name, value) in [
            ("kind", alert.alert_kind.as_str()),
            ("severity", &alert.severity),
            ("direction", &alert.direction),
            ("remote", &alert.remote_ip),
            ("port", &port),
            ("protocol", &alert.protocol),
            ("prefix", &alert.matched_prefix),
            ("feed", &alert.feed),
            ("process", &alert.process_name),
        ] {
            push_value(text, name, value);
        }
    }
    text.push(']');
}

/// Appends ` name="value"` with the RFC's escapes, or nothing if the value is "".
fn push_value(text: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    text.extend([" ", name, "=\""]);
    for character in value.chars().take(VALUE_MAX) {
        push_escaped(text, character, &['"', '\\', ']']);
    }
    text.push('"');
}

/// Appends a header field: ASCII letters, digits, `.`, `-` and `_`; `-` if none is left.
fn push_name(text: &mut String, field: &str, max: usize) {
    text.push(' ');
    let before = text.len();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.extend(field.chars().filter(is_plain).take(max));
    if text.len() == before {
        text.push('-');
    }
}

/// The RFC permits at most six digits of a second.
const MICROSECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
