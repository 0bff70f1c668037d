//! The splunk sink: Splunk's HTTP Event Collector, with and without indexer acknowledgement.
//!
//! A batch is a row of JSON objects. Where one is refused, those before it are indexed and those
//! behind it are not.

mod ack;
mod response;

use std::time::Duration;

use reqwest::Url;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::http_post::{Answer, Post, Poster, ServerConfig};
use crate::base::clock::Clock;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, Entry, Sent};
use crate::deliver::item::Item;

/// `kind = "splunk"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplunkConfig {
    /// Where the collector is, with or without its path.
    pub url: Url,
    /// Index; that of the token where there is none.
    pub index: Option<String>,
    /// `source`.
    pub source: String,
    /// `sourcetype`; `netsensor:` and what an event is where there is none.
    pub sourcetype: Option<String>,
    /// How long an acknowledgement is waited for; `None`: it is not.
    pub acknowledge: Option<Duration>,
    /// How it is reached.
    pub server: ServerConfig,
}

impl SplunkConfig {
    /// `source` unless set.
    pub const SOURCE: &str = "netsensor";
    /// How long an acknowledgement is waited for unless set.
    pub const ACK_TIMEOUT: Duration = Duration::from_mins(5);
}

/// Posts to one collector, on a channel of its own.
#[derive(Debug)]
pub(crate) struct SplunkSink {
    poster: Poster,
    config: SplunkConfig,
    events: Url,
    acks: Url,
    health: Url,
    channel: String,
    quiet: LogThrottle,
}

/// An event as the collector takes it.
#[derive(Debug, Serialize)]
struct Envelope<'e> {
    /// Seconds since 1970.
    time: f64,
    host: &'e str,
    source: &'e str,
    sourcetype: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<&'e str>,
    event: Told<'e>,
}

/// A line of JSON as it is, or other text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told<'e> {
    Json(&'e RawValue),
    Text(&'e str),
}

impl SplunkSink {
    pub(crate) fn new(config: &SplunkConfig) -> Self {
        let collector = |last: &str| {
            let mut url = config.url.clone();
            let path = config.url.path().trim_end_matches('/');
            let path = path.strip_suffix("/event").unwrap_or(path);
            let path = path.strip_suffix("/services/collector").unwrap_or(path);
            url.set_path(&format!("{path}/services/collector/{last}"));
            url
        };
        Self {
            poster: Poster::new(&config.server),
            config: config.clone(),
            events: collector("event"),
            acks: collector("ack"),
            health: collector("health"),
            channel: Uuid::new_v4().to_string(),
            quiet: LogThrottle::new(),
        }
    }

    pub(crate) async fn send(
        &self,
        batch: &Batch,
        clock: &dyn Clock,
    ) -> Result<Sent, DeliverError> {
        let post = self.post(&self.events, self.body(batch));
        let answer = self.poster.post(post, clock).await?;
        if !answer.is_success() {
            // What stands before the collector does not know what ails it.
            let is_foreign = answer.status >= 500 && response::code(&answer) == 0;
            let ailment = if is_foreign { self.ailment(clock).await } else { None };
            return response::refused(ailment.unwrap_or(answer), batch.len());
        }
        if let Some(limit) = self.config.acknowledge {
            self.acknowledged(answer, limit, clock).await?;
        }
        Ok(Sent::default())
    }

    /// What the collector says of itself, where it is not well.
    async fn ailment(&self, clock: &dyn Clock) -> Option<Answer> {
        let ask = Post::get(&self.health).needs(response::MOST);
        let asked = self.poster.post(ask, clock).await;
        asked.ok().filter(|answer| answer.status == 503 && response::code(answer) != 0)
    }

    fn post<'u>(&self, url: &'u Url, body: Vec<u8>) -> Post<'u> {
        // Tokens with acknowledgement want it with every request, and the others do not mind.
        Post::new(url, "application/json", body)
            .with("x-splunk-request-channel", &self.channel)
            .needs(response::MOST)
    }

    fn body(&self, batch: &Batch) -> Vec<u8> {
        let mut body = Vec::new();
        for entry in batch.entries() {
            let usual = sourcetype(&entry.item);
            // Writing to memory does not fail, and a line of JSON is JSON.
            let _written = serde_json::to_writer(&mut body, &self.event(entry, &usual)).is_ok();
            body.push(b'\n');
        }
        body
    }

    fn event<'e>(&'e self, entry: &'e Entry, usual: &'e str) -> Envelope<'e> {
        let told = serde_json::from_str(&entry.line);
        Envelope {
            time: entry.time.as_duration().as_secs_f64(),
            host: entry.item.computer(),
            source: &self.config.source,
            sourcetype: self.config.sourcetype.as_deref().unwrap_or(usual),
            index: self.config.index.as_deref(),
            event: told.map_or_else(|_no_json| Told::Text(&entry.line), Told::Json),
        }
    }
}

/// `netsensor:alert`, `netsensor:vmconnection` and so on.
fn sourcetype(item: &Item) -> String {
    let name = item.type_name().to_ascii_lowercase();
    format!("netsensor:{}", name.strip_prefix("netsensor").unwrap_or(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::batch::Content;
    use crate::schema::agent_event::{AgentEvent, Loss};

    fn config(url: &str) -> SplunkConfig {
        SplunkConfig {
            url: url.parse().unwrap(),
            index: None,
            source: SplunkConfig::SOURCE.to_owned(),
            sourcetype: None,
            acknowledge: None,
            server: ServerConfig::new(false),
        }
    }

    #[test]
    fn the_collector_is_found_from_its_server_or_its_path() {
        for url in [
            "https://h:8088",
            "https://h:8088/services/collector",
            "https://h:8088/services/collector/",
            "https://h:8088/services/collector/event",
        ] {
            let sink = SplunkSink::new(&config(url));
            assert_eq!(sink.events.as_str(), "https://h:8088/services/collector/event", "{url}");
            assert_eq!(sink.acks.as_str(), "https://h:8088/services/collector/ack", "{url}");
        }
        let sink = SplunkSink::new(&config("https://h/splunk/"));
        assert_eq!(sink.events.as_str(), "https://h/splunk/services/collector/event");
    }

    #[test]
    fn an_event_has_its_own_time_and_what_is_configured() {
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
        let json = Entry::new(item.clone(), 0, r#"{"a":1}"#.to_owned());
        let text = Entry::new(item, 0, "CEF:0|x".to_owned());
        let batch = Batch::new(Content::Rows, vec![json, text]);
        let body = String::from_utf8(SplunkSink::new(&config("http://h/")).body(&batch)).unwrap();
        let head = r#"{"time":1795514400.25,"host":"web01","source":"netsensor","sourcetype":"netsensor:loss","#;
        let want = format!("{head}\"event\":{{\"a\":1}}}}\n{head}\"event\":\"CEF:0|x\"}}\n");
        assert_eq!(body, want);
        let mut with = config("http://h/");
        with.index = Some("main".to_owned());
        with.sourcetype = Some("own".to_owned());
        let body = String::from_utf8(SplunkSink::new(&with).body(&batch)).unwrap();
        assert!(body.contains(r#""sourcetype":"own","index":"main","event""#), "{body}");
    }
}
