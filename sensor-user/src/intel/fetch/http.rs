//! The requests of one pull. Credentials are sent only to the feed's own origin, never to a redirect target;
//! a few redirects are followed, none of them to an insecure target; every wait is bounded.

use std::error::Error;
use std::io;
use std::ops::Deref;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{
    CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, Method, Response, StatusCode, Url};
use tokio::time::Instant;

use super::error::FetchError;
use super::progress::PullProgress;
use crate::base::error_chain::causes;
use crate::http::{Material, redacted_url};

/// Maximum number of redirects that are followed.
const REDIRECTS_MAX: u32 = 5;
/// Remedy if the target of a redirect refuses a request, which has no credentials.
pub(super) const REDIRECTED: &str =
    "credentials are not sent to a redirect target; set url to it if that is right";
/// Maximum time of `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
/// Start of a request, its time limit, and that of a stalled body.
type Limits = (Instant, Duration, Duration);

/// Common parts of the requests of one pull.
#[derive(Debug)]
pub(super) struct Session<'f> {
    pub(super) client: Client,
    pub(super) material: Material,
    /// URL of the feed, whose origin receives the credentials.
    pub(super) home: &'f Url,
    /// Time limit of one request, to the last byte.
    pub(super) timeout: Duration,
    /// Time limit of a stalled body.
    pub(super) stall: Duration,
    /// Start of the pull.
    pub(super) now: Timestamp,
    pub(super) progress: &'f PullProgress,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    pub(super) url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

/// A response whose body is not read yet.
#[derive(Debug)]
pub(super) struct Reply {
    response: Response,
    limits: Limits,
    now: Timestamp,
    /// URL for messages; "" for the feed's own, which they name anyway.
    url: String,
    /// True if the server is the feed's own, which receives the credentials.
    is_home: bool,
}

impl Call {
    /// A GET request for `url`.
    pub(super) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: None }
    }

    /// A POST request with `body` of the media type `kind`.
    pub(super) fn post(url: Url, kind: &'static str, body: Vec<u8>) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        Self { method: Method::POST, url, headers, body: Some(body) }
    }

    /// The same request with a header.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl Session<'_> {
    /// Sends `call`, and follows redirects.
    pub(super) async fn send(&self, mut call: Call) -> Result<Reply, FetchError> {
        for _hop in 0..=REDIRECTS_MAX {
            let reply = self.send_once(&call).await?;
            let status = reply.response.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            call.url = reply.target(&call)?;
        }
        Err(redirect(&call.url, "too often; set url to the final target"))
    }

    /// Sends `call`, and once more if its connection is closed before the response begins: a server may close
    /// a persistent connection while a request is in transit (RFC 9112, 9.3.1). No request of a feed changes
    /// anything on the server.
    async fn send_once(&self, call: &Call) -> Result<Reply, FetchError> {
        match self.try_send(call).await {
            Err(FetchError::Request { source, .. }) if is_hang_up(&source) => {
                self.try_send(call).await
            }
            outcome => outcome,
        }
    }

    async fn try_send(&self, call: &Call) -> Result<Reply, FetchError> {
        let limits = (Instant::now(), self.timeout, self.stall);
        let mut request = self.client.request(call.method.clone(), call.url.clone());
        let is_home = is_home(self.home, &call.url);
        if is_home {
            request = self.material.authenticate(request);
        }
        request = request.headers(call.headers.clone()).timeout(self.timeout);
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let is_own = is_home && call.url.path() == self.home.path();
        let url = if is_own { String::new() } else { redacted_url(&call.url) };
        let failed = |source| FetchError::Request { url: url.clone(), source };
        let response = request.send().await.map_err(|error| transport(error, limits, failed))?;
        Ok(Reply { response, limits, now: self.now, url, is_home })
    }

    /// Sends `call`; any status other than 200 is an error.
    pub(super) async fn request(&self, call: Call) -> Result<Reply, FetchError> {
        self.send(call).await?.good()
    }
}

impl Reply {
    /// The response itself if its status is 200, else the error.
    pub(super) fn good(self) -> Result<Self, FetchError> {
        match self.status() {
            StatusCode::OK => Ok(self),
            status => Err(self.refusal(status)),
        }
    }

    fn refusal(&self, status: StatusCode) -> FetchError {
        let wait = match status.as_u16() {
            429 | 503 => self.header(&RETRY_AFTER).and_then(|text| self.wait(text)),
            _ => None,
        };
        match wait {
            Some(wait) => FetchError::RetryAfter { status, wait },
            None if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN => {
                let hint = if self.is_home {
                    "check user, password, token and certificate"
                } else {
                    REDIRECTED
                };
                FetchError::Denied { status, url: self.url.clone(), hint }
            }
            None => self.failure(),
        }
    }

