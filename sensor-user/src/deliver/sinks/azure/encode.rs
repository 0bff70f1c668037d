//! Records of a stream: only columns that a custom table may have, and no field over its limit.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::deliver::batch::BatchItem;
use crate::schema::{EVENT_TIME, custom_column};

/// Maximum size of one field, bytes.
const FIELD_MAX: usize = 64 << 10;

/// The items as one JSON array, and the number of truncated fields.
pub(super) fn array(items: &[&BatchItem]) -> (Vec<u8>, u64) {
    let mut body = vec![b'['];
    let mut truncated = 0;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let (record, its_truncated) = record(&item.line, item.time);
        truncated += its_truncated;
        // Writing to memory does not fail, and a map of JSON is JSON.
        let _written = serde_json::to_writer(&mut body, &record).is_ok();
    }
    body.push(b']');
    (body, truncated)
}

/// A line of JSON as a record, and the number of its truncated fields.
fn record(line: &str, time: Timestamp) -> (Map<String, Value>, u64) {
    let columns: Map<String, Value> = serde_json::from_str(line).unwrap_or_default();
    let mut record = Map::with_capacity(columns.len() + 2);
    let mut truncated = 0;
    for (name, mut value) in columns {
        let Some(name) = custom_column(&name) else { continue };
        // No field is longer than its line.
        if line.len() > FIELD_MAX && truncate(&mut value) {
            truncated += 1;
        }
        record.insert(name.to_owned(), value);
    }
    let time = Value::from(time.to_string());
    record.insert("TimeGenerated".to_owned(), time.clone());
    record.insert(EVENT_TIME.to_owned(), time);
    (record, truncated)
}

/// Truncates text at a character, and an array after an item. Returns true if anything was removed.
fn truncate(value: &mut Value) -> bool {
    match value {
        Value::String(text) if text.len() > FIELD_MAX => {
            text.truncate(text.floor_char_boundary(FIELD_MAX));
            true
        }
        Value::Array(items) => {
            let length = items.len();
            while !items.is_empty() && bytes(items) > FIELD_MAX {
                items.pop();
            }
            items.len() < length
        }
        _ => false,
    }
}

fn bytes(items: &[Value]) -> usize {
    serde_json::to_string(items).map_or(0, |text| text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_columns_that_a_custom_table_may_have() {
        let time: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let line =
            r#"{"AlertId":"a","Type":"T","_ResourceId":"/s","_IsBillable":"","Tactics":["x"]}"#;
        let (record, cut) = record(line, time);
        let want = serde_json::json!({
            "AlertId": "a",
            "ResourceId": "/s",
            "Tactics": ["x"],
            "TimeGenerated": "2026-11-24T10:00:00Z",
            "EventTime": "2026-11-24T10:00:00Z",
        });
        assert_eq!((Value::Object(record), cut), (want, 0));
    }

    #[test]
    fn long_fields_are_truncated_at_a_character_and_counted() {
        let long = "ä".repeat(40_000);
        let line = serde_json::json!({ "A": long, "B": "b", "C": [long, "c", long] }).to_string();
        let (record, cut) = record(&line, Timestamp::UNIX_EPOCH);
        assert_eq!(cut, 2);
        assert_eq!(record["A"].as_str().unwrap(), "ä".repeat(32_768));
        assert_eq!(record["B"], "b");
        assert_eq!(record["C"], serde_json::json!([]));
    }
}
