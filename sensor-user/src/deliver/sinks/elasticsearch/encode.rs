//! Body of a `_bulk` request.

use serde_json::json;

use super::ElasticsearchConfig;
use crate::base::stable_id::stable_id;
use crate::deliver::batch::{Batch, BatchItem};
use crate::deliver::item::Item;

/// Maximum length of an `_id`, bytes.
const ID_MAX: usize = 512;

/// Two lines per item: the action and the document.
pub(super) fn bulk_body(config: &ElasticsearchConfig, batch: &Batch) -> Vec<u8> {
    let mut body = String::new();
    for item in &batch.items {
        let index = match &item.item {
            Item::Alert(_) => &config.alerts_index,
            Item::Row(_) => &config.rows_index,
            Item::AgentEvent(_) => &config.health_index,
        };
        let id = if item.id.len() <= ID_MAX { item.id.clone() } else { stable_id(&[&item.id]) };
        let action = json!({ "create": { "_index": index, "_id": id } }).to_string();
        body.extend([&*action, "\n"]);
        push_document(&mut body, item);
        body.push('\n');
    }
    body.into_bytes()
}

/// Appends the line, with the `@timestamp` that a data stream requires if the format has none.
fn push_document(body: &mut String, item: &BatchItem) {
    // The quotes would be escaped inside a text value.
    match item.line.strip_prefix('{') {
        Some(rest) if !item.line.contains("\"@timestamp\":") => {
            body.extend(["{\"@timestamp\":\"", &item.time.to_string(), "\",", rest]);
        }
        _ => body.push_str(&item.line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::batch::ItemKind;
    use crate::deliver::sinks::elasticsearch::bulk_url;
    use crate::deliver::sinks::http_client::ServerConfig;
    use crate::schema::agent_event::{AgentEvent, Loss};

    #[test]
    fn a_body_creates_each_document_once() {
        let config = ElasticsearchConfig {
            url: "https://h:9200/es/".parse().unwrap(),
            alerts_index: "a".to_owned(),
            rows_index: "r".to_owned(),
            health_index: "h".to_owned(),
            server: ServerConfig::new(true),
        };
        let url = bulk_url(&config.url);
        assert!(url.as_str().starts_with("https://h:9200/es/_bulk?filter_path="));
        let time = "2026-11-24T10:00:00Z".parse().unwrap();
        let item = Item::AgentEvent(
            AgentEvent::Loss(Loss {
                time_generated: time,
                computer: String::new(),
                agent_id: String::new(),
                first_seen: time,
                last_seen: time,
                reason: String::new(),
                kind: String::new(),
                count: 1,
            })
            .into(),
        );
        let id = item.id();
        let bare = BatchItem::new(item.clone(), 0, r#"{"a":"\"@timestamp\":"}"#.to_owned());
        let whole = BatchItem::new(item, 0, r#"{"x":1,"@timestamp":"y"}"#.to_owned());
        let batch = Batch::new(ItemKind::Rows, vec![bare, whole]);
        let action = format!("{{\"create\":{{\"_id\":\"{id}\",\"_index\":\"h\"}}}}\n");
        let want = format!(
            "{action}{{\"@timestamp\":\"2026-11-24T10:00:00Z\",\"a\":\"\\\"@timestamp\\\":\"}}\n\
             {action}{{\"x\":1,\"@timestamp\":\"y\"}}\n"
        );
        assert_eq!(String::from_utf8(bulk_body(&config, &batch)).unwrap(), want);
    }
}
