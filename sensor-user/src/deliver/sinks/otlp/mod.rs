//! The sink `otlp`: OpenTelemetry log records over HTTP, in the protocol's JSON encoding (names in
//! lower camel case, 64-bit numbers as text).
//!
//! The protocol forbids to retry records that a server rejects out of a request, and its response
//! does not identify them: they are counted (`otlp_records_rejected`) and logged.

mod config;
mod encode;
mod response;

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Url;

use super::Sink;
use super::http_client::{SinkClient, SinkRequest};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};

pub use config::OtlpConfig;

/// Posts to one server.
#[derive(Debug)]
pub(super) struct OtlpSink {
    client: SinkClient,
    url: Url,
    service_name: String,
    log_throttle: LogThrottle,
    stats: Arc<Stats>,
    clock: Arc<dyn Clock>,
}

impl OtlpSink {
    pub(super) fn new(config: &OtlpConfig, stats: &Arc<Stats>, clock: &Arc<dyn Clock>) -> Self {
        let mut url = config.url.clone();
        if url.path() == "/" {
            url.set_path("/v1/logs");
        }
        Self {
            client: SinkClient::new(&config.server, clock),
            url,
            service_name: config.service_name.clone(),
            log_throttle: LogThrottle::new(),
            stats: Arc::clone(stats),
            clock: Arc::clone(clock),
        }
    }
}

#[async_trait]
impl Sink for OtlpSink {
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let body = encode::export_request(&self.service_name, batch, self.clock.now());
        let body = body.to_string().into_bytes();
        let request = SinkRequest::post(&self.url, "application/json", body)
            .response_max(response::RESPONSE_MAX);
        self.outcome(self.client.send(request).await?, batch.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use crate::deliver::sinks::http_client::ServerConfig;

    #[test]
    fn the_path_is_added_if_there_is_none() {
        for (url, want) in [
            ("http://h:4318", "http://h:4318/v1/logs"),
            ("https://h/otlp/v1/logs", "https://h/otlp/v1/logs"),
        ] {
            let config = OtlpConfig {
                url: url.parse().unwrap(),
                service_name: OtlpConfig::SERVICE_NAME.to_owned(),
                server: ServerConfig::new(true),
            };
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let sink = OtlpSink::new(&config, &Arc::default(), &clock);
            assert_eq!(sink.url.as_str(), want);
        }
    }
}
