//! The otlp sink: log records of OpenTelemetry over HTTP, in the protocol's JSON encoding (names in
//! lower camel case, 64-bit numbers as text).
//!
//! The protocol forbids that records which a server rejects out of a request are sent again, and it
//! does not say which they are: they are counted (`otlp_records_rejected`) and told once.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::http_post::{Answer, Post, Poster, ServerConfig};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, Entry, Sent};
use crate::deliver::item::Item;
use crate::schema::agent_event::AgentEvent;
use crate::schema::health::HealthState;

/// Bytes of an answer at most: what the protocol recommends.
const MOST: usize = 4 << 20;

/// `kind = "otlp"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Where the server is; without a path, `/v1/logs` there.
    pub url: Url,
    /// `service.name`.
    pub service_name: String,
    /// How it is reached.
    pub server: ServerConfig,
}

impl OtlpConfig {
    /// `service.name` unless set.
    pub const SERVICE_NAME: &str = "netsensor";
}

/// Posts to one server.
#[derive(Debug)]
pub(crate) struct OtlpSink {
    poster: Poster,
    url: Url,
    service_name: String,
    quiet: LogThrottle,
    stats: Arc<Stats>,
}

impl OtlpSink {
    pub(crate) fn new(config: &OtlpConfig, stats: &Arc<Stats>) -> Self {
        let mut url = config.url.clone();
        if url.path() == "/" {
            url.set_path("/v1/logs");
        }
        Self {
            poster: Poster::new(&config.server),
            url,
            service_name: config.service_name.clone(),
            quiet: LogThrottle::new(),
            stats: Arc::clone(stats),
        }
    }

    pub(crate) async fn send(
        &self,
        batch: &Batch,
        clock: &dyn Clock,
    ) -> Result<Sent, DeliverError> {
        let body = self.request(batch, clock.now()).to_string().into_bytes();
        let post = Post::new(&self.url, "application/json", body).needs(MOST);
        let answer = self.poster.post(post, clock).await?;
        match answer.status {
            200..=299 => {
                self.note_rejected(&answer);
                Ok(Sent::default())
            }
            401 | 403 => Err(answer.held("check user, password, token and headers")),
            404 => Err(answer.held("check url")),
            429 | 502 | 503 | 504 | 413 | 400 => Err(answer.refusal()),
            // Not to be sent again, as it is: the protocol says so.
            status => {
                let why = format!("the answer is {status}: {}", answer.text());
                let rejected = (0..batch.len()).map(|index| (index, why.clone())).collect();
                Ok(Sent { rejected, ..Sent::default() })
            }
        }
    }

    /// `ExportLogsServiceRequest`.
    fn request(&self, batch: &Batch, now: Timestamp) -> Value {
        let mut resources: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
        for entry in batch.entries() {
            let resource = (entry.item.computer(), entry.item.agent_id());
            resources.entry(resource).or_default().push(record(entry, now));
        }
        let logs = resources.into_iter().map(|((computer, agent), records)| {
            let mut attributes = vec![
                attribute("service.name", &self.service_name.as_str().into()),
                attribute("service.version", &env!("CARGO_PKG_VERSION").into()),
                attribute("host.name", &computer.into()),
            ];
            if !agent.is_empty() {
                attributes.push(attribute("service.instance.id", &agent.into()));
            }
            let scope = json!({ "name": "netsensor", "version": env!("CARGO_PKG_VERSION") });
            json!({
                "resource": { "attributes": attributes },
                "scopeLogs": [{ "scope": scope, "logRecords": records }],
            })
        });
        json!({ "resourceLogs": logs.collect::<Vec<_>>() })
    }

    /// Counts what was rejected out of a request that was accepted.
    fn note_rejected(&self, answer: &Answer) {
        let Some((count, why)) = rejected(&answer.body) else { return };
        self.stats.otlp_records_rejected.add(count);
        if let Some(count) = self.quiet.admit(count, Instant::now()) {
            tracing::error!(count, server = answer.url, error = %why, "log records rejected");
        }
    }
}

