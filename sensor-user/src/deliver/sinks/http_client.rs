//! `SinkClient`: one request of a sink, and its response up to a size limit. Each sink interprets the
//! response.
//!
//! Redirects are not followed: they would carry alerts to a server that is not configured.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, Url};

use crate::base::clock::Clock;
use crate::base::escape::escaped;
use crate::base::text_input;
use crate::deliver::DeliverError;
use crate::deliver::error::{Suffix, log_text};
use crate::http::{Access, ConnectionSettings, ReloadingClient, redacted_url};

/// Access to the server of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Credentials, certificates and proxy.
    pub access: Access,
    /// Time limit of one request.
    pub timeout: Duration,
    /// True if request bodies are compressed with gzip.
    pub compress: bool,
}

impl ServerConfig {
    /// Default time limit of one request.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// The defaults; `compress` depends on what the protocol's servers support.
    pub fn new(compress: bool) -> Self {
        Self { access: Access::default(), timeout: Self::TIMEOUT, compress }
    }
}

/// HTTP client of one sink.
#[derive(Debug)]
pub(super) struct SinkClient {
    client: ReloadingClient,
    timeout: Duration,
    compress: bool,
    clock: Arc<dyn Clock>,
}

/// A request.
#[derive(Debug)]
pub(super) struct SinkRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Maximum size of the response, if the sink needs the body of a successful one.
    pub(super) response_max: Option<usize>,
    /// Sent without credentials.
    pub(super) is_anonymous: bool,
}

/// A response, or its beginning.
#[derive(Debug)]
pub(super) struct SinkResponse {
    /// URL of the request, redacted.
    pub(super) url: String,
    pub(super) status: u16,
    /// Delay of `Retry-After`.
    pub(super) retry_after: Option<Duration>,
    /// Body, up to the limit of the request.
    pub(super) body: Vec<u8>,
    /// True if the client has credentials.
    pub(super) has_credentials: bool,
}

