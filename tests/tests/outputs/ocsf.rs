//! Open Cybersecurity Schema Framework: Tenzir casts every event to the schema without a warning,
//! and derives the names of its enumerations.

use std::collections::BTreeMap;

use sensor_tests::servers::{run_tenzir, tenzir_binary};
use sensor_tests::skip_unless;
use sensor_user::deliver::Format;
use serde_json::{Value, json};

use super::{items, written};

/// Converts timestamps to text, because Tenzir keeps numbers as numbers.
fn with_times(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value.as_i64() {
                    Some(time) if key == "time" || key.ends_with("_time") => {
                        let time = jiff::Timestamp::from_millisecond(time).unwrap();
                        *value = json!(time);
                    }
                    _ => with_times(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(with_times),
        _ => {}
    }
}

/// Tenzir parses text as an address if it can, although the schema requires text.
const CAST: &str = "
if this.has(\"osint\") {
  osint = osint.map(it => {...it, value: string(it.value), name: string(it.name)})
}
if this.has(\"observables\") {
  observables = observables.map(it => {...it, value: string(it.value)})
}
ocsf_derive
ocsf_cast null_fill=false";

#[test]
fn tenzir_casts_every_event_without_a_warning() {
    let program = tenzir_binary();
    if skip_unless(program.is_some(), "tenzir is missing: run cargo xtask test") {
        return;
    }
    let program = program.unwrap();
    let (folder, events) = written(Format::Ocsf);
    assert_eq!(events.len(), items::total());
    let mut by_id = BTreeMap::new();
    let mut text = String::new();
    for mut event in events {
        let unmapped = event.as_object_mut().unwrap().remove("unmapped");
        with_times(&mut event);
        text.push_str(&event.to_string());
        text.push('\n');
        assert!(unmapped.is_none_or(|it| it.is_object()), "{event}");
        by_id.insert(event["metadata"]["uid"].as_str().unwrap().to_owned(), event);
    }
    let path = folder.path().join("cast");
    std::fs::write(&path, text).unwrap();
    let read = run_tenzir(&program, &path, CAST);
    assert_eq!(read.diagnostics, "");
    assert_eq!(read.lines.len(), by_id.len());
    for cast in &read.lines {
        let sent = &by_id[cast["metadata"]["uid"].as_str().unwrap()];
        // No field was dropped or changed.
        contains(cast, sent, "");
    }
}

/// Asserts that `cast` has everything in `sent`; Tenzir may have added names.
fn contains(cast: &Value, sent: &Value, path: &str) {
    match (cast, sent) {
        (Value::Object(cast), Value::Object(sent)) => {
            for (key, value) in sent {
                let path = format!("{path}.{key}");
                contains(
                    cast.get(key).unwrap_or_else(|| panic!("{path} is missing")),
                    value,
                    &path,
                );
            }
        }
        (Value::Array(cast), Value::Array(sent)) => {
            assert_eq!(cast.len(), sent.len(), "{path}");
            for (cast, sent) in cast.iter().zip(sent) {
                contains(cast, sent, path);
            }
        }
        (Value::Number(cast), Value::Number(sent)) => {
            assert_eq!(cast.as_f64(), sent.as_f64(), "{path}");
        }
        (cast, sent) => assert_eq!(cast, sent, "{path}"),
    }
}

#[test]
fn an_alert_has_the_values_of_its_detection() {
    let (_folder, events) = written(Format::Ocsf);
    let of = |id: &str| events.iter().find(|it| it["metadata"]["uid"] == id).unwrap();
    let new = of("alert-new");
    for (path, value) in [
        ("/class_uid", json!(2004)),
        ("/type_uid", json!(200_401)),
        ("/time", json!(1_795_514_400_123_i64)),
        ("/is_alert", json!(true)),
        ("/severity_id", json!(3)),
        ("/confidence_id", json!(3)),
        ("/confidence_score", json!(80)),
        ("/finding_info/uid", json!("alert-new")),
        ("/finding_info/attacks/0/technique/uid", json!("T1071")),
        ("/finding_info/attacks/0/tactic/uid", json!("TA0011")),
        ("/evidences/0/dst_endpoint/ip", json!("203.0.113.7")),
        ("/evidences/0/connection_info/direction_id", json!(2)),
        ("/evidences/0/process/pid", json!(4711)),
        ("/observables/0/value", json!("203.0.113.7")),
        ("/observables/0/type_id", json!(2)),
        ("/osint/0/value", json!("203.0.113.7/32")),
        ("/osint/0/tlp", json!("AMBER")),
        ("/metadata/profiles", json!(["osint"])),
    ] {
        assert_eq!(new.pointer(path), Some(&value), "{path} of {new}");
    }
    assert_eq!(of("alert-summary")["type_uid"], 200_402);
    assert_eq!(of("alert-retro")["type_uid"], 200_401);
    let row = of("row-full");
    for (path, value) in [
        ("/type_uid", json!(400_106)),
        ("/traffic/bytes_out", json!(1000)),
        ("/traffic/bytes_in", json!(2000)),
        ("/count", json!(4)),
        ("/end_time", json!(1_795_514_520_000_i64)),
        ("/unmapped/links_failed", json!(3)),
    ] {
        assert_eq!(row.pointer(path), Some(&value), "{path} of {row}");
    }
}