/// `partialSuccess`: how many, and why; `None` for none.
fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let partial = answer.get("partialSuccess")?;
    let count = partial.get("rejectedLogRecords")?;
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    let why = partial.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
    (count > 0).then(|| (count, escaped(why, 300)))
}

/// A log record: the line is its body, the columns are its attributes.
fn record(entry: &Entry, now: Timestamp) -> Value {
    let (number, text) = severity(&entry.item);
    let columns: Map<String, Value> = serde_json::from_str(&entry.item.json()).unwrap_or_default();
    let mut attributes = vec![attribute("log.record.uid", &entry.id.as_str().into())];
    let known = columns.iter().filter(|(_, value)| !value.is_null());
    attributes.extend(known.map(|(name, value)| attribute(name, value)));
    json!({
        "timeUnixNano": entry.time.as_nanosecond().to_string(),
        "observedTimeUnixNano": now.as_nanosecond().to_string(),
        "severityNumber": number,
        "severityText": text,
        "eventName": event_name(&entry.item),
        "body": { "stringValue": entry.line },
        "attributes": attributes,
    })
}

/// `netsensor.alert`, `netsensor.vmconnection` and so on.
fn event_name(item: &Item) -> String {
    let name = item.type_name().to_ascii_lowercase();
    format!("netsensor.{}", name.strip_prefix("netsensor").unwrap_or(&name))
}

/// Number and word: INFO is 9, WARN 13, ERROR 17.
fn severity(item: &Item) -> (u8, &str) {
    match item {
        Item::Alert(alert) => {
            let number = match alert.severity.as_str() {
                "High" => 17,
                "Medium" => 14,
                "Low" => 13,
                _ => 9,
            };
            (number, &alert.severity)
        }
        Item::Row(_) => (9, "INFO"),
        Item::AgentEvent(notice) => match &**notice {
            AgentEvent::Health(change) if change.state == HealthState::Ok => (9, "INFO"),
            AgentEvent::Health(_) | AgentEvent::Loss(_) => (13, "WARN"),
        },
    }
}

/// `KeyValue`.
fn attribute(key: &str, value: &Value) -> Value {
    json!({ "key": key, "value": any(value) })
}

/// `AnyValue`.
fn any(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(truth) => json!({ "boolValue": truth }),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => json!({ "intValue": whole.to_string() }),
            None => json!({ "doubleValue": number.as_f64() }),
        },
        Value::String(text) => json!({ "stringValue": text }),
        Value::Array(items) => {
            json!({ "arrayValue": { "values": items.iter().map(any).collect::<Vec<_>>() } })
        }
        Value::Object(columns) => {
            let values = columns.iter().map(|(name, value)| attribute(name, value));
            json!({ "kvlistValue": { "values": values.collect::<Vec<_>>() } })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rejected_is_read_as_number_or_text() {
        for (answer, want) in [
            ("{}", None),
            ("", None),
            (r#"{"partialSuccess":{}}"#, None),
            (r#"{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":"slow down"}}"#, None),
            (r#"{"partialSuccess":{"rejectedLogRecords":2}}"#, Some((2, ""))),
            (
                r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too\nold"}}"#,
                Some((3, "too\\nold")),
            ),
        ] {
            let want = want.map(|(count, why)| (count, why.to_owned()));
            assert_eq!(rejected(answer.as_bytes()), want, "{answer}");
        }
    }

    #[test]
    fn values_are_told_in_the_words_of_the_protocol() {
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
            assert_eq!(any(&value), want, "{value}");
        }
    }

    #[test]
    fn the_path_is_added_where_there_is_none() {
        for (url, want) in [
            ("http://h:4318", "http://h:4318/v1/logs"),
            ("https://h/otlp/v1/logs", "https://h/otlp/v1/logs"),
        ] {
            let config = OtlpConfig {
                url: url.parse().unwrap(),
                service_name: OtlpConfig::SERVICE_NAME.to_owned(),
                server: ServerConfig::new(true),
            };
            assert_eq!(OtlpSink::new(&config, &Arc::default()).url.as_str(), want);
        }
    }
}
