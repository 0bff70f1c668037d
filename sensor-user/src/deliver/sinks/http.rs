//! The sink `http`: one POST per batch.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Url;

use super::Sink;
use super::http_client::{ServerConfig, SinkClient, SinkRequest};
use crate::base::clock::Clock;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};

/// Settings of `kind = "http"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// URL of the requests.
    pub url: Url,
    /// `application/x-ndjson` lines instead of one array.
    pub lines: bool,
    /// Access to the server.
    pub server: Box<ServerConfig>,
}

impl HttpConfig {
    /// JSON arrays to `url`.
    pub fn new(url: Url) -> Self {
        Self { url, lines: false, server: Box::new(ServerConfig::new(false)) }
    }
}

/// Posts to one URL.
#[derive(Debug)]
pub(super) struct HttpSink {
    client: SinkClient,
    url: Url,
    lines: bool,
}

impl HttpSink {
    pub(super) fn new(config: &HttpConfig, clock: &Arc<dyn Clock>) -> Self {
        let client = SinkClient::new(&config.server, clock);
        Self { client, url: config.url.clone(), lines: config.lines }
    }
}

#[async_trait]
impl Sink for HttpSink {
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let (content_type, body) = if self.lines {
            ("application/x-ndjson", batch.lines())
        } else {
            ("application/json", batch.array())
        };
        let request = SinkRequest::post(&self.url, content_type, body.into_bytes())
            .header("idempotency-key", &batch.idempotency_key());
        let response = self.client.send(request).await?;
        match response.status {
            200..=299 => Ok(SendOutcome::default()),
            401 | 403 if self.client.has_credentials() => {
                Err(response.into_error("check user, password, token and certificate"))
            }
            _ => Err(response.into_error("")),
        }
    }
}
