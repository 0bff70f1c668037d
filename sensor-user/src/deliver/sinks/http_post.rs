//! Post: one request of a sink, and its answer as far as it is read. What the answer means is for
//! the protocol to say.
//!
//! Redirects are not followed: they would carry alerts to an address that nobody configured.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, Url};

use crate::base::clock::Clock;
use crate::base::escape::escaped;
use crate::deliver::{DeliverError, chain};
use crate::http::{Access, ConnectionSettings, ReloadingClient, redacted_url};

/// How the server of a sink is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Who asks, and by what way.
    pub access: Access,
    /// Limit of one request.
    pub timeout: Duration,
    /// Whether bodies are gzipped.
    pub compress: bool,
}

impl ServerConfig {
    /// Limit of one request unless set.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// With what is usual; `compress` as the protocol's servers understand it.
    pub fn new(compress: bool) -> Self {
        Self { access: Access::default(), timeout: Self::TIMEOUT, compress }
    }
}

/// Posts the bodies of one sink.
#[derive(Debug)]
pub(crate) struct Poster {
    reach: ReloadingClient,
    timeout: Duration,
    compress: bool,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Post<'u> {
    method: Method,
    url: &'u Url,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Bytes of the answer that its protocol needs.
    needs: Option<usize>,
    is_ours: bool,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Who answered, for messages.
    pub(crate) url: String,
    pub(crate) status: u16,
    /// Delay that `Retry-After` asks for.
    pub(crate) retry_after: Option<Duration>,
    /// The body, or the beginning of it.
    pub(crate) body: Vec<u8>,
}

impl<'u> Post<'u> {
    /// `body` of the type `kind` for `url`.
    pub(crate) fn new(url: &'u Url, kind: &'static str, body: Vec<u8>) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        Self { method: Method::POST, url, headers, body, needs: None, is_ours: true }
    }

    /// Asks for what is at `url`.
    pub(crate) fn get(url: &'u Url) -> Self {
        let (headers, body) = (HeaderMap::new(), Vec::new());
        Self { method: Method::GET, url, headers, body, needs: None, is_ours: true }
    }

    /// With a header; one whose text cannot be sent is left out.
    pub(crate) fn with(mut self, name: &'static str, text: &str) -> Self {
        if let Ok(value) = HeaderValue::try_from(text) {
            self.headers.insert(name, value);
        }
        self
    }

    /// With a header that holds a secret.
    pub(crate) fn with_secret(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The body of a good answer is needed, and has so many bytes at most.
    pub(crate) const fn needs(mut self, most: usize) -> Self {
        self.needs = Some(most);
        self
    }

    /// To a server that is not told who asks.
    pub(crate) const fn without_login(mut self) -> Self {
        self.is_ours = false;
        self
    }
}

impl Poster {
    /// Posts as `config` says.
    pub(crate) fn new(config: &ServerConfig) -> Self {
        crate::http::crypto_provider::install_provider();
        let tuning = ConnectionSettings {
            read_timeout: config.timeout,
            idle_timeout: IDLE,
            idle_max: IDLE_MOST,
        };
        Self {
            reach: ReloadingClient::new(&config.access, tuning),
            timeout: config.timeout,
            compress: config.compress,
        }
    }

    /// Sends one request and reads its answer.
    pub(crate) async fn post(
        &self,
        post: Post<'_>,
        clock: &dyn Clock,
    ) -> Result<Answer, DeliverError> {
        let Post { method, url, mut headers, mut body, needs, is_ours } = post;
        if self.compress && is_ours && method == Method::POST {
            body = gzipped(&body);
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let ready = self.reach.ready(url).await?;
        let request =
            if is_ours { ready.request(method, url) } else { ready.anonymous_request(method, url) };
        let failed = |source: reqwest::Error| DeliverError::Post {
            url: redacted_url(url),
            source: source.without_url(),
        };
        let request = request.headers(headers).body(body).timeout(self.timeout);
        let sent = request.send().await;
        if sent.is_err() {
            // A certificate or an authority may be why.
            self.reach.invalidate();
        }
        let response = sent.map_err(failed)?;
        let status = response.status();
        let retry_after = retry_after(response.headers(), clock);
        let reading = beginning(response, needs.unwrap_or(MOST_READ));
        let body = if status.is_success() && needs.is_none() {
            // A body that is read to its end lets the connection be used again; one that does not
            // come is not waited for, the batch has been taken.
            let read = tokio::time::timeout(Duration::from_secs(1), reading).await;
            read.unwrap_or_default()
        } else {
            reading.await
        };
        let answer = Answer { url: redacted_url(url), status: status.as_u16(), retry_after, body };
        let is_of_login = matches!(answer.status, 401 | 403) || answer.not_of_request().is_some();
        if is_ours && is_of_login {
            self.reach.invalidate();
        }
        Ok(answer)
    }

    /// Whether the server is told who asks.
    pub(crate) fn has_login(&self) -> bool {
        self.reach.has_credentials()
    }
}

impl Answer {
    pub(crate) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// The beginning of the body, escaped.
    pub(crate) fn text(&self) -> String {
        escaped(String::from_utf8_lossy(&self.body).trim(), MOST_SHOWN)
    }

    /// What to look at where nginx says by 400 that it does not like the connection: nothing is
    /// wrong with what was sent over it.
    fn not_of_request(&self) -> Option<&'static str> {
        if self.status != 400 {
            return None;
        }
        let says = |text: &str| memchr::memmem::find(&self.body, text.as_bytes()).is_some();
        NGINX_SAYS.iter().find(|(text, _)| says(text)).map(|(_, hint)| *hint)
    }

    /// As an error whose verdict follows from the status.
    pub(crate) fn refusal(self) -> DeliverError {
        if let Some(hint) = self.not_of_request() {
            return self.held(hint);
        }
        let text = self.text();
        let Self { url, status, retry_after, .. } = self;
        DeliverError::Status { url, status, text, retry_after }
    }

    /// As an error after which the batch is kept; `hint` says what to look at.
    pub(crate) fn held(self, hint: &'static str) -> DeliverError {
        let text = self.text();
        let Self { url, status, retry_after, .. } = self;
        DeliverError::Held { url, status, text, hint, retry_after }
    }

    /// As an error: it is a success in words that the protocol does not have.
    pub(crate) fn odd(self, what: &'static str) -> DeliverError {
        DeliverError::Odd { text: self.text(), url: self.url, what }
    }
}

/// Bodies of nginx's pages for a connection that it does not like, and what to look at.
const NGINX_SAYS: [(&str, &str); 3] = [
    ("No required SSL certificate was sent", "set client_cert and client_key"),
    ("The SSL certificate error", "check client_cert, and when it ends"),
    ("The plain HTTP request was sent to HTTPS port", "the server speaks TLS, use https: in url"),
];
/// Characters of an answer that an error shows.
const MOST_SHOWN: usize = 300;
/// Bytes of an answer that are read unless a protocol needs more.
const MOST_READ: usize = 64 << 10;
/// How long a connection is kept that is not used, as servers do.
const IDLE: Duration = Duration::from_mins(1);
/// How many such are kept: no more requests are under way at once.
const IDLE_MOST: usize = 64;

/// In a quick form: the processor belongs to the host.
fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory does not fail.
    let _written = encoder.write_all(body).is_ok();
    encoder.finish().unwrap_or_default()
}

/// The first `most` bytes of the body, or what came before it broke.
async fn beginning(mut response: Response, most: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < most {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = most - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(error = chain(&error), "answer broke off");
                break;
            }
        }
    }
    body
}

/// `Retry-After`: seconds, or an HTTP date that is judged by this host's clock.
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
