//! Rules for each column of a `VMConnection` row. `tests/fixtures/vmconnection.json` has
//! Microsoft's schema.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use crate::harness::text;

const TABLE: &str = include_str!("../../../fixtures/vmconnection.json");

/// Checks each row on its own, then the relations between rows.
pub(super) fn check(rows: &[Value]) {
    let table: Value = serde_json::from_str(TABLE).unwrap();
    let columns = table["columns"].as_array().unwrap();
    let extensions = table["extensions"].as_array().unwrap();
    let names = columns.iter().map(|column| text(column, "name"));
    let all: BTreeSet<&str> = names.chain(extensions.iter().filter_map(Value::as_str)).collect();
    for row in rows {
        let has: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(has, all, "{row}");
        for column in columns {
            let (name, value) = (text(column, "name"), &row[text(column, "name")]);
            assert!(is_of_type(value, text(column, "type")), "{name} is {value}: {row}");
            assert!(follows(row, value, text(column, "rule")), "{name} is {value}: {row}");
        }
        response_times_fit(row);
    }
    gauges_follow(rows);
    let ids: HashSet<&str> = rows.iter().map(|row| text(row, "ConnectionId")).collect();
    assert_eq!(ids.len(), rows.len(), "ids are unique");
}

/// Null means "blank" for a number or a timestamp, but never for text.
fn is_of_type(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "datetime" => value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok()),
        "int" => value.is_null() || value.as_i64().is_some_and(|it| i32::try_from(it).is_ok()),
        "long" => value.is_null() || value.is_i64() || value.is_u64(),
        "real" => value.is_null() || value.is_f64(),
        _ => false,
    }
}

fn follows(row: &Value, value: &Value, rule: &str) -> bool {
    let word = value.as_str().unwrap_or_default();
    let malicious = !text(row, "MaliciousIp").is_empty();
    match rule {
        "minute" => word.ends_with(":00Z") && word.len() == "2026-01-01T00:00:00Z".len(),
        "given" => !word.is_empty(),
        "text" => true,
        "blank" => value.is_null(),
        "uuid" => word.len() == 36 && word.split('-').count() == 5,
        "machine" => word == format!("m-{}", text(row, "AgentId")),
        "process" => word.strip_prefix("p-").is_some_and(is_hex),
        "direction" => ["inbound", "outbound"].contains(&word),
        "protocol" => ["tcp", "udp"].contains(&word),
        "address" => is_canonical(word),
        "port" => value.as_u64().is_some_and(|port| port <= 65_535),
        "remote" => match text(row, "Direction") {
            "inbound" => value == &row["SourceIp"],
            _ => value == &row["DestinationIp"],
        },
        "count" => value.is_u64(),
        "count_or_blank" => value.is_null() || value.is_u64(),
        "names" => word.is_empty() || serde_json::from_str::<Vec<String>>(word).is_ok(),
        "degrees" => value.is_null() || value.as_f64().is_some_and(|it| it.abs() <= 180.0),
        "malicious" => word.is_empty() || value == &row["RemoteIp"],
        "if_malicious" => malicious || word.is_empty(),
        "tlp" => {
            ["", "White", "Green", "Amber", "Red"].contains(&word) && (malicious || word.is_empty())
        }
        "percent" => word.is_empty() || malicious && word.parse::<u8>().is_ok_and(|it| it <= 100),
        "severity" => match value.as_u64() {
            Some(severity) => malicious && severity <= 5,
            None => !malicious,
        },
        "active" => {
            if malicious {
                ["True", "False"].contains(&word)
            } else {
                word.is_empty()
            }
        }
        _ => panic!("no rule {rule}"),
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|digit| digit.is_ascii_hexdigit())
}

/// RFC 5952, with IPv4 addresses as IPv4.
fn is_canonical(word: &str) -> bool {
    word.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().to_string() == word)
}

/// All three are blank, or min ≤ sum / count ≤ max.
fn response_times_fit(row: &Value) {
    let of = |name: &str| row[name].as_u64();
    let times = (of("ResponseTimeMin"), of("ResponseTimeSum"), of("ResponseTimeMax"));
    match (of("Responses"), times) {
        (None, (None, None, None)) => {}
        (Some(count), (Some(min), Some(sum), Some(max))) => {
            assert!(count > 0 && min * count <= sum && sum <= max * count, "{row}");
        }
        _ => panic!("{row}"),
    }
}

/// The columns that identify a row within a minute.
const KEY: [&str; 7] =
    ["Direction", "Machine", "Process", "SourceIp", "DestinationIp", "DestinationPort", "Protocol"];

/// Asserts for each key LinksLive(t) = LinksLive(t - 1) + established - terminated, one row per
/// minute, and no gap while a connection is live. A preexisting connection counts as established.
fn gauges_follow(rows: &[Value]) {
    let mut keys: HashMap<Vec<String>, (Timestamp, u64)> = HashMap::new();
    let mut rows: Vec<&Value> = rows.iter().collect();
    rows.sort_by_key(|row| text(row, "TimeGenerated"));
    for row in rows {
        let key: Vec<String> = KEY.iter().map(|column| row[column].to_string()).collect();
        let count = |name: &str| row[name].as_u64().unwrap();
        let minute: Timestamp = text(row, "TimeGenerated").parse().unwrap();
        let before = keys.get(&key).copied();
        if let Some((before, live)) = before {
            assert!(before < minute, "two rows in a minute: {row}");
            let next = before.as_second() + 60 == minute.as_second();
            assert!(live == 0 || next, "no row in a minute with a live connection: {row}");
        }
        let live = before.map_or(0, |(_, live)| live) + count("LinksEstablished");
        assert_eq!(count("LinksLive"), live - count("LinksTerminated"), "{row}");
        keys.insert(key, (minute, count("LinksLive")));
    }
}
