//! Elastic Common Schema 9.4. Facts without a field in the schema are under `netsensor`.
//!
//! Directions are those of a host's sensor: `ingress` and `egress`. `event.id` is the item's id, so
//! a store that uses it as the document id has each item once.

use serde_json::{Value, json};

use super::Format;
use super::document::JsonDocument;
use super::facts::FactWriter;
use crate::deliver::item::Item;
use crate::schema::TableRow;
use crate::schema::agent_event::AgentEvent;

/// Version of the schema.
const VERSION: &str = "9.4.0";

/// Returns the item as a document.
pub(super) fn document(item: &Item) -> Value {
    let mut document = JsonDocument::new();
    let (kind, dataset, category, types) = match item {
        Item::Alert(_) => ("alert", "alert", "network", vec!["connection", "info"]),
        Item::AgentEvent(event) => match &**event {
            AgentEvent::Loss(_) => ("event", "loss", "", vec!["error"]),
            AgentEvent::Health(_) => ("event", "health", "", vec!["change"]),
        },
        Item::Row(row) => match &**row {
            TableRow::Connection(row) => {
                let mut types = vec!["connection", "info"];
                types.extend((row.links_established > 0).then_some("start"));
                types.extend((row.links_terminated > 0).then_some("end"));
                ("event", "connection", "network", types)
            }
            TableRow::BoundPort(_) => ("event", "bound_port", "host", vec!["info"]),
            TableRow::Process(_) => ("event", "process", "process", vec!["info"]),
            TableRow::Computer(_) => ("event", "computer", "host", vec!["info"]),
        },
    };
    let is_alert = matches!(item, Item::Alert(_));
    for (path, value) in [
        ("ecs.version", json!(VERSION)),
        ("agent.type", json!("netsensor")),
        ("agent.version", json!(env!("CARGO_PKG_VERSION"))),
        ("event.kind", json!(kind)),
        ("event.category", json!([category])),
        ("event.type", json!(types)),
        ("event.module", json!("netsensor")),
        ("event.provider", json!("netsensor")),
        ("event.severity", json!(is_alert.then(|| item.severity().id()))),
        ("event.dataset", json!(format!("netsensor.{dataset}"))),
    ] {
        document.set(path, value);
    }
    FactWriter::new(Format::Ecs, &mut |path, value| document.set(path, value)).item(item);
    document.into_value()
}
