//! `ExportLogsServiceRequest` in JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::deliver::batch::{Batch, BatchItem};
use crate::deliver::item::{Item, Severity};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The items of `batch` as log records, by resource.
pub(super) fn export_request(service_name: &str, batch: &Batch, now: Timestamp) -> Value {
    let mut resources: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    for item in &batch.items {
        let resource = (item.item.computer(), item.item.agent_id());
        resources.entry(resource).or_default().push(log_record(item, now));
    }
    let logs = resources.into_iter().map(|((computer, agent), records)| {
        let mut attributes = vec![
            key_value("service.name", &service_name.into()),
            key_value("service.version", &VERSION.into()),
            key_value("host.name", &computer.into()),
        ];
        if !agent.is_empty() {
            attributes.push(key_value("service.instance.id", &agent.into()));
        }
        let scope = json!({ "name": "netsensor", "version": VERSION });
        json!({
            "resource": { "attributes": attributes },
            "scopeLogs": [{ "scope": scope, "logRecords": records }],
        })
    });
    json!({ "resourceLogs": logs.collect::<Value>() })
}

/// A log record: the line is its body, the columns are its attributes.
fn log_record(item: &BatchItem, now: Timestamp) -> Value {
    let (number, text) = severity(&item.item);
    let columns: Map<String, Value> = serde_json::from_str(&item.item.json()).unwrap_or_default();
    let id = key_value("log.record.uid", &item.id.as_str().into());
    let columns = columns.iter().filter(|(_, value)| !value.is_null());
    let columns = columns.map(|(name, value)| key_value(name, value));
    json!({
        "timeUnixNano": item.time.as_nanosecond().to_string(),
        "observedTimeUnixNano": now.as_nanosecond().to_string(),
        "severityNumber": number,
        "severityText": text,
        "eventName": format!("netsensor.{}", item.item.short_type_name()),
        "body": { "stringValue": item.line },
        "attributes": std::iter::once(id).chain(columns).collect::<Value>(),
    })
}

/// `SeverityNumber` and text: INFO is 9, WARN 13, ERROR 17. An alert keeps its own text.
fn severity(item: &Item) -> (u8, &str) {
    let (number, text) = match item.severity() {
        Severity::High => (17, "ERROR"),
        Severity::Medium => (14, "WARN"),
        Severity::Low | Severity::Warning => (13, "WARN"),
        Severity::Informational | Severity::Unknown => (9, "INFO"),
    };
    if let Item::Alert(alert) = item { (number, &alert.severity) } else { (number, text) }
}

/// `KeyValue`.
fn key_value(key: &str, value: &Value) -> Value {
    json!({ "key": key, "value": any_value(value) })
}

/// `AnyValue`.
fn any_value(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(truth) => json!({ "boolValue": truth }),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => json!({ "intValue": whole.to_string() }),
            None => json!({ "doubleValue": number.as_f64() }),
        },
        Value::String(text) => json!({ "stringValue": text }),
        Value::Array(items) => {
            json!({ "arrayValue": { "values": items.iter().map(any_value).collect::<Value>() } })
        }
        Value::Object(members) => {
            let values = members.iter().map(|(name, value)| key_value(name, value));
            json!({ "kvlistValue": { "values": values.collect::<Value>() } })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_any_value() {
        for (value, want) in [
            (json!("a"), json!({ "stringValue": "a" })),
            (json!(5), json!({ "intValue": "5" })),
            (json!(-5), json!({ "intValue": "-5" })),
            (json!(1.5), json!({ "doubleValue": 1.5 })),
            (json!(u64::MAX), json!({ "doubleValue": 18_446_744_073_709_551_615.0 })),
            (json!(true), json!({ "boolValue": true })),
            (json!(["a"]), json!({ "arrayValue": { "values": [{ "stringValue": "a" }] } })),
            (
                json!({ "a": 1 }),
                json!({ "kvlistValue": { "values": [{ "key": "a", "value": { "intValue": "1" } }] } }),
            ),
        ] {
            assert_eq!(any_value(&value), want, "{value}");
        }
    }
}
