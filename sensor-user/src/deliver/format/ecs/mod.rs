//! Elastic Common Schema 9.4. What the schema has no field for stands under `netsensor`.
//!
//! The schema's own directions are used: a host's sensor says `ingress` and `egress`. `event.id` is
//! the item's id, so a store that is told to use it has each item once.

mod tables;

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::item::Item;
use super::facts::{
    Confidence, Facts, names, protocol_number, pruned, severity, tactic, technique,
};
use super::text::readable;
use crate::pipeline::dedup::{Alert, split_computer};
use crate::schema::{ConnectionRow, TableRow};

/// The version of the schema.
const VERSION: &str = "9.4.0";

/// Length of the time that a row tells of, nanoseconds.
const MINUTE: u64 = 60_000_000_000;

/// The item as a document.
pub(super) fn document(item: &Item) -> Value {
    let document = match item {
        Item::Alert(alert) => of_alert(alert),
        Item::AgentEvent(notice) => tables::of_notice(notice),
        Item::Row(row) => match &**row {
            TableRow::Connection(row) => of_connection(row),
            TableRow::BoundPort(row) => tables::of_bound_port(row),
            TableRow::Process(row) => tables::of_process(row),
            TableRow::Computer(row) => tables::of_computer(row),
        },
    };
    pruned(document)
}

fn of_alert(alert: &Alert) -> Value {
    let facts = Facts::of_alert(alert);
    let mut document = base(alert.vm_connection_time_generated, &alert.computer, "");
    set(&mut document, "message", json!(readable(alert)));
    let length = alert.last_seen.duration_since(alert.first_seen).as_nanos();
    set(
        &mut document,
        "event",
        json!({
            "id": alert.alert_id,
            "kind": "alert",
            "category": ["network"],
            "type": ["connection", "info"],
            "action": "threat-intelligence-match",
            "module": "netsensor",
            "provider": "netsensor",
            "dataset": "netsensor.alert",
            "severity": severity(&alert.severity),
            "start": alert.first_seen,
            "end": alert.last_seen,
            "duration": u64::try_from(length).unwrap_or(0),
        }),
    );
    set(&mut document, "rule", json!({ "id": alert.rule_id, "name": alert.rule_name }));
    add_connection(&mut document, &facts, &alert.user_name);
    set(
        &mut document,
        "process",
        json!({
            "pid": alert.process_id,
            "name": alert.process_name,
            "executable": alert.process_path,
            "command_line": alert.command_line,
            "parent": { "name": alert.parent_process_name },
        }),
    );
    set(&mut document, "user", json!({ "name": alert.user_name }));
    set(&mut document, "container", json!({ "id": alert.container_id }));
    set(&mut document, "threat", threat_of_alert(alert, facts.is_inbound()));
    set(
        &mut document,
        "netsensor",
        json!({
            "alert_kind": alert.alert_kind,
            "threat_type": alert.threat_type,
            "activity_groups": alert.activity_group_names,
            "matched_prefix": alert.matched_prefix,
            "via": alert.via,
            "attribution": alert.attribution,
            "indicator_expires": alert.expiration_date_time,
            "connections": alert.connection_count,
        }),
    );
    document
}

fn threat_of_alert(alert: &Alert, inbound: bool) -> Value {
    let (ids, words): (Vec<_>, Vec<_>) = alert.tactics.iter().map(|word| tactic(word)).unzip();
    let techniques: Vec<_> = alert.techniques.iter().map(|id| technique(id)).collect();
    let tlp = alert.tlp_level.to_ascii_uppercase();
    let known = ["WHITE", "CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"];
    let confidence = match alert.confidence_score {
        None => "Not Specified",
        Some(0.0) => "None",
        Some(score) => Confidence::of(score).word(),
    };
    json!({
        "framework": "MITRE ATT&CK",
        "tactic": { "id": ids, "name": words },
        "technique": { "id": alert.techniques, "name": techniques },
        "feed": { "name": alert.feed },
        "enrichments": [{
            "indicator": {
                "type": address_type(&alert.matched_prefix),
                "ip": single_address(&alert.matched_prefix),
                "name": alert.ti_ip_entity,
                "description": alert.description,
                "confidence": confidence,
                "provider": alert.feed,
                "url": { "full": alert.url },
                "marking": { "tlp": known.contains(&tlp.as_str()).then_some(tlp) },
                "sightings": alert.connection_count,
            },
            "matched": {
                "atomic": alert.matched_ip,
                "field": if inbound { "source.ip" } else { "destination.ip" },
                "id": alert.indicator_id,
                "occurred": alert.last_seen,
                "type": "indicator_match_rule",
            },
        }],
    })
}

