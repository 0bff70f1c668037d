//! The sink `otlp`: OpenTelemetry log records over HTTP, in the protocol's JSON encoding (names in
//! lower camel case, 64-bit numbers as text).
//!
//! The protocol forbids to retry records that a server rejects out of a request, and its response
//! does not identify them: they are counted (`otlp_records_rejected`) and logged.

mod config;
mod encode;
mod response;

use std::sync::Arc;

use jiff::Timestamp;
use reqwest::Url;

use super::http::HttpProtocol;
use super::http_client::{ServerConfig, SinkRequest, SinkResponse};
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};

pub use config::OtlpConfig;

/// Requests and responses, and the records that were rejected.
#[derive(Debug)]
pub(super) struct OtlpProtocol {
    config: OtlpConfig,
    stats: Arc<Stats>,
    log_throttle: LogThrottle,
}

impl OtlpProtocol {
    pub(super) fn new(config: &OtlpConfig, stats: &Arc<Stats>) -> Self {
        let (stats, log_throttle) = (Arc::clone(stats), LogThrottle::new());
        Self { config: config.clone(), stats, log_throttle }
    }
}

impl HttpProtocol for OtlpProtocol {
    fn server(&self) -> &ServerConfig {
        &self.config.server
    }

    fn request(&self, batch: &Batch, now: Timestamp) -> SinkRequest {
        let body = encode::export_request(&self.config.service_name, batch, now);
        let body = body.to_string().into_bytes();
        let request = SinkRequest::post(&logs_url(&self.config.url), "application/json", body);
        SinkRequest { response_max: Some(response::RESPONSE_MAX), ..request }
    }

    fn outcome(&self, response: SinkResponse, count: usize) -> Result<SendOutcome, DeliverError> {
        response::outcome(self, response, count)
    }
}

fn logs_url(server: &Url) -> Url {
    let mut url = server.clone();
    if url.path() == "/" {
        url.set_path("/v1/logs");
    }
    url
}

#[cfg(test)]
mod tests {
    use super::logs_url;

    #[test]
    fn the_path_is_added_if_there_is_none() {
        for (url, want) in [
            ("http://h:4318", "http://h:4318/v1/logs"),
            ("https://h/otlp/v1/logs", "https://h/otlp/v1/logs"),
        ] {
            assert_eq!(logs_url(&url.parse().unwrap()).as_str(), want);
        }
    }
}
