//! `JsonDocument`: a JSON object whose fields are set by path. Empty values are left out.

use serde_json::{Map, Value, json};

/// A nested JSON object.
#[derive(Debug)]
pub(super) struct JsonDocument(Value);

impl JsonDocument {
    pub(super) fn new() -> Self {
        Self(Value::Object(Map::new()))
    }

    /// Sets the fields at `paths`, separated by spaces. The steps of a path are separated by dots:
    /// names of members, or `0` for the only item of an array. A value that is empty after pruning is
    /// not set.
    pub(super) fn set(&mut self, paths: &str, value: Value) {
        let value = pruned(value);
        if !is_empty(&value) {
            for path in paths.split(' ') {
                *path.split('.').fold(&mut self.0, member) = value.clone();
            }
        }
    }

    pub(super) fn into_value(self) -> Value {
        self.0
    }
}

fn member<'v>(parent: &'v mut Value, step: &str) -> &'v mut Value {
    if step == "0" {
        if !parent.is_array() {
            *parent = json!([null]);
        }
        &mut parent[0]
    } else {
        if !parent.is_object() {
            *parent = json!({});
        }
        &mut parent[step]
    }
}

/// Removes null, "", `[]` and `{}` at any depth.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().map(|(key, value)| (key, pruned(value)));
            Value::Object(kept.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(items) => {
            Value::Array(items.into_iter().map(pruned).filter(|item| !is_empty(item)).collect())
        }
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_makes_its_parents_and_empty_values_are_left_out() {
        let mut document = JsonDocument::new();
        for (path, value) in [
            ("a.b d", json!(1)),
            ("a.c", json!("")),
            ("list.0.name", json!("n")),
            ("list.0.parts", json!([null, { "x": [] }, "p"])),
            ("none.0.name", json!([{}])),
        ] {
            document.set(path, value);
        }
        let want = json!({ "a": { "b": 1 }, "d": 1, "list": [{ "name": "n", "parts": ["p"] }] });
        assert_eq!(document.into_value(), want);
    }
}