fn of_connection(row: &ConnectionRow) -> Value {
    let facts = Facts::of_row(row);
    let mut document = base(row.time_generated, &row.computer, &row.agent_id);
    let mut types = vec!["connection", "info"];
    types.extend((row.links_established > 0).then_some("start"));
    types.extend((row.links_terminated > 0).then_some("end"));
    set(&mut document, "event", event(&row.connection_id, "connection", &["network"], &types));
    if let Some(event) = document.get_mut("event") {
        set(event, "start", json!(row.time_generated));
        set(event, "duration", json!(MINUTE));
    }
    add_connection(&mut document, &facts, &row.user_name);
    let remote = if facts.is_inbound() { "source" } else { "destination" };
    if let Some(end) = document.get_mut(remote) {
        let location = row.remote_latitude.zip(row.remote_longitude);
        let location = location.map(|(lat, lon)| json!({ "lat": lat, "lon": lon }));
        let geo = json!({ "country_name": row.remote_country, "location": location });
        set(end, "geo", geo);
    }
    set(
        &mut document,
        "process",
        json!({
            "entity_id": row.process,
            "pid": row.process_id,
            "name": row.process_name,
            "executable": row.process_path,
            "command_line": row.command_line,
            "parent": { "name": row.parent_process_name },
        }),
    );
    set(&mut document, "user", json!({ "name": row.user_name }));
    set(&mut document, "container", json!({ "id": row.container_id }));
    if !row.malicious_ip.is_empty() {
        set(&mut document, "threat", threat_of_row(row, facts.is_inbound()));
    }
    set(
        &mut document,
        "netsensor",
        json!({
            "machine": row.machine,
            "links": {
                "established": row.links_established,
                "terminated": row.links_terminated,
                "failed": row.links_failed,
                "live": row.links_live,
            },
            "responses": row.responses,
            "response_time_ms": {
                "min": row.response_time_min,
                "max": row.response_time_max,
                "sum": row.response_time_sum,
            },
            "rtt_us": { "min": row.rtt_min_us, "max": row.rtt_max_us },
            "canonical_names": names(&row.remote_dns_canonical_names),
        }),
    );
    document
}

/// What the malicious columns of a row say.
fn threat_of_row(row: &ConnectionRow, inbound: bool) -> Value {
    let confidence = row.confidence.parse::<f64>().ok().map(|score| Confidence::of(score).word());
    let date = |text: &str| text.parse::<Timestamp>().ok();
    json!({
        "enrichments": [{
            "indicator": {
                "type": address_type(&row.malicious_ip),
                "ip": single_address(&row.malicious_ip),
                "description": row.description,
                "confidence": confidence,
                "first_seen": date(&row.first_reported_date_time),
                "last_seen": date(&row.last_reported_date_time),
                "reference": row.report_reference_link,
            },
            "matched": {
                "atomic": row.malicious_ip,
                "field": if inbound { "source.ip" } else { "destination.ip" },
                "occurred": row.time_generated,
                "type": "indicator_match_rule",
            },
        }],
    })
}

/// What every document has.
fn base(time: Timestamp, computer: &str, agent_id: &str) -> Value {
    let (host_name, domain) = split_computer(computer);
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "@timestamp": time,
        "ecs": { "version": VERSION },
        "agent": { "id": agent_id, "type": "netsensor", "version": version },
        "host": { "name": computer, "hostname": host_name, "domain": domain },
    })
}

/// An event that is no alert.
fn event(id: &str, what: &str, category: &[&str], types: &[&str]) -> Value {
    json!({
        "id": id,
        "kind": "event",
        "category": category,
        "type": types,
        "module": "netsensor",
        "provider": "netsensor",
        "dataset": format!("netsensor.{what}"),
    })
}

/// `source`, `destination`, `network` and `related`.
fn add_connection(document: &mut Value, facts: &Facts<'_>, user: &str) {
    let name = facts.names.first();
    let (source_name, destination_name) =
        if facts.is_inbound() { (name, None) } else { (None, name) };
    set(
        document,
        "source",
        json!({
            "ip": facts.source,
            "port": facts.source_port,
            "domain": source_name,
            "bytes": facts.forth,
        }),
    );
    set(
        document,
        "destination",
        json!({
            "ip": facts.destination,
            "port": facts.destination_port,
            "domain": destination_name,
            "bytes": facts.back,
        }),
    );
    let direction = match facts.direction {
        "inbound" => "ingress",
        "outbound" => "egress",
        _ => "unknown",
    };
    set(
        document,
        "network",
        json!({
            "transport": facts.protocol,
            "type": facts.version().map(|version| format!("ipv{version}")),
            "iana_number": protocol_number(facts.protocol).map(|number| number.to_string()),
            "direction": direction,
            "bytes": facts.forth.saturating_add(facts.back),
        }),
    );
    let addresses: Vec<IpAddr> = facts.source.into_iter().chain(facts.destination).collect();
    set(document, "related", json!({ "ip": addresses, "hosts": facts.names, "user": [user] }));
}

/// The schema's type of an indicator that is an address or a network.
fn address_type(prefix: &str) -> Option<&'static str> {
    let network = network(prefix)?;
    Some(if network.addr().is_ipv4() { "ipv4-addr" } else { "ipv6-addr" })
}

/// The address of a prefix that holds one: the schema has no field for a network.
fn single_address(prefix: &str) -> Option<IpAddr> {
    network(prefix).filter(|it| it.prefix_len() == it.max_prefix_len()).map(|it| it.addr())
}

fn network(prefix: &str) -> Option<IpNet> {
    prefix.parse().ok().or_else(|| prefix.parse::<IpAddr>().ok().map(IpNet::from))
}

fn set(document: &mut Value, key: &str, value: Value) {
    if let Some(members) = document.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
}
