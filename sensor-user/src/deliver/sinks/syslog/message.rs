//! An item as a message of RFC 5424.
//!
//! Invariant: whatever an item holds, the message is one line, its header's fields have only the
//! characters and lengths that the RFC gives them, and each value of the structured data is bounded.

use std::fmt::Write as _;

use jiff::fmt::temporal::DateTimePrinter;

use super::SyslogConfig;
use crate::deliver::batch::Entry;
use crate::deliver::item::Item;
use crate::schema::agent_event::AgentEvent;
use crate::schema::health::HealthState;

/// Characters of a value in the structured data at most.
const VALUE: usize = 256;

/// The message for `entry`, without framing.
pub(super) fn message(config: &SyslogConfig, entry: &Entry) -> String {
    let mut text = String::with_capacity(entry.line.len() + 512);
    let priority = u16::from(config.facility) * 8 + u16::from(severity(&entry.item));
    let _infallible = write!(text, "<{priority}>1 ");
    let _infallible = MICROSECONDS.print_timestamp(&entry.time, &mut text);
    let computer = config.hostname.as_deref().unwrap_or_else(|| entry.item.computer());
    for (field, most) in [(computer, 255), (config.app_name.as_str(), 48)] {
        text.push(' ');
        push_name(&mut text, field, most);
    }
    let _infallible = write!(text, " {} ", std::process::id());
    push_name(&mut text, message_id(&entry.item), 32);
    text.push(' ');
    push_data(&mut text, &config.sd_id, entry);
    text.push(' ');
    text.push_str(&entry.line);
    text
}

/// A severity of the RFC: 2 (critical) to 6 (informational).
fn severity(item: &Item) -> u8 {
    match item {
        Item::Alert(alert) => match alert.severity.as_str() {
            "High" => 2,
            "Low" => 5,
            "Informational" => 6,
            _ => 4,
        },
        Item::Row(_) => 6,
        Item::AgentEvent(notice) => match &**notice {
            AgentEvent::Health(change) if change.state == HealthState::Ok => 6,
            AgentEvent::Loss(_) | AgentEvent::Health(_) => 4,
        },
    }
}

/// `MSGID`: what kind of item it is.
fn message_id(item: &Item) -> &'static str {
    match item {
        Item::Alert(_) => "alert",
        Item::Row(row) => row.table().name,
        Item::AgentEvent(notice) => match &**notice {
            AgentEvent::Loss(_) => "loss",
            AgentEvent::Health(_) => "health",
        },
    }
}

/// The item's id, and of an alert what one sorts by.
fn push_data(text: &mut String, sd_id: &str, entry: &Entry) {
    let _infallible = write!(text, "[{sd_id}");
    push_value(text, "id", &entry.id);
    if let Item::Alert(alert) = &entry.item {
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

/// ` name="value"`; nothing where the value is "". `"`, `\` and `]` are escaped as the RFC says,
/// what a terminal might obey is made visible.
fn push_value(text: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    let _infallible = write!(text, " {name}=\"");
    for character in value.chars().take(VALUE) {
        match character {
            '"' | '\\' | ']' => {
                text.push('\\');
                text.push(character);
            }
            '\'' => text.push(character),
            other => {
                for shown in other.escape_debug() {
                    if shown == '\\' {
                        text.push('\\');
                    }
                    text.push(shown);
                }
            }
        }
    }
    text.push('"');
}

/// A field of the header: letters, digits, `.`, `-` and `_` of ASCII; `-` where none is there.
fn push_name(text: &mut String, field: &str, most: usize) {
    let before = text.len();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.extend(field.chars().filter(plain).take(most));
    if text.len() == before {
        text.push('-');
    }
}

/// The RFC has six digits of a second at most.
const MICROSECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
