//! Events of the HTTP Event Collector.

use serde::Serialize;
use serde_json::value::RawValue;

use super::SplunkConfig;
use crate::deliver::batch::Batch;

/// An event.
#[derive(Debug, Serialize)]
struct Event<'e> {
    /// Seconds since 1970.
    time: f64,
    host: &'e str,
    source: &'e str,
    sourcetype: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<&'e str>,
    #[serde(rename = "event")]
    body: EventBody<'e>,
}

/// JSON as it is, or other text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum EventBody<'e> {
    Json(&'e RawValue),
    Text(&'e str),
}

/// The items of `batch` as concatenated JSON objects.
pub(super) fn events(config: &SplunkConfig, batch: &Batch) -> Vec<u8> {
    let mut body = Vec::new();
    for item in &batch.items {
        let default_sourcetype = format!("netsensor:{}", item.item.short_type_name());
        let json = serde_json::from_str(&item.line);
        let event = Event {
            time: item.time.as_duration().as_secs_f64(),
            host: item.item.computer(),
            source: &config.source,
            sourcetype: config.sourcetype.as_deref().unwrap_or(&default_sourcetype),
            index: config.index.as_deref(),
            body: json.map_or_else(|_no_json| EventBody::Text(&item.line), EventBody::Json),
        };
        // Writing to memory does not fail, and a line of JSON is JSON.
        let _written = serde_json::to_writer(&mut body, &event).is_ok();
        body.push(b'\n');
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::batch::{BatchItem, ItemKind};
    use crate::deliver::item::Item;
    use crate::deliver::sinks::splunk::tests::config;
    use crate::schema::agent_event::{AgentEvent, Loss};

    #[test]
    fn an_event_has_its_time_and_the_configured_fields() {
        let time = "2026-11-24T10:00:00.250Z".parse().unwrap();
        let loss = AgentEvent::Loss(Loss {
            time_generated: time,
            computer: "web01".to_owned(),
            agent_id: String::new(),
            first_seen: time,
            last_seen: time,
            reason: "ring_full".to_owned(),
            kind: "tcp".to_owned(),
            count: 1,
        });
        let item = Item::AgentEvent(loss.into());
        let json = BatchItem::new(item.clone(), 0, r#"{"a":1}"#.to_owned());
        let text = BatchItem::new(item, 0, "CEF:0|x".to_owned());
        let batch = Batch::new(ItemKind::Rows, vec![json, text]);
        let body = String::from_utf8(events(&config("http://h/"), &batch)).unwrap();
        let head = r#"{"time":1795514400.25,"host":"web01","source":"netsensor","sourcetype":"netsensor:loss","#;
        let want = format!("{head}\"event\":{{\"a\":1}}}}\n{head}\"event\":\"CEF:0|x\"}}\n");
        assert_eq!(body, want);
        let mut custom = config("http://h/");
        custom.index = Some("main".to_owned());
        custom.sourcetype = Some("own".to_owned());
        let body = String::from_utf8(events(&custom, &batch)).unwrap();
        assert!(body.contains(r#""sourcetype":"own","index":"main","event""#), "{body}");
    }
}