    /// The error of a status that has no meaning of its own.
    pub(super) fn failure(&self) -> FetchError {
        FetchError::Status { status: self.status(), url: self.url.clone() }
    }

    /// Seconds, or a date, which is compared with the server's clock if the response has one.
    fn wait(&self, text: &str) -> Option<Duration> {
        let wait = match text.trim().parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_no_number) => {
                let until = date(text)?;
                Duration::try_from(until.duration_since(self.date())).unwrap_or(Duration::ZERO)
            }
        };
        Some(wait.min(RETRY_AFTER_MAX))
    }

    /// Time of the server, or else of this host.
    pub(super) fn date(&self) -> Timestamp {
        self.header(&DATE).and_then(date).unwrap_or(self.now)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Text of a header; `None` if it is absent or not ASCII.
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Media type of the body, in lower case, with its parameters.
    pub(super) fn content_type(&self) -> String {
        self.header(&CONTENT_TYPE).unwrap_or_default().trim().to_ascii_lowercase()
    }

    pub(super) fn is_html(&self) -> bool {
        self.content_type().starts_with("text/html")
    }

    /// Length of the body, if the response has it.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes of the body, decompressed.
    pub(super) async fn chunk(
        &mut self,
    ) -> Result<Option<impl Deref<Target = [u8]> + use<>>, FetchError> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|error| transport(error, self.limits, FetchError::Cut))
    }

    /// Target of a redirect.
    fn target(&self, call: &Call) -> Result<Url, FetchError> {
        let Some(target) = self.header(&LOCATION).and_then(|text| call.url.join(text).ok()) else {
            return Err(self.failure());
        };
        let why = if call.method != Method::GET {
            "which is followed for GET only; set url to it if that is correct"
        } else if !matches!(target.scheme(), "http" | "https") {
            "which is not http or https; check the URL"
        } else if call.url.scheme() == "https" && target.scheme() == "http" {
            "which is not encrypted; set url to it if that is correct"
        } else {
            return Ok(target);
        };
        Err(redirect(&target, why))
    }
}

/// True if `url` has the origin of `home`, or is the https service of the same host.
pub(super) fn is_home(home: &Url, url: &Url) -> bool {
    let is_upgraded = (home.scheme(), url.scheme()) == ("http", "https")
        && home.port().is_none()
        && url.port().is_none();
    let is_same = home.scheme() == url.scheme()
        && home.port_or_known_default() == url.port_or_known_default();
    home.host_str() == url.host_str() && (is_same || is_upgraded)
}

fn redirect(to: &Url, why: &'static str) -> FetchError {
    FetchError::Redirect { to: redacted_url(to), why }
}

fn date(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text).ok().and_then(|time| Timestamp::try_from(time).ok())
}

/// Without the URL that reqwest puts into its errors: its query may contain a secret.
fn transport(
    error: reqwest::Error,
    (began, timeout, stall): Limits,
    other: impl FnOnce(reqwest::Error) -> FetchError,
) -> FetchError {
    if !error.is_timeout() {
        return other(error.without_url());
    }
    if stall < timeout && began.elapsed() < timeout {
        return FetchError::Stalled(stall);
    }
    FetchError::Timeout(timeout)
}

/// True if the connection was established, and closed before the response began.
fn is_hang_up(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};

    let ended = |cause: &(dyn Error + 'static)| {
        let http = cause.downcast_ref::<hyper::Error>();
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        http.is_some_and(|it| it.is_incomplete_message() || it.is_canceled())
            || matches!(io, Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
    };
    !error.is_connect() && causes(error).any(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_sent_to_the_feeds_own_origin_only() {
        for (home, url, expected) in [
            ("https://a/x", "https://a/y", true),
            ("https://a/", "https://a:443/", true),
            ("https://a/", "https://A/", true),
            ("https://a/", "https://b/", false),
            ("https://a/", "https://a.b/", false),
            ("https://a/", "https://a:8443/", false),
            ("https://a/", "http://a/", false),
            ("http://a/", "https://a/", true),
            ("http://a:80/", "https://a/", true),
            ("http://a:8080/", "https://a/", false),
            ("http://a/", "https://a:8443/", false),
        ] {
            let [home, url]: [Url; 2] = [home, url].map(|text| text.parse().unwrap());
            assert_eq!(is_home(&home, &url), expected, "{home} {url}");
        }
    }
}
