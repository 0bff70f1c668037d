//! The http sink: one POST a batch.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, Url, redirect};

use super::batch::{Batch, Sent};
use super::escape::escaped;
use super::{DeliverError, chain};
use crate::clock::Clock;

/// Posts to one URL. Redirects are not followed: they would carry alerts to an address that
/// nobody configured.
#[derive(Debug)]
pub(super) struct HttpSink {
    client: Client,
    url: Url,
    lines: bool,
}

/// `kind = "http"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to post.
    pub url: Url,
    /// `application/x-ndjson` lines instead of one array.
    pub lines: bool,
    /// Limit of one request.
    pub timeout: Duration,
}

impl HttpConfig {
    /// Limit of one request unless set.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// Arrays to `url`.
    pub const fn new(url: Url) -> Self {
        Self { url, lines: false, timeout: Self::TIMEOUT }
    }
}

impl HttpSink {
    pub(super) fn new(config: &HttpConfig) -> Result<Self, DeliverError> {
        crate::tls::install_provider();
        let client = Client::builder()
            .user_agent(concat!("netsensor/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .build()
            .map_err(DeliverError::Client)?;
        Ok(Self { client, url: config.url.clone(), lines: config.lines })
    }

    pub(super) async fn send(
        &self,
        batch: &Batch,
        clock: &dyn Clock,
    ) -> Result<Sent, DeliverError> {
        let (content_type, body) = if self.lines {
            ("application/x-ndjson", batch.lines())
        } else {
            ("application/json", batch.array())
        };
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, content_type)
            .header("Idempotency-Key", batch.idempotency_key())
            .body(body);
        let response = request.send().await.map_err(|source| DeliverError::Post {
            url: self.url.to_string(),
            source: source.without_url(),
        })?;
        let status = response.status();
        if status.is_success() {
            // A body that is read to its end lets the connection be used again; one that does not
            // come is not waited for, the batch has been taken.
            let read = tokio::time::timeout(Duration::from_secs(1), beginning(response)).await;
            tracing::trace!(read = read.is_ok(), "answer read");
            return Ok(Sent::default());
        }
        let retry_after = retry_after(response.headers(), clock);
        let text = escaped(beginning(response).await.trim(), MOST_SHOWN);
        let url = self.url.to_string();
        Err(DeliverError::Status { url, status: status.as_u16(), text, retry_after })
    }
}

/// Characters of an answer that an error shows.
const MOST_SHOWN: usize = 300;

/// Bytes of an answer that are read.
const MOST_READ: usize = 64 << 10;

/// The first `MOST_READ` bytes of the body, or what came before it broke.
async fn beginning(mut response: Response) -> String {
    let mut body = Vec::new();
    while body.len() < MOST_READ {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = MOST_READ - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            }
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(error = chain(&error), "answer broke off");
                break;
            }
        }
    }
    String::from_utf8_lossy(&body).into_owned()
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
    use crate::clock::FixedClock;

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
