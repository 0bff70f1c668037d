//! Open Cybersecurity Schema Framework 1.8. Classes: Detection Finding (2004) with the profile
//! `osint` for alerts, Network Activity (4001) for `VMConnection` (Traffic) and `VMBoundPort`
//! (Listen), Process Query (5015) for `VMProcess`, Device Inventory Info (5001) for `VMComputer`,
//! Base Event (0) for agent events.
//!
//! Times are milliseconds since 1970. `metadata.uid` is the item's id. Facts without an attribute in
//! the schema are under `unmapped`.

use serde_json::{Value, json};

use super::Format;
use super::document::JsonDocument;
use super::facts::FactWriter;
use crate::deliver::item::Item;
use crate::pipeline::dedup::AlertKind;
use crate::schema::TableRow;

/// Version of the schema.
const VERSION: &str = "1.8.0";

/// Id and name of a category, class or activity.
struct Named(u32, &'static str);

/// Returns the category, class and activity of an item.
fn class(item: &Item) -> [Named; 3] {
    let finding = |activity| [Named(2, "Findings"), Named(2004, "Detection Finding"), activity];
    let network =
        |activity| [Named(4, "Network Activity"), Named(4001, "Network Activity"), activity];
    let discovery = |class, activity| [Named(5, "Discovery"), class, activity];
    match item {
        Item::Alert(alert) if alert.alert_kind == AlertKind::Summary => finding(Named(2, "Update")),
        Item::Alert(_) => finding(Named(1, "Create")),
        Item::AgentEvent(_) => {
            [Named(0, "Uncategorized"), Named(0, "Base Event"), Named(99, "Other")]
        }
        Item::Row(row) => match &**row {
            TableRow::Connection(_) => network(Named(6, "Traffic")),
            TableRow::BoundPort(_) => network(Named(7, "Listen")),
            TableRow::Process(_) => discovery(Named(5015, "Process Query"), Named(1, "Query")),
            TableRow::Computer(_) => {
                discovery(Named(5001, "Device Inventory Info"), Named(2, "Collect"))
            }
        },
    }
}

/// Returns the item as an event.
pub(super) fn event(item: &Item) -> Value {
    let mut event = JsonDocument::new();
    let [category, class, activity] = class(item);
    let severity_id = item.severity().id();
    let severities = ["Unknown", "Informational", "Low", "Medium", "High"];
    // `device` belongs to the class itself in an inventory, and to the profile `host` elsewhere.
    let profile = match item {
        Item::Alert(_) => "osint",
        Item::Row(row) if matches!(**row, TableRow::Computer(_)) => "",
        Item::Row(_) | Item::AgentEvent(_) => "host",
    };
    for (path, value) in [
        ("category_uid", json!(category.0)),
        ("category_name", json!(category.1)),
        ("class_uid", json!(class.0)),
        ("class_name", json!(class.1)),
        ("activity_id", json!(activity.0)),
        ("activity_name", json!(activity.1)),
        ("type_uid", json!(class.0 * 100 + activity.0)),
        ("type_name", json!(format!("{}: {}", class.1, activity.1))),
        ("severity_id", json!(severity_id)),
        ("severity", json!(severities.get(usize::from(severity_id)))),
        ("metadata.version", json!(VERSION)),
        ("metadata.profiles", json!([profile])),
        ("metadata.product.name", json!("netsensor")),
        ("metadata.product.vendor_name", json!("netsensor")),
        ("metadata.product.version", json!(env!("CARGO_PKG_VERSION"))),
    ] {
        event.set(path, value);
    }
    FactWriter::new(Format::Ocsf, &mut |path, value| event.set(path, value)).item(item);
    event.into_value()
}
