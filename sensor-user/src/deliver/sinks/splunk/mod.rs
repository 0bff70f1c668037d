//! The sink `splunk`: HTTP Event Collector, with and without indexer acknowledgement.
//!
//! A batch is a sequence of JSON objects. If one is refused, those before it are indexed and those
//! after it are not.

mod ack;
mod config;
mod encode;
mod response;

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Url;
use uuid::Uuid;

use super::Sink;
use super::http_client::{SinkClient, SinkRequest, SinkResponse};
use crate::base::clock::Clock;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};

pub use config::SplunkConfig;

/// Posts to one collector, on its own channel.
#[derive(Debug)]
pub(super) struct SplunkSink {
    client: SinkClient,
    config: SplunkConfig,
    events_url: Url,
    ack_url: Url,
    health_url: Url,
    channel: String,
    log_throttle: LogThrottle,
}

impl SplunkSink {
    pub(super) fn new(config: &SplunkConfig, clock: &Arc<dyn Clock>) -> Self {
        let collector = |endpoint: &str| {
            let mut url = config.url.clone();
            let path = config.url.path().trim_end_matches('/');
            let path = path.strip_suffix("/event").unwrap_or(path);
            let path = path.strip_suffix("/services/collector").unwrap_or(path);
            url.set_path(&format!("{path}/services/collector/{endpoint}"));
            url
        };
        Self {
            client: SinkClient::new(&config.server, clock),
            config: config.clone(),
            events_url: collector("event"),
            ack_url: collector("ack"),
            health_url: collector("health"),
            channel: Uuid::new_v4().to_string(),
            log_throttle: LogThrottle::new(),
        }
    }

    async fn post(&self, url: &Url, body: Vec<u8>) -> Result<SinkResponse, DeliverError> {
        // Tokens with acknowledgement require the channel in every request; others ignore it.
        let request = SinkRequest::post(url, "application/json", body)
            .header("x-splunk-request-channel", &self.channel);
        let response_max = Some(response::RESPONSE_MAX);
        self.client.send(SinkRequest { response_max, ..request }).await
    }

    /// Returns the health response of the collector if it reports a problem.
    async fn health_problem(&self) -> Option<SinkResponse> {
        let response_max = Some(response::RESPONSE_MAX);
        let request = SinkRequest { response_max, ..SinkRequest::get(&self.health_url) };
        let response = self.client.send(request).await.ok()?;
        (response.status == 503 && response::code(&response) != 0).then_some(response)
    }
}

#[async_trait]
impl Sink for SplunkSink {
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let response = self.post(&self.events_url, encode::events(&self.config, batch)).await?;
        if !matches!(response.status, 200..=299) {
            // A proxy before the collector does not know the collector's problem.
            let is_foreign = response.status >= 500 && response::code(&response) == 0;
            let problem = if is_foreign { self.health_problem().await } else { None };
            return response::error_outcome(problem.unwrap_or(response), batch.len());
        }
        if response.is_web_page() {
            return Err(response.into_web_page());
        }
        if let Some(limit) = self.config.acknowledge {
            self.wait_for_ack(response, limit).await?;
        }
        Ok(SendOutcome::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use crate::deliver::sinks::http_client::ServerConfig;

    pub(super) fn config(url: &str) -> SplunkConfig {
        SplunkConfig {
            url: url.parse().unwrap(),
            index: None,
            source: SplunkConfig::SOURCE.to_owned(),
            sourcetype: None,
            acknowledge: None,
            server: ServerConfig::new(false),
        }
    }

    fn sink(url: &str) -> SplunkSink {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        SplunkSink::new(&config(url), &clock)
    }

    #[test]
    fn the_collector_is_found_from_its_server_or_its_path() {
        for url in [
            "https://h:8088",
            "https://h:8088/services/collector",
            "https://h:8088/services/collector/",
            "https://h:8088/services/collector/event",
        ] {
            let sink = sink(url);
            assert_eq!(
                sink.events_url.as_str(),
                "https://h:8088/services/collector/event",
                "{url}"
            );
            assert_eq!(sink.ack_url.as_str(), "https://h:8088/services/collector/ack", "{url}");
        }
        let sink = sink("https://h/splunk/");
        assert_eq!(sink.events_url.as_str(), "https://h/splunk/services/collector/event");
    }
}
