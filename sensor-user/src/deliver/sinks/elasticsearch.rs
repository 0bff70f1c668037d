//! The elasticsearch sink: `_bulk` of Elasticsearch and `OpenSearch`.
//!
//! Documents are made with `create` under their own id, so that one that is there already (409) was
//! delivered before. Each item of an answer is judged by itself.

use std::collections::HashMap;

use reqwest::Url;
use serde::Deserialize;
use serde_json::json;

use super::http_post::{Answer, Post, Poster, ServerConfig};
use crate::base::clock::Clock;
use crate::base::escape::escaped;
use crate::base::stable_id::stable_id;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, Entry, Sent};
use crate::deliver::item::Item;

/// Bytes of an answer at most: some hundred for each of 10,000 items.
const MOST: usize = 16 << 20;
/// Bytes of an `_id` at most.
const MOST_ID: usize = 512;

/// `kind = "elasticsearch"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticsearchConfig {
    /// Where the server is.
    pub url: Url,
    /// Index or data stream of alerts.
    pub alerts_index: String,
    /// That of rows.
    pub rows_index: String,
    /// That of what the agent says of itself.
    pub health_index: String,
    /// How it is reached.
    pub server: ServerConfig,
}

impl ElasticsearchConfig {
    /// Index or data stream of alerts unless set.
    pub const ALERTS_INDEX: &str = "logs-netsensor.alert-default";
    /// That of rows unless set.
    pub const ROWS_INDEX: &str = "logs-netsensor.row-default";
    /// That of what the agent says of itself unless set.
    pub const HEALTH_INDEX: &str = "logs-netsensor.health-default";
}

/// Posts to one server.
#[derive(Debug)]
pub(crate) struct ElasticsearchSink {
    poster: Poster,
    url: Url,
    config: ElasticsearchConfig,
}

impl ElasticsearchSink {
    pub(crate) fn new(config: &ElasticsearchConfig) -> Self {
        let mut url = config.url.clone();
        let path = config.url.path().trim_end_matches('/');
        url.set_path(&format!("{path}/_bulk"));
        url.query_pairs_mut().append_pair("filter_path", "errors,items.*.status,items.*.error");
        Self { poster: Poster::new(&config.server), url, config: config.clone() }
    }

    pub(crate) async fn send(
        &self,
        batch: &Batch,
        clock: &dyn Clock,
    ) -> Result<Sent, DeliverError> {
        let post = Post::new(&self.url, "application/x-ndjson", self.body(batch)).needs(MOST);
        let answer = self.poster.post(post, clock).await?;
        match answer.status {
            200..=299 => judge(answer, batch.len()),
            401 | 403 => Err(answer.held("check user, password, token and what they may write")),
            404 => Err(answer.held("check url")),
            _ => Err(answer.refusal()),
        }
    }

    fn body(&self, batch: &Batch) -> Vec<u8> {
        let mut body = String::new();
        for entry in batch.entries() {
            let index = match &entry.item {
                Item::Alert(_) => &self.config.alerts_index,
                Item::Row(_) => &self.config.rows_index,
                Item::AgentEvent(_) => &self.config.health_index,
            };
            let action = json!({ "create": { "_index": index, "_id": id(entry) } });
            body.push_str(&action.to_string());
            body.push('\n');
            push_document(&mut body, entry);
            body.push('\n');
        }
        body.into_bytes()
    }
}

fn id(entry: &Entry) -> String {
    if entry.id.len() <= MOST_ID { entry.id.clone() } else { stable_id(&[&entry.id]) }
}

/// The line, with the `@timestamp` that a data stream wants where the format has none.
fn push_document(body: &mut String, entry: &Entry) {
    // Within text the quotes would be escaped.
    match entry.line.strip_prefix('{') {
        Some(rest) if !entry.line.contains("\"@timestamp\":") => {
            body.extend(["{\"@timestamp\":\"", &entry.time.to_string(), "\",", rest]);
        }
        _ => body.push_str(&entry.line),
    }
}

