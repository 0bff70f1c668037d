//! JSON Schema of the configuration file, for editors.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::{Key, KeyDefault, SectionKeys, declarations};

/// JSON Schema (draft 2020-12) of the configuration file.
pub(super) fn config_schema() -> Value {
    let mut definitions = Definitions(Map::new());
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
        "$defs": definitions.0,
    })
}

/// Schemas of keys, each once for all kinds that share it.
struct Definitions(Map<String, Value>);

impl Definitions {
    /// The schema of a section, or of one kind of it.
    fn section(&mut self, section: &SectionKeys) -> Value {
        let mut properties = Map::new();
        let (mut required, mut any_of) = (Vec::new(), Vec::new());
        let mut dependent = BTreeMap::<&str, Vec<&str>>::new();
        let mut depend = |key, other| dependent.entry(key).or_default().push(other);
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
            properties.insert(key.name.to_owned(), self.reference(section, key));
        }
        for (key, other) in &section.dependencies {
            depend(key, other);
        }
        if let (Some(kind), Some(schema)) = (section.kind, properties.get_mut("kind")) {
            *schema = json!({ "allOf": [schema.take()], "const": kind });
        }
        let mut schema = json!({
            "title": section.kind.map_or_else(String::new, |kind| format!("kind = \"{kind}\"")),
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "required": required,
            "allOf": any_of,
            "dependentRequired": dependent,
        });
        if let Value::Object(schema) = &mut schema {
            schema.retain(|_, value| ![json!(""), json!([]), json!({})].contains(value));
        }
        schema
    }

    /// A reference to the schema of a key.
    fn reference(&mut self, section: &SectionKeys, key: &Key) -> Value {
        let schema = key_schema(key);
        let plain = format!("{}.{}", section.section, key.name);
        let name = match self.0.get(&plain) {
            Some(known) if *known != schema => {
                format!("{plain}.{}", section.kind.unwrap_or_default())
            }
            _ => plain,
        };
        let reference = json!({ "$ref": format!("#/$defs/{name}") });
        self.0.insert(name, schema);
        reference
    }
}

/// The schema of the values of a key.
fn key_schema(key: &Key) -> Value {
    let restart = if key.reloads { "" } else { " A change takes effect after a restart." };
    let text = format!("{} Accepts {}.{restart}", key.meaning, key.accepts);
    let mut schema = key.schema.as_object().cloned().unwrap_or_default();
    schema.insert("description".to_owned(), json!(text));
    if let KeyDefault::Value(default) = &key.default {
        schema.insert("default".to_owned(), default.clone());
    }
    Value::Object(schema)
}
