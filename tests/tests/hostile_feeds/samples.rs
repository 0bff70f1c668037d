//! Sample documents of each kind.

use sensor_user::intel::{FeedConfig, FeedKind, ListShape};
use serde_json::{Value, json};

use super::{GOOD, address};

/// A good document of the feed's kind.
pub(super) fn good(config: &FeedConfig) -> Vec<u8> {
    let entries: Vec<Value> = (1..=GOOD).map(|number| entry(config, number)).collect();
    let texts: Vec<String> = entries.iter().map(Value::to_string).collect();
    document(config, &texts)
}

/// A document with these entries, given as texts.
pub(super) fn document(config: &FeedConfig, entries: &[String]) -> Vec<u8> {
    let joined = entries.join(",");
    match (config.kind, config.list.shape) {
        (FeedKind::List, ListShape::Plain) => {
            let bare = |it: &String| it.trim_matches('"').to_owned() + "\n";
            entries.iter().map(bare).collect::<String>()
        }
        (FeedKind::List, _) => format!("[{joined}]"),
        (FeedKind::Stix, _) => format!(r#"{{"type":"bundle","objects":[{joined}]}}"#),
        (FeedKind::Misp, _) => format!(r#"{{"response":{{"Attribute":[{joined}]}}}}"#),
        (FeedKind::CrowdSec, _) => format!(r#"{{"new":[{joined}],"deleted":null}}"#),
        _ => entries.iter().map(|it| it.to_owned() + "\n").collect(),
    }
    .into_bytes()
}

/// An entry with the address of this number.
pub(super) fn entry(config: &FeedConfig, number: u32) -> Value {
    let id = format!("00000000-0000-4000-8000-{number:012}");
    let address = address(number);
    let time = "2026-11-23T12:00:00Z";
    match (config.kind, config.list.shape) {
        (FeedKind::List, ListShape::Plain) => json!(address),
        (FeedKind::List, _) => json!({ "ip_address": address }),
        (FeedKind::Stix, _) => json!({
            "type": "indicator", "id": format!("indicator--{id}"), "created": time,
            "modified": time, "valid_from": time, "pattern_type": "stix",
            "pattern": format!("[ipv4-addr:value = '{address}']"),
        }),
        (FeedKind::Misp, _) => json!({
            "uuid": id, "type": "ip-dst", "category": "Network activity", "to_ids": true,
            "timestamp": "1795435200", "value": address,
        }),
        (FeedKind::CrowdSec, _) => json!({
            "uuid": id, "id": number, "origin": "crowdsec", "scenario": "crowdsecurity/ssh-bf",
            "scope": "Ip", "type": "ban", "value": address, "duration": "4h0m0s",
        }),
        _ => json!({
            "TimeGenerated": time, "IndicatorId": id, "Active": true,
            "ExpirationDateTime": "2026-12-24T00:00:00Z", "NetworkIP": address,
        }),
    }
}

/// The property that identifies an entry.
pub(super) fn id_key(kind: FeedKind) -> &'static str {
    match kind {
        FeedKind::Stix => "id",
        FeedKind::Misp | FeedKind::CrowdSec => "uuid",
        FeedKind::List => "ip_address",
        _ => "IndicatorId",
    }
}
