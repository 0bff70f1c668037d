//! Fetch: the body of a feed, from a file or over HTTP, bounded in size and time.
//!
//! A body that is no feed (empty, HTML, cut short, too large) is an error here, before anything is
//! parsed. Redirects are followed by reqwest's own limit; compression is undone, and the size
//! limit holds for what comes out.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use reqwest::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Client, StatusCode, Url};

use super::{FeedConfig, FeedSource};

/// What tells whether a body has changed since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
    file: Option<(SystemTime, u64)>,
}

/// A good answer.
#[derive(Debug)]
pub enum Fetched {
    /// The body is as it was.
    NotModified,
    /// A body, and what to ask with next time.
    Body(Vec<u8>, Validators),
}

/// Why there is no body. The last good set stays.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file cannot be read.
    #[error("read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No answer, or a broken one.
    #[error("get {url}")]
    Http {
        /// Where, without user and password.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// An answer that is not 200.
    #[error("get {url}: status {status}; check the feed's url and access")]
    Status {
        /// Where.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// More than allowed.
    #[error("{place}: body over {max_bytes} bytes; raise max_size if the feed is really so large")]
    TooLarge {
        /// Where.
        place: String,
        /// The limit.
        max_bytes: u64,
    },
    /// Nothing.
    #[error("{place}: empty body; a feed with nothing in it is not believed")]
    Empty {
        /// Where.
        place: String,
    },
    /// A page for people.
    #[error("{place}: HTML instead of a feed; is it a login or error page?")]
    Html {
        /// Where.
        place: String,
    },
}

/// A client for feeds: rustls, gzip, and the operator's proxy variables.
pub fn client() -> reqwest::Result<Client> {
    crate::tls::install_provider();
    Client::builder()
        .user_agent(concat!("netsensor/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .build()
}

/// Gets the body of `feed`, unless it is as `known` says.
pub async fn fetch(
    client: &Client,
    feed: &FeedConfig,
    known: &Validators,
) -> Result<Fetched, FetchError> {
    let fetched = match &feed.source {
        FeedSource::Embedded(text) => {
            Fetched::Body(text.as_bytes().to_vec(), Validators::default())
        }
        FeedSource::File(path) => file(path.clone(), feed.max_bytes, known)?,
        FeedSource::Http(url) => http(client, url, feed, known).await?,
    };
    if let Fetched::Body(body, _) = &fetched {
        check_body(&place(&feed.source), body)?;
    }
    Ok(fetched)
}

/// Where a feed comes from, fit for a log: without user and password.
pub fn place(source: &FeedSource) -> String {
    match source {
        FeedSource::Embedded(_) => "embedded example indicators".to_owned(),
        FeedSource::File(path) => path.display().to_string(),
        FeedSource::Http(url) => plain(url),
    }
}

fn plain(url: &Url) -> String {
    let mut url = url.clone();
    let cleared = url.set_username("").and_then(|()| url.set_password(None));
    if cleared.is_err() {
        // Only for URLs that cannot have them.
        return url.to_string();
    }
    url.to_string()
}

fn file(path: PathBuf, max_bytes: u64, known: &Validators) -> Result<Fetched, FetchError> {
    let read = || -> std::io::Result<Option<(Vec<u8>, Validators)>> {
        let file = std::fs::File::open(&path)?;
        let metadata = file.metadata()?;
        let state = Some((metadata.modified()?, metadata.len()));
        if state == known.file {
            return Ok(None);
        }
        let mut body = Vec::new();
        file.take(max_bytes.saturating_add(1)).read_to_end(&mut body)?;
        Ok(Some((body, Validators { file: state, ..Validators::default() })))
    };
    match read() {
        Ok(None) => Ok(Fetched::NotModified),
        Ok(Some((body, _))) if body.len() as u64 > max_bytes => {
            Err(FetchError::TooLarge { place: path.display().to_string(), max_bytes })
        }
        Ok(Some((body, validators))) => Ok(Fetched::Body(body, validators)),
        Err(source) => Err(FetchError::File { path, source }),
    }
}

async fn http(
    client: &Client,
    url: &Url,
    feed: &FeedConfig,
    known: &Validators,
) -> Result<Fetched, FetchError> {
    let failed =
        |source: reqwest::Error| FetchError::Http { url: plain(url), source: source.without_url() };
    let mut request = client.get(url.clone()).timeout(feed.timeout);
    if let Some(etag) = &known.etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    if let Some(last_modified) = &known.last_modified {
        request = request.header(IF_MODIFIED_SINCE, last_modified);
    }
    let mut response = request.send().await.map_err(failed)?;
    match response.status() {
        StatusCode::NOT_MODIFIED => return Ok(Fetched::NotModified),
        StatusCode::OK => {}
        status => return Err(FetchError::Status { url: plain(url), status }),
    }
    if is_html(response.headers()) {
        return Err(FetchError::Html { place: plain(url) });
    }
    let validators = Validators {
        etag: response.headers().get(ETAG).cloned(),
        last_modified: response.headers().get(LAST_MODIFIED).cloned(),
        file: None,
    };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if (body.len() + chunk.len()) as u64 > feed.max_bytes {
            return Err(FetchError::TooLarge { place: plain(url), max_bytes: feed.max_bytes });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Fetched::Body(body, validators))
}

fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| text.trim_start().to_ascii_lowercase().starts_with("text/html"))
}

fn check_body(place: &str, body: &[u8]) -> Result<(), FetchError> {
    let text = body.trim_ascii_start();
    if text.is_empty() {
        return Err(FetchError::Empty { place: place.to_owned() });
    }
    let head: Vec<u8> = text.iter().take(14).map(u8::to_ascii_lowercase).collect();
    if head.starts_with(b"<!doctype html") || head.starts_with(b"<html") {
        return Err(FetchError::Html { place: place.to_owned() });
    }
    Ok(())
}
