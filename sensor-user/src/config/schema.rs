//! JSON Schema of the configuration file, for editors.

use serde_json::{Map, Value, json};

use super::document::declarations;
use super::key::{Key, KeyDefault, SectionKeys};

/// JSON Schema (draft 2020-12) of the configuration file.
pub fn schema() -> Value {
    let mut definitions = Definitions { schemas: Map::new() };
    let mut sections = Map::new();
    for section in &declarations() {
        let table = definitions.section(section);
        let name = section.section.to_owned();
        if !section.is_list {
            sections.insert(name, table);
            continue;
        }
        let list = sections.entry(name).or_insert_with(
            || json!({ "type": "array", "items": { "type": "object", "oneOf": [] } }),
        );
        if let Some(Value::Array(kinds)) = list.pointer_mut("/items/oneOf") {
            kinds.push(table);
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of netsensor",
        "type": "object",
        "properties": sections,
        "additionalProperties": false,
        "$defs": definitions.schemas,
    })
}

/// Schemas of keys, each once for all kinds that share it.
struct Definitions {
    schemas: Map<String, Value>,
}

impl Definitions {
    /// The schema of a section, or of one kind of it.
    fn section(&mut self, section: &SectionKeys) -> Value {
        let mut properties = Map::new();
        let (mut required, mut any_of) = (Vec::new(), Vec::new());
        let mut dependent = Map::new();
        let mut depend = |key: &str, other: &str| {
            if let Value::Array(others) = dependent.entry(key).or_insert_with(|| json!([])) {
                others.push(json!(other));
            }
        };
        for key in &section.keys {
            match key.default {
                KeyDefault::Required => required.push(key.name),
                KeyDefault::RequiredWith { with } => {
                    depend(with, key.name);
                    depend(key.name, with);
                }
                KeyDefault::RequiredWithout { without } => any_of.push(json!({
                    "anyOf": [{ "required": [key.name] }, { "required": [without] }]
                })),
                KeyDefault::Value(_) | KeyDefault::Text(_) => {}
            }
            properties.insert(key.name.to_owned(), self.key(section, key));
        }
        for (key, other) in &section.dependencies {
            depend(key, other);
        }
        let mut schema = json!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if let Some(kind) = section.kind {
            schema["title"] = json!(format!("{} of kind {kind}", section.section));
            schema["properties"]["kind"]["const"] = json!(kind);
        }
        for (name, value) in [("required", json!(required)), ("allOf", json!(any_of))] {
            if value != json!([]) {
                schema[name] = value;
            }
        }
        if !dependent.is_empty() {
            schema["dependentRequired"] = Value::Object(dependent);
        }
        schema
    }

    /// A reference to the schema of a key.
    fn key(&mut self, section: &SectionKeys, key: &Key) -> Value {
        let schema = key_schema(key);
        let plain = format!("{}.{}", section.section, key.name);
        let name = match self.schemas.get(&plain) {
            Some(known) if *known != schema => {
                format!("{plain}.{}", section.kind.unwrap_or_default())
            }
            _ => plain,
        };
        let reference = json!({ "$ref": format!("#/$defs/{name}") });
        self.schemas.insert(name, schema);
        reference
    }
}

/// The schema of the values of a key.
fn key_schema(key: &Key) -> Value {
    let mut schema = key.schema.clone();
    let restart = if key.reloads { "" } else { " A change takes effect after a restart." };
    let text = format!("{} Accepts {}.{restart}", key.meaning, key.accepts);
    schema["description"] = json!(text);
    if let KeyDefault::Value(default) = &key.default {
        schema["default"] = default.clone();
    }
    schema
}