impl SinkRequest {
    pub(super) fn get(url: &Url) -> Self {
        Self {
            method: Method::GET,
            url: url.clone(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            response_max: None,
            is_anonymous: false,
        }
    }

    pub(super) fn post(url: &Url, content_type: &'static str, body: Vec<u8>) -> Self {
        let content_type = (CONTENT_TYPE, HeaderValue::from_static(content_type));
        let headers = HeaderMap::from_iter([content_type]);
        Self { method: Method::POST, headers, body, ..Self::get(url) }
    }

    /// Adds a header; a value that is not valid in HTTP is left out.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl SinkClient {
    pub(super) fn new(config: &ServerConfig, clock: &Arc<dyn Clock>) -> Self {
        let settings = ConnectionSettings {
            read_timeout: config.timeout,
            idle_timeout: IDLE_TIMEOUT,
            idle_max: IDLE_MAX,
        };
        Self {
            client: ReloadingClient::new(&config.access, settings),
            timeout: config.timeout,
            compress: config.compress,
            clock: Arc::clone(clock),
        }
    }

    /// Sends one request and reads the response.
    pub(super) async fn send(&self, request: SinkRequest) -> Result<SinkResponse, DeliverError> {
        let SinkRequest { method, url, mut headers, mut body, response_max, is_anonymous } =
            request;
        if self.compress && !is_anonymous && method == Method::POST {
            body = gzipped(&body);
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let client = self.client.ready(&url).await?;
        let request = if is_anonymous {
            client.anonymous_request(method, &url)
        } else {
            client.request(method, &url)
        };
        let sent = request.headers(headers).body(body).timeout(self.timeout).send().await;
        let response = sent.map_err(|source| {
            // The certificate or the authorities may have changed.
            self.client.invalidate();
            DeliverError::Post { url: redacted_url(&url), source: source.without_url() }
        })?;
        let status = response.status();
        let retry_after = retry_after(response.headers(), &*self.clock);
        let reading = beginning(response, response_max.unwrap_or(RESPONSE_MAX));
        let body = if status.is_success() && response_max.is_none() {
            // A connection can be used again once the body is read. A body that does not arrive is
            // not waited for, because the batch was accepted.
            let read = tokio::time::timeout(Duration::from_secs(1), reading).await;
            read.unwrap_or_default()
        } else {
            reading.await
        };
        let response = SinkResponse {
            url: redacted_url(&url),
            status: status.as_u16(),
            retry_after,
            body,
            has_credentials: self.client.has_credentials(),
        };
        let is_refused = matches!(response.status, 401 | 403) || response.tls_hint().is_some();
        if is_refused && !is_anonymous {
            self.client.invalidate();
        }
        Ok(response)
    }
}

impl SinkResponse {
    /// The beginning of the body, escaped.
    pub(super) fn text(&self) -> String {
        escaped(String::from_utf8_lossy(&self.body).trim(), TEXT_MAX)
    }

    /// True if the body is a web page: a login page or a proxy's, and not the receiver's response.
    pub(super) fn is_web_page(&self) -> bool {
        text_input::is_web_page(&self.body)
    }

    /// Error for a web page with a success status.
    pub(super) fn into_web_page(self) -> DeliverError {
        let reason = "status 200 with a web page is no acceptance; check url, and any login or proxy \
                      before the server";
        self.into_unexpected(reason)
    }

    /// Advice for a 400 of nginx that concerns the TLS connection and not the request.
    fn tls_hint(&self) -> Option<&'static str> {
        let contains = |text: &str| memchr::memmem::find(&self.body, text.as_bytes()).is_some();
        let hint = NGINX_HINTS.iter().find(|(text, _)| self.status == 400 && contains(text));
        hint.map(|(_, hint)| *hint)
    }

    /// Error whose action follows from the status. With a `hint` for the operator, or one about TLS,
    /// the batch is retried whatever the status is.
    pub(super) fn into_error(self, hint: &'static str) -> DeliverError {
        let (text, tls_hint) = (self.text(), self.tls_hint().unwrap_or_default());
        let hint = if hint.is_empty() { tls_hint } else { hint };
        let Self { url, status, retry_after, .. } = self;
        DeliverError::Status { url, status, text, hint, retry_after }
    }

    /// Error for a success status with a body that the protocol does not define.
    pub(super) fn into_unexpected(self, reason: &'static str) -> DeliverError {
        let reason = format!("{reason}{}", Suffix(": ", &self.text()));
        DeliverError::Unavailable { receiver: format!("post {}", self.url), reason }
    }
}

/// Texts in the error pages of nginx about TLS, and advice for the operator.
const NGINX_HINTS: [(&str, &str); 3] = [
    ("No required SSL certificate was sent", "set client_cert and client_key"),
    ("The SSL certificate error", "check client_cert, and when it ends"),
    ("The plain HTTP request was sent to HTTPS port", "the server speaks TLS, use https: in url"),
];
/// Maximum length of a response in an error message, characters.
const TEXT_MAX: usize = 300;
/// Maximum size of a response of which only the status matters, bytes.
const RESPONSE_MAX: usize = 64 << 10;
/// Time until an unused connection is closed; servers use a similar time.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Maximum number of unused connections: as many as there are concurrent requests.
const IDLE_MAX: usize = 64;

/// Compresses at the fastest level, because the processor belongs to the host's own work.
fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory does not fail.
    let _written = encoder.write_all(body).is_ok();
    encoder.finish().unwrap_or_default()
}

/// Reads at most `max` bytes of the body, up to an error.
async fn beginning(mut response: Response, max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < max {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = max - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(error = log_text(&error), "response body incomplete");
                break;
            }
        }
    }
    body
}

/// `Retry-After`: seconds, or an HTTP date relative to this host's clock (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, clock: &dyn Clock) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = text.parse() {
        return Some(Duration::from_secs(secs));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    let now = Duration::from_millis(u64::try_from(clock.now().as_millisecond()).ok()?);
    Some(at.saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::retry_after;
    use crate::base::clock::FixedClock;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let clock = FixedClock("2026-11-24T10:00:00Z".parse().unwrap());
        for (text, delay) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Tue, 24 Nov 2026 10:00:30 GMT", Some(30)),
            ("Tuesday, 24-Nov-26 10:00:30 GMT", Some(30)),
            ("Tue, 24 Nov 2026 09:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(retry_after(&headers, &clock), delay.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), &clock), None);
    }
}
