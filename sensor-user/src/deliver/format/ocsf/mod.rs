//! Open Cybersecurity Schema Framework 1.8: an alert is a Detection Finding (2004) with the profile
//! `osint`, a row of `VMConnection` a Network Activity (4001, Traffic), a row of `VMBoundPort`
//! likewise (Listen), of `VMProcess` a Process Query (5015), of `VMComputer` a Device Inventory Info
//! (5001), a notice a Base Event (0).
//!
//! Times are milliseconds since 1970. `metadata.uid` is the item's id. What no attribute is for
//! stands under `unmapped`.

mod tables;

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::item::Item;
use super::facts::{Confidence, Facts, protocol_number, pruned, severity, tactic, technique};
use super::text::readable;
use crate::pipeline::dedup::{Alert, AlertKind, split_computer};
use crate::schema::{ConnectionRow, TableRow};

/// The version of the schema.
const VERSION: &str = "1.8.0";

/// Length of the time that a row tells of, milliseconds.
const MINUTE: i64 = 60_000;

/// A class of the schema, and what happened in its words.
struct Class {
    category: (u16, &'static str),
    uid: (u32, &'static str),
    activity: (u32, &'static str),
}

const CREATE: Class = finding(1, "Create");
const UPDATE: Class = finding(2, "Update");
const TRAFFIC: Class = network(6, "Traffic");
const LISTEN: Class = network(7, "Listen");
const PROCESS: Class =
    Class { category: (5, "Discovery"), uid: (5015, "Process Query"), activity: (1, "Query") };
const DEVICE: Class = Class {
    category: (5, "Discovery"),
    uid: (5001, "Device Inventory Info"),
    activity: (2, "Collect"),
};
const NOTICE: Class =
    Class { category: (0, "Uncategorized"), uid: (0, "Base Event"), activity: (99, "Other") };

const fn finding(activity: u32, name: &'static str) -> Class {
    Class {
        category: (2, "Findings"),
        uid: (2004, "Detection Finding"),
        activity: (activity, name),
    }
}

const fn network(activity: u32, name: &'static str) -> Class {
    Class {
        category: (4, "Network Activity"),
        uid: (4001, "Network Activity"),
        activity: (activity, name),
    }
}

/// The item as an event.
pub(super) fn event(item: &Item) -> Value {
    let event = match item {
        Item::Alert(alert) => of_alert(alert),
        Item::AgentEvent(notice) => tables::of_notice(notice),
        Item::Row(row) => match &**row {
            TableRow::Connection(row) => of_connection(row),
            TableRow::BoundPort(row) => tables::of_bound_port(row),
            TableRow::Process(row) => tables::of_process(row),
            TableRow::Computer(row) => tables::of_computer(row),
        },
    };
    pruned(event)
}

fn of_alert(alert: &Alert) -> Value {
    let facts = Facts::of_alert(alert);
    let class = if alert.alert_kind == AlertKind::Summary { &UPDATE } else { &CREATE };
    let mut event =
        base(class, alert.vm_connection_time_generated, severity(&alert.severity), &alert.alert_id);
    let confidence = alert.confidence_score.map(Confidence::of);
    if let Some(metadata) = event.get_mut("metadata") {
        set(metadata, "profiles", json!(["osint"]));
    }
    for (key, value) in [
        ("message", json!(readable(alert))),
        ("is_alert", json!(true)),
        ("status_id", json!(1)),
        ("status", json!("New")),
        ("confidence_id", json!(confidence.map_or(0, Confidence::number))),
        ("confidence_score", json!(alert.confidence_score.map(f64::round).map(whole))),
        ("count", json!(alert.connection_count)),
        ("start_time", json!(alert.first_seen.as_millisecond())),
        ("end_time", json!(alert.last_seen.as_millisecond())),
        ("device", device(&alert.computer, "")),
        ("finding_info", finding_info(alert)),
        ("evidences", json!([evidence(alert, &facts)])),
        ("observables", observables(alert, &facts)),
        ("osint", json!([osint(alert)])),
        (
            "unmapped",
            json!({
                "alert_kind": alert.alert_kind,
                "via": alert.via,
                "matched_ip": alert.matched_ip,
                "attribution": alert.attribution,
                "parent_process_name": alert.parent_process_name,
                "bytes_sent": alert.bytes_sent,
                "bytes_received": alert.bytes_received,
            }),
        ),
    ] {
        set(&mut event, key, value);
    }
    event
}

/// A score that is rounded already; 0 to 100.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, and scores are 0 to 100"
)]
const fn whole(score: f64) -> u8 {
    score as u8
}

fn finding_info(alert: &Alert) -> Value {
    let attacks = alert.tactics.iter().enumerate().map(|(index, word)| {
        let (id, name) = tactic(word);
        let technique_id = alert.techniques.get(index);
        let technique_name = technique_id.and_then(|id| technique(id));
        json!({
            "tactic": { "uid": id, "name": name },
            "technique": { "uid": technique_id, "name": technique_name },
        })
    });
    json!({
        "uid": alert.alert_id,
        "title": alert.rule_name,
        "desc": alert.description,
        "types": [alert.threat_type],
        "analytic": { "type_id": 1, "type": "Rule", "uid": alert.rule_id, "name": alert.rule_name },
        "attacks": attacks.collect::<Vec<_>>(),
        "data_sources": [alert.feed],
        "first_seen_time": alert.first_seen.as_millisecond(),
        "last_seen_time": alert.last_seen.as_millisecond(),
    })
}

fn evidence(alert: &Alert, facts: &Facts<'_>) -> Value {
    let container = json!({ "uid": alert.container_id });
    json!({
        "connection_info": connection_info(facts),
        "src_endpoint": endpoint(facts, true),
        "dst_endpoint": endpoint(facts, false),
        "process": alert.process_id.map(|pid| json!({
            "pid": pid,
            "name": alert.process_name,
            "path": alert.process_path,
            "cmd_line": alert.command_line,
            "user": { "name": alert.user_name },
        })),
        "container": container,
    })
}

fn observables(alert: &Alert, facts: &Facts<'_>) -> Value {
    let (remote, own) = if facts.is_inbound() {
        ("src_endpoint", "dst_endpoint")
    } else {
        ("dst_endpoint", "src_endpoint")
    };
    let at = |end: &str, part: &str| format!("evidences[0].{end}.{part}");
    let address = |end: &str, value: Option<IpAddr>| {
        value.map(|value| {
            json!({
                "name": at(end, "ip"), "type_id": 2, "type": "IP Address", "value": value,
            })
        })
    };
    let (remote_address, own_address) = if facts.is_inbound() {
        (facts.source, facts.destination)
    } else {
        (facts.destination, facts.source)
    };
    let mut all: Vec<Value> = address(remote, remote_address).into_iter().collect();
    all.extend(address(own, own_address));
    all.extend(facts.names.first().map(|name| {
        json!({
            "name": at(remote, "hostname"), "type_id": 1, "type": "Hostname", "value": name,
        })
    }));
    if !alert.computer.is_empty() {
        all.push(json!({
            "name": "device.hostname", "type_id": 1, "type": "Hostname", "value": alert.computer,
        }));
    }
    json!(all)
}

/// What the indicator says.
fn osint(alert: &Alert) -> Value {
    let confidence = alert.confidence_score.map(Confidence::of);
    json!({
        "type_id": 1,
        "type": "IP Address",
        "value": alert.matched_prefix,
        "subnet": alert.matched_prefix,
        "name": alert.ti_ip_entity,
        "desc": alert.description,
        "category": alert.threat_type,
        "tlp": alert.tlp_level.to_ascii_uppercase(),
        "confidence_id": confidence.map_or(0, Confidence::number),
        "expiration_time": alert.expiration_date_time.map(Timestamp::as_millisecond),
        "external_uid": alert.indicator_id,
        "vendor_name": alert.feed,
        "src_url": alert.url,
        "intrusion_sets": [alert.activity_group_names],
    })
}

fn of_connection(row: &ConnectionRow) -> Value {
    let facts = Facts::of_row(row);
    let mut event = base(&TRAFFIC, row.time_generated, 1, &row.connection_id);
    let start = row.time_generated.as_millisecond();
    let (mut source, mut destination) = (endpoint(&facts, true), endpoint(&facts, false));
    let remote = if facts.is_inbound() { &mut source } else { &mut destination };
    let coordinates = row.remote_latitude.zip(row.remote_longitude);
    let location = json!({
        "lat": coordinates.map(|(lat, _)| lat),
        "long": coordinates.map(|(_, long)| long),
        "desc": row.remote_country,
    });
    set(remote, "location", location);
    if let Some(metadata) = event.get_mut("metadata") {
        set(metadata, "profiles", json!(["host"]));
    }
    let count = row.links_established.saturating_add(row.links_failed).max(1);
    for (key, value) in [
        ("start_time", json!(start)),
        ("end_time", json!(start.saturating_add(MINUTE))),
        ("duration", json!(MINUTE)),
        ("count", json!(count)),
        ("device", device(&row.computer, &row.machine)),
        ("connection_info", connection_info(&facts)),
        ("src_endpoint", source),
        ("dst_endpoint", destination),
        (
            "traffic",
            json!({
                "bytes": facts.forth.saturating_add(facts.back),
                "bytes_out": facts.forth,
                "bytes_in": facts.back,
            }),
        ),
        (
            "actor",
            json!({ "process": {
                "uid": row.process,
                "pid": row.process_id,
                "name": row.process_name,
                "path": row.process_path,
                "cmd_line": row.command_line,
                "user": { "name": row.user_name },
            }}),
        ),
        ("unmapped", unmapped_of_connection(row)),
    ] {
        set(&mut event, key, value);
    }
    event
}

fn unmapped_of_connection(row: &ConnectionRow) -> Value {
    json!({
        "links_established": row.links_established,
        "links_terminated": row.links_terminated,
        "links_failed": row.links_failed,
        "links_live": row.links_live,
        "responses": row.responses,
        "response_time_min": row.response_time_min,
        "response_time_max": row.response_time_max,
        "response_time_sum": row.response_time_sum,
        "rtt_min_us": row.rtt_min_us,
        "rtt_max_us": row.rtt_max_us,
        "remote_dns_canonical_names": row.remote_dns_canonical_names,
        "malicious_ip": row.malicious_ip,
        "indicator_threat_type": row.indicator_threat_type,
        "indicator_description": row.description,
        "indicator_confidence": row.confidence,
        "tlp_level": row.tlp_level,
        "parent_process_name": row.parent_process_name,
        "container_id": row.container_id,
    })
}

/// What every event has.
fn base(class: &Class, time: Timestamp, severity: u8, id: &str) -> Value {
    let (category_uid, category_name) = class.category;
    let (class_uid, class_name) = class.uid;
    let (activity_id, activity_name) = class.activity;
    let severities = ["Unknown", "Informational", "Low", "Medium", "High"];
    let version = env!("CARGO_PKG_VERSION");
    let product = json!({ "name": "netsensor", "vendor_name": "netsensor", "version": version });
    json!({
        "activity_id": activity_id,
        "activity_name": activity_name,
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": class_uid,
        "class_name": class_name,
        "type_uid": class_uid * 100 + activity_id,
        "type_name": format!("{class_name}: {activity_name}"),
        "severity_id": severity,
        "severity": severities.get(usize::from(severity)),
        "time": time.as_millisecond(),
        "metadata": { "version": VERSION, "uid": id, "product": product },
    })
}

/// The host; `machine` may be "".
fn device(computer: &str, machine: &str) -> Value {
    let (_, domain) = split_computer(computer);
    json!({ "type_id": 0, "type": "Unknown", "uid": machine, "hostname": computer, "domain": domain })
}

fn connection_info(facts: &Facts<'_>) -> Value {
    let (direction_id, direction) = match facts.direction {
        "inbound" => (1, "Inbound"),
        "outbound" => (2, "Outbound"),
        _ => (0, "Unknown"),
    };
    json!({
        "direction_id": direction_id,
        "direction": direction,
        "protocol_name": facts.protocol,
        "protocol_num": protocol_number(facts.protocol),
        "protocol_ver_id": facts.version().unwrap_or(0),
    })
}

/// The end that began, or the one that was called.
fn endpoint(facts: &Facts<'_>, is_source: bool) -> Value {
    let (address, port) = if is_source {
        (facts.source, facts.source_port)
    } else {
        (facts.destination, facts.destination_port)
    };
    let name = facts.names.first().filter(|_| facts.is_inbound() == is_source);
    json!({ "ip": address, "port": port, "hostname": name })
}

fn set(event: &mut Value, key: &str, value: Value) {
    if let Some(members) = event.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
}
