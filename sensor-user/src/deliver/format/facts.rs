//! What the formats ask alike of alerts and rows, and how absent parts are left out.

use std::net::IpAddr;

use serde_json::Value;

use crate::pipeline::dedup::Alert;
use crate::schema::ConnectionRow;

/// Names of a remote address that one document has at most.
const NAMES: usize = 64;

/// A connection, as alerts and rows both tell it.
#[derive(Debug)]
pub(super) struct Facts<'i> {
    /// `inbound` or `outbound`; may be "" in a recording.
    pub(super) direction: &'i str,
    pub(super) protocol: &'i str,
    pub(super) source: Option<IpAddr>,
    pub(super) source_port: Option<u16>,
    pub(super) destination: Option<IpAddr>,
    pub(super) destination_port: Option<u16>,
    /// Names that led to the remote address, the latest first.
    pub(super) names: Vec<String>,
    /// Bytes from the source to the destination, and back.
    pub(super) forth: u64,
    pub(super) back: u64,
}

impl<'i> Facts<'i> {
    pub(super) fn of_alert(alert: &'i Alert) -> Self {
        let (forth, back) =
            ordered(is_inbound(&alert.direction), alert.bytes_sent, alert.bytes_received);
        Self {
            direction: &alert.direction,
            protocol: &alert.protocol,
            source: alert.source_ip.parse().ok(),
            source_port: alert.source_port,
            destination: alert.destination_ip.parse().ok(),
            destination_port: alert.destination_port,
            names: names(&alert.remote_dns_questions),
            forth,
            back,
        }
    }

    pub(super) fn of_row(row: &'i ConnectionRow) -> Self {
        let (forth, back) = ordered(is_inbound(&row.direction), row.bytes_sent, row.bytes_received);
        Self {
            direction: &row.direction,
            protocol: &row.protocol,
            source: row.source_ip.parse().ok(),
            // Connections of one row differ in it.
            source_port: None,
            destination: row.destination_ip.parse().ok(),
            destination_port: Some(row.destination_port),
            names: names(&row.remote_dns_questions),
            forth,
            back,
        }
    }

    /// Whether the remote end is the source.
    pub(super) fn is_inbound(&self) -> bool {
        is_inbound(self.direction)
    }

    /// 4 or 6.
    pub(super) fn version(&self) -> Option<u8> {
        self.destination.or(self.source).map(|address| if address.is_ipv4() { 4 } else { 6 })
    }
}

fn is_inbound(direction: &str) -> bool {
    direction == "inbound"
}

/// What the source sent and what the destination sent.
const fn ordered(inbound: bool, sent: u64, received: u64) -> (u64, u64) {
    if inbound { (received, sent) } else { (sent, received) }
}

/// A JSON array as text, as columns have it; bounded.
pub(super) fn names(array: &str) -> Vec<String> {
    let all: Vec<String> = serde_json::from_str(array).unwrap_or_default();
    all.into_iter().filter(|name| !name.is_empty()).take(NAMES).collect()
}

/// IANA's number of a transport.
pub(super) fn protocol_number(protocol: &str) -> Option<u8> {
    match protocol {
        "tcp" => Some(6),
        "udp" => Some(17),
        _ => None,
    }
}

/// 1 (`Informational`) to 4 (`High`); 0 where it is none of the four.
pub(super) fn severity(word: &str) -> u8 {
    match word {
        "Informational" => 1,
        "Low" => 2,
        "Medium" => 3,
        "High" => 4,
        _ => 0,
    }
}

/// How sure a source is, on STIX's scale of three words: `Low` to 29, `Medium` to 69, `High`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confidence {
    Low,
    Medium,
    High,
}

impl Confidence {
    pub(super) fn of(score: f64) -> Self {
        if score < 30.0 {
            Self::Low
        } else if score < 70.0 {
            Self::Medium
        } else {
            Self::High
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }

    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Low => 1,
            Self::Medium => 2,
            Self::High => 3,
        }
    }
}

/// MITRE's id and name of a tactic, as the rule's columns name it.
pub(super) fn tactic(word: &str) -> (Option<&'static str>, &str) {
    match word {
        "CommandAndControl" => (Some("TA0011"), "Command and Control"),
        other => (None, other),
    }
}

/// MITRE's name of a technique.
pub(super) fn technique(id: &str) -> Option<&'static str> {
    (id == "T1071").then_some("Application Layer Protocol")
}

/// The document without what says nothing: null, "", `[]` and `{}`, at any depth.
pub(super) fn pruned(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().map(|(key, value)| (key, pruned(value)));
            Value::Object(kept.filter(|(_, value)| says_something(value)).collect())
        }
        Value::Array(items) => {
            Value::Array(items.into_iter().map(pruned).filter(says_something).collect())
        }
        other => other,
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}
