//! `HttpSink`: one request per batch, for every HTTP protocol without further requests; and the sink
//! `http`, the simplest of them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::Url;

use super::Sink;
use super::http_client::{ServerConfig, SinkClient, SinkRequest, SinkResponse};
use crate::base::clock::Clock;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, SendOutcome};

/// Requests and responses of a protocol.
pub(super) trait HttpProtocol: fmt::Debug + Send + Sync {
    fn server(&self) -> &ServerConfig;

    fn request(&self, batch: &Batch, now: Timestamp) -> SinkRequest;

    /// Outcome of the response to `count` items.
    fn outcome(&self, response: SinkResponse, count: usize) -> Result<SendOutcome, DeliverError>;
}

/// Posts to one server.
#[derive(Debug)]
pub(super) struct HttpSink<P> {
    protocol: P,
    client: SinkClient,
    clock: Arc<dyn Clock>,
}

impl<P: HttpProtocol> HttpSink<P> {
    pub(super) fn new(protocol: P, clock: &Arc<dyn Clock>) -> Self {
        let client = SinkClient::new(protocol.server(), clock);
        Self { protocol, client, clock: Arc::clone(clock) }
    }
}

#[async_trait]
impl<P: HttpProtocol> Sink for HttpSink<P> {
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        let request = self.protocol.request(batch, self.clock.now());
        self.protocol.outcome(self.client.send(request).await?, batch.len())
    }
}

/// Settings of `kind = "http"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// URL of the requests.
    pub url: Url,
    /// `application/x-ndjson` lines instead of one array.
    pub lines: bool,
    /// A web page with a success status accepts a request too.
    pub accept_web_page: bool,
    /// Access to the server.
    pub server: Box<ServerConfig>,
}

impl HttpConfig {
    /// JSON arrays to `url`.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            lines: false,
            accept_web_page: false,
            server: Box::new(ServerConfig::new(false)),
        }
    }
}

impl HttpProtocol for HttpConfig {
    fn server(&self) -> &ServerConfig {
        &self.server
    }

    fn request(&self, batch: &Batch, _now: Timestamp) -> SinkRequest {
        let (content_type, body) = if self.lines {
            ("application/x-ndjson", batch.lines())
        } else {
            ("application/json", batch.array())
        };
        SinkRequest::post(&self.url, content_type, body.into_bytes())
            .header("idempotency-key", &batch.idempotency_key())
    }

    fn outcome(&self, response: SinkResponse, _count: usize) -> Result<SendOutcome, DeliverError> {
        let hint = match response.status {
            200..=299 if response.is_web_page() && !self.accept_web_page => {
                return Err(response.into_web_page());
            }
            200..=299 => return Ok(SendOutcome::default()),
            401 | 403 if response.has_credentials => "check user, password, token and certificate",
            _ => "",
        };
        Err(response.into_error(hint))
    }
}
