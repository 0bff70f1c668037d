//! Records: items as a stream takes them: columns that a custom table may have, and fields that
//! are not too long for it.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::deliver::batch::Entry;
use crate::schema::{EVENT_TIME, custom_column};

/// Bytes of one field at most.
const MOST: usize = 64 << 10;

/// The entries as one JSON array, and how many fields were cut.
pub(super) fn array(entries: &[&Entry]) -> (Vec<u8>, u64) {
    let mut body = vec![b'['];
    let mut cut = 0;
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let (record, its_cut) = record(&entry.line, entry.time);
        cut += its_cut;
        // Writing to memory does not fail, and a map of JSON is JSON.
        let _written = serde_json::to_writer(&mut body, &record).is_ok();
    }
    body.push(b']');
    (body, cut)
}

/// A line of JSON as a record, and how many of its fields were cut.
fn record(line: &str, time: Timestamp) -> (Map<String, Value>, u64) {
    let columns: Map<String, Value> = serde_json::from_str(line).unwrap_or_default();
    let mut record = Map::with_capacity(columns.len() + 2);
    let mut cut = 0;
    for (name, mut value) in columns {
        let Some(name) = custom_column(&name) else { continue };
        // No field is longer than its line.
        if line.len() > MOST && shorten(&mut value) {
            cut += 1;
        }
        record.insert(name.to_owned(), value);
    }
    let time = Value::from(time.to_string());
    record.insert("TimeGenerated".to_owned(), time.clone());
    record.insert(EVENT_TIME.to_owned(), time);
    (record, cut)
}

/// Cuts text at a character, and an array after an item; whether it had to.
fn shorten(value: &mut Value) -> bool {
    match value {
        Value::String(text) if text.len() > MOST => {
            text.truncate(text.floor_char_boundary(MOST));
            true
        }
        Value::Array(items) => {
            let mut is_cut = false;
            while !items.is_empty() && bytes(items) > MOST {
                items.pop();
                is_cut = true;
            }
            is_cut
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
    fn long_fields_are_cut_at_a_character_and_counted() {
        let long = "ä".repeat(40_000);
        let line = serde_json::json!({ "A": long, "B": "b", "C": [long, "c", long] }).to_string();
        let (record, cut) = record(&line, Timestamp::UNIX_EPOCH);
        assert_eq!(cut, 2);
        assert_eq!(record["A"].as_str().unwrap(), "ä".repeat(32_768));
        assert_eq!(record["B"], "b");
        assert_eq!(record["C"], serde_json::json!([]));
    }
}