#[derive(Debug, Deserialize)]
struct Bulk {
    errors: bool,
    #[serde(default)]
    items: Vec<HashMap<String, Outcome>>,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    status: u16,
    error: Option<Fault>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fault {
    r#type: String,
    reason: String,
}

/// What became of `count` documents.
fn judge(answer: Answer, count: usize) -> Result<Sent, DeliverError> {
    let Ok(bulk) = serde_json::from_slice::<Bulk>(&answer.body) else {
        return Err(answer.odd("the answer is none to _bulk; check url and what stands between"));
    };
    if !bulk.errors {
        return Ok(Sent::default());
    }
    let outcomes: Vec<Outcome> = bulk.items.into_iter().filter_map(only).collect();
    if outcomes.len() != count {
        return Err(answer.odd("the answer has not one item for each document; check the server"));
    }
    let mut sent = Sent::default();
    for (index, outcome) in outcomes.iter().enumerate() {
        match outcome.status {
            // 409: it is there from an earlier time.
            200..=299 | 409 => {}
            429 | 500..=599 => sent.again.push(index),
            // Not about the document: an index that may not be written, or not be made.
            401 | 403 | 404 => sent.again.push(index),
            status => sent.rejected.push((index, reason(status, outcome.error.as_ref()))),
        }
    }
    // Nothing got in: this is about the server.
    match outcomes.first() {
        Some(first) if sent.again.len() == count => {
            let text = reason(first.status, first.error.as_ref());
            let hint = "check the indices, and what user or token may write";
            Err(DeliverError::Held {
                url: answer.url,
                status: first.status,
                text,
                hint,
                retry_after: answer.retry_after,
            })
        }
        _ => Ok(sent),
    }
}

fn only(item: HashMap<String, Outcome>) -> Option<Outcome> {
    item.into_values().next()
}

fn reason(status: u16, fault: Option<&Fault>) -> String {
    let Some(Fault { r#type, reason }) = fault else { return format!("status {status}") };
    format!("{}: {}", escaped(r#type, 100), escaped(reason, 300))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::Verdict;
    use crate::deliver::batch::Content;
    use crate::schema::agent_event::{AgentEvent, Loss};

    fn judged(body: &str, count: usize) -> Result<Sent, (Verdict, String)> {
        let url = "http://h/_bulk".to_owned();
        let body = body.as_bytes().to_vec();
        let answer = Answer { url, status: 200, retry_after: None, body };
        judge(answer, count).map_err(|error| (error.verdict(), error.to_string()))
    }

    #[test]
    fn each_item_is_judged_by_itself() {
        let items = r#"{"errors":true,"items":[
            {"create":{"status":201}},
            {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"x"}}},
            {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"x"}}},
            {"create":{"status":400,"error":{"type":"document_parsing_exception","reason":"bad\n\"ip\""}}},
            {"create":{"status":503}},
            {"create":{"status":422}}]}"#;
        let why = "document_parsing_exception: bad\\n\\\"ip\\\"".to_owned();
        let want = Sent {
            again: vec![2, 4],
            after: None,
            rejected: vec![(3, why), (5, "status 422".to_owned())],
        };
        assert_eq!(judged(items, 6), Ok(want));
        assert_eq!(judged(r#"{"errors":false}"#, 6), Ok(Sent::default()));
        assert_eq!(judged(r#"{"errors":false,"items":[]}"#, 6), Ok(Sent::default()));
    }

    #[test]
    fn an_answer_that_helps_nobody_keeps_the_batch() {
        let all = r#"{"errors":true,"items":[{"create":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index"}}}]}"#;
        for (body, count, told) in [
            (all, 1, "index_not_found_exception: no such index; check the indices"),
            (all, 2, "not one item for each document"),
            ("<html>", 1, "none to _bulk"),
            ("", 1, "none to _bulk"),
        ] {
            let (verdict, said) = judged(body, count).unwrap_err();
            assert_eq!(verdict, Verdict::Retry { after: None });
            assert!(said.contains(told), "{said}");
        }
    }

    #[test]
    fn a_body_makes_each_document_once() {
        let config = ElasticsearchConfig {
            url: "https://h:9200/es/".parse().unwrap(),
            alerts_index: "a".to_owned(),
            rows_index: "r".to_owned(),
            health_index: "h".to_owned(),
            server: ServerConfig::new(true),
        };
        let sink = ElasticsearchSink::new(&config);
        assert!(sink.url.as_str().starts_with("https://h:9200/es/_bulk?filter_path="));
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
        let bare = Entry::new(item.clone(), 0, r#"{"a":"\"@timestamp\":"}"#.to_owned());
        let whole = Entry::new(item, 0, r#"{"x":1,"@timestamp":"y"}"#.to_owned());
        let batch = Batch::new(Content::Rows, vec![bare, whole]);
        let action = format!("{{\"create\":{{\"_id\":\"{id}\",\"_index\":\"h\"}}}}\n");
        let want = format!(
            "{action}{{\"@timestamp\":\"2026-11-24T10:00:00Z\",\"a\":\"\\\"@timestamp\\\":\"}}\n\
             {action}{{\"x\":1,\"@timestamp\":\"y\"}}\n"
        );
        assert_eq!(String::from_utf8(sink.body(&batch)).unwrap(), want);
    }
}
