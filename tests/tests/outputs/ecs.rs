//! Elastic Common Schema: every field is a field of the schema with its type, or a field of
//! `netsensor`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use sensor_tests::servers::{run_tenzir, tenzir_binary};
use sensor_tests::skip_unless;
use sensor_user::deliver::Format;
use serde_json::{Value, json};

use super::{items, written};

/// The schema's fields, with type and array flag.
fn schema() -> BTreeMap<&'static str, (&'static str, bool)> {
    let text = include_str!("../../fixtures/ecs/fields.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| {
        let mut parts = line.split(' ');
        let (name, field_type) = (parts.next().unwrap(), parts.next().unwrap());
        (name, (field_type, parts.next() == Some("array")))
    });
    fields.collect()
}

/// Calls `visit` with the dotted name and value of each leaf.
fn leaves(prefix: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    let is_point = prefix.ends_with(".location");
    match value {
        Value::Object(members) if !is_point => {
            for (key, value) in members {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                leaves(&name, value, visit);
            }
        }
        Value::Array(items) if items.iter().all(Value::is_object) => {
            for item in items {
                leaves(prefix, item, visit);
            }
        }
        leaf => visit(prefix, leaf),
    }
}

fn is_of(field_type: &str, value: &Value) -> bool {
    match field_type {
        "keyword" | "wildcard" | "match_only_text" => value.is_string(),
        "long" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "date" => value.as_str().is_some_and(|text| text.parse::<Timestamp>().is_ok()),
        "ip" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        "geo_point" => value["lat"].is_f64() && value["lon"].is_f64(),
        other => panic!("unknown type {other}"),
    }
}

#[test]
fn every_field_is_in_the_schema() {
    let schema = schema();
    let (_folder, documents) = written(Format::Ecs);
    assert_eq!(documents.len(), items::total());
    let mut seen = BTreeSet::new();
    for document in &documents {
        leaves("", document, &mut |name, value| {
            if name.starts_with("netsensor.") {
                return;
            }
            let (field_type, several) = schema
                .get(name)
                .unwrap_or_else(|| panic!("{name} is not in the schema: {document}"));
            let values = match value {
                Value::Array(items) if *several => items.clone(),
                other => vec![other.clone()],
            };
            assert!(value.is_array() == *several, "{name} of {document}");
            for value in values {
                assert!(is_of(field_type, &value), "{name} is not of type {field_type}: {value}");
            }
            seen.insert(name.to_owned());
        });
    }
    // The fields that an alert of a detection needs.
    for name in [
        "threat.enrichments.indicator.ip",
        "threat.enrichments.matched.field",
        "threat.technique.id",
        "network.direction",
        "related.ip",
        "host.mac",
        "cloud.instance.id",
        "destination.geo.location",
        "process.parent.name",
    ] {
        assert!(seen.contains(name), "{name} is in no document: {seen:?}");
    }
}

#[test]
fn an_alert_has_the_values_of_its_detection() {
    let (_folder, documents) = written(Format::Ecs);
    let of = |id: &str| documents.iter().find(|it| it["event"]["id"] == id).unwrap();
    let new = of("alert-new");
    for (path, value) in [
        ("/@timestamp", json!("2026-11-24T10:00:00.123456Z")),
        ("/ecs/version", json!("9.4.0")),
        ("/event/kind", json!("alert")),
        ("/event/severity", json!(3)),
        ("/event/duration", json!(1_123_456_000)),
        ("/source/ip", json!("10.0.0.5")),
        ("/source/port", json!(43210)),
        ("/source/bytes", json!(10)),
        ("/destination/bytes", json!(20)),
        ("/destination/domain", json!("c2.example")),
        ("/network/direction", json!("egress")),
        ("/network/iana_number", json!("6")),
        ("/network/type", json!("ipv4")),
        ("/threat/enrichments/0/indicator/ip", json!("203.0.113.7")),
        ("/threat/enrichments/0/indicator/confidence", json!("High")),
        ("/threat/enrichments/0/indicator/marking/tlp", json!("AMBER")),
        ("/threat/enrichments/0/matched/atomic", json!("203.0.113.7")),
        ("/threat/enrichments/0/matched/field", json!("destination.ip")),
        ("/threat/tactic/id", json!(["TA0011"])),
        ("/threat/technique/id", json!(["T1071"])),
        ("/process/pid", json!(4711)),
        ("/container/id", json!("0123456789ab")),
        ("/related/ip", json!(["10.0.0.5", "203.0.113.7"])),
    ] {
        assert_eq!(new.pointer(path), Some(&value), "{path} of {new}");
    }
    let summary = of("alert-summary");
    for (path, value) in [
        ("/network/direction", json!("ingress")),
        ("/network/type", json!("ipv6")),
        // The source is the remote end: it sent the bytes that the host received.
        ("/source/bytes", json!(20)),
        ("/source/domain", json!("c2.example")),
        ("/threat/enrichments/0/matched/field", json!("source.ip")),
        ("/netsensor/connections", json!(12)),
    ] {
        assert_eq!(summary.pointer(path), Some(&value), "{path} of {summary}");
    }
    // A network does not fit in a field for one address.
    assert_eq!(summary.pointer("/threat/enrichments/0/indicator/ip"), None);
    assert_eq!(of("alert-bare").pointer("/process"), None);
}

#[test]
fn tenzir_reads_the_documents_without_a_warning() {
    let program = tenzir_binary();
    if skip_unless(program.is_some(), "tenzir is missing: run cargo xtask test") {
        return;
    }
    let (folder, documents) = written(Format::Ecs);
    let path = folder.path().join("lines");
    let read = run_tenzir(&program.unwrap(), &path, "select id=event.id, kind=event.kind");
    assert_eq!(read.diagnostics, "");
    let expected: Vec<_> = documents
        .iter()
        .map(|it| json!({ "id": it["event"]["id"], "kind": it["event"]["kind"] }))
        .collect();
    assert_eq!(read.lines, expected);
}
