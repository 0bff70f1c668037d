//! Fetch: a feed's body, from a file or by HTTP, bounded in size and time.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use reqwest::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::sync::OnceCell;

use super::{FeedConfig, FeedSource, Validators};

/// Why a body could not be had, or must not be used. What feed and where is told
/// by the feed's status.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file could not be read.
    #[error("read the file; it must exist and be readable by the agent's user")]
    File(#[source] io::Error),
    /// A device, a pipe or a folder.
    #[error("not a regular file; name one")]
    NotAFile,
    /// No HTTP client could be made.
    #[error("set up TLS; the host needs a store of certificates")]
    Client(#[source] reqwest::Error),
    /// Nobody answered.
    #[error("no answer; check the address, the network and the certificate")]
    Request(#[source] reqwest::Error),
    /// The body ended before its length, or its compression is damaged.
    #[error("the body ended early or is damaged; it was cut on its way")]
    Cut(#[source] reqwest::Error),
    /// The time ran out.
    #[error("no complete answer within {0:?}; raise timeout if the feed is large")]
    Timeout(Duration),
    /// Not 200 and not 304.
    #[error("answered {0}; check the URL and what it requires")]
    Status(StatusCode),
    /// Larger than allowed.
    #[error("the body is larger than {max} bytes; raise max_size if that is right")]
    TooLarge {
        /// The limit.
        max: u64,
    },
    /// Nothing in it.
    #[error("the body is empty; a feed with nothing to say has at least a comment")]
    Empty,
    /// A web page, as captive portals and error handlers give with status 200.
    #[error("the body is a web page, not a feed; check the URL, and what stands between")]
    Html,
}

/// A good answer.
#[derive(Debug)]
pub enum Fetched {
    /// The version that is already here.
    NotModified,
    /// A body, not empty and no web page.
    Body {
        /// Its bytes, decompressed.
        bytes: Vec<u8>,
        /// To ask with next time.
        validators: Validators,
    },
}

/// The HTTP client that all feeds share. It is made at the first request, so that a host without
/// certificates or network still starts.
#[derive(Debug, Default)]
pub struct Fetcher {
    client: OnceCell<Client>,
}

impl Fetcher {
    /// Fetches the body of `feed`, unless it is still the version of `validators`.
    ///
    /// Files and embedded text have no version here: they are read each time. Files are read on
    /// a thread that may block.
    pub async fn fetch(
        &self,
        feed: &FeedConfig,
        validators: &Validators,
    ) -> Result<Fetched, FetchError> {
        match &feed.source {
            FeedSource::Http(url) => self.get(url, feed, validators).await,
            FeedSource::File(_) | FeedSource::Embedded(_) => {
                let feed = feed.clone();
                let read = tokio::task::spawn_blocking(move || read_local(&feed));
                read.await.map_err(|stopped| FetchError::File(io::Error::other(stopped)))?
            }
        }
    }

    /// Pulls `feed`.
    pub async fn pull(
        &self,
        feed: &FeedConfig,
        cursor: &super::Cursor,
        folder: &Path,
    ) -> Result<super::Pulled, FetchError> {
        let validators = match cursor {
            super::Cursor::Version(validators) => validators.clone(),
            _ => Validators::default(),
        };
        let fetched = self.fetch(feed, &validators).await?;
        keep(fetched, feed, folder)
    }

    /// Pulls a feed that needs no network.
    pub fn local(feed: &FeedConfig, folder: &Path) -> Result<super::Pulled, FetchError> {
        keep(read_local(feed)?, feed, folder)
    }

    async fn get(
        &self,
        url: &Url,
        feed: &FeedConfig,
        validators: &Validators,
    ) -> Result<Fetched, FetchError> {
        let client = self.client.get_or_try_init(async || client()).await?;
        let mut request = client.get(url.clone()).timeout(feed.timeout);
        if let Some(etag) = &validators.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(time) = &validators.last_modified {
            request = request.header(IF_MODIFIED_SINCE, time);
        }
        let timeout = feed.timeout;
        let response =
            request.send().await.map_err(|e| transport(e, timeout, FetchError::Request))?;
        let is_conditional = *validators != Validators::default();
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if is_conditional => return Ok(Fetched::NotModified),
            other => return Err(FetchError::Status(other)),
        }
        let headers = response.headers();
        let validators = Validators {
            etag: header(headers, &ETAG),
            last_modified: header(headers, &LAST_MODIFIED),
        };
        let is_html = header(headers, &CONTENT_TYPE)
            .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"));
        if is_html {
            return Err(FetchError::Html);
        }
        let bytes = body(response, feed).await?;
        check(&bytes)?;
        Ok(Fetched::Body { bytes, validators })
    }
}

fn keep(fetched: Fetched, feed: &FeedConfig, folder: &Path) -> Result<super::Pulled, FetchError> {
    match fetched {
        Fetched::NotModified => Ok(super::Pulled::NotModified),
        Fetched::Body { bytes, validators } => {
            let mut documents =
                super::Documents::create(folder, feed.max_bytes).map_err(FetchError::File)?;
            documents
                .write(&bytes)
                .map_err(|_large| FetchError::TooLarge { max: feed.max_bytes })?;
            let cursor = super::Cursor::Version(validators);
            Ok(super::Pulled::New { documents, extent: super::Extent::Snapshot, cursor })
        }
    }
}

impl FetchError {
    /// How long the server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// Reads a file or embedded feed; of a feed by HTTP there is nothing to read.
pub(crate) fn read_local(feed: &FeedConfig) -> Result<Fetched, FetchError> {
    let bytes = match &feed.source {
        FeedSource::File(path) => read_file(path, feed.max_bytes)?,
        FeedSource::Embedded(text) => text.as_bytes().to_vec(),
        FeedSource::Http(_) => Vec::new(),
    };
    check(&bytes)?;
    Ok(Fetched::Body { bytes, validators: Validators::default() })
}

fn read_file(path: &Path, max: u64) -> Result<Vec<u8>, FetchError> {
    // Opening a pipe would wait for its writer.
    if !path.metadata().map_err(FetchError::File)?.is_file() {
        return Err(FetchError::NotAFile);
    }
    let file = File::open(path).map_err(FetchError::File)?;
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(FetchError::File)?;
    if bytes.len() as u64 > max {
        return Err(FetchError::TooLarge { max });
    }
    Ok(bytes)
}

fn client() -> Result<Client, FetchError> {
    crate::tls::install_provider();
    Client::builder()
        .user_agent(concat!("netsensor/", env!("CARGO_PKG_VERSION")))
        // At the next pull an idle connection would be long dead.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(FetchError::Client)
}

async fn body(mut response: Response, feed: &FeedConfig) -> Result<Vec<u8>, FetchError> {
    let max = feed.max_bytes;
    if response.content_length().is_some_and(|length| length > max) {
        return Err(FetchError::TooLarge { max });
    }
    let mut bytes = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|e| transport(e, feed.timeout, FetchError::Cut))?
    {
        if (bytes.len() + chunk.len()) as u64 > max {
            return Err(FetchError::TooLarge { max });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// reqwest names the URL, query included, in its errors; the query may be a secret.
fn transport(
    error: reqwest::Error,
    timeout: Duration,
    other: fn(reqwest::Error) -> FetchError,
) -> FetchError {
    if error.is_timeout() { FetchError::Timeout(timeout) } else { other(error.without_url()) }
}

/// Refuses what is no feed whatever its kind.
pub(super) fn check(bytes: &[u8]) -> Result<(), FetchError> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    if text.is_empty() {
        return Err(FetchError::Empty);
    }
    let begins = |word: &[u8]| text.get(..word.len()).is_some_and(|s| s.eq_ignore_ascii_case(word));
    if begins(b"<!doctype html") || begins(b"<html") {
        return Err(FetchError::Html);
    }
    Ok(())
}
