//! Errors of a pull.

use std::io;
use std::time::Duration;

use reqwest::StatusCode;

use crate::base::text_input::TextInputError;
use crate::http::AccessError;
use crate::intel::pull::DocumentsError;

/// Why a body could not be fetched, or must not be used. The status of the feed names the feed and its
/// location.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file could not be read.
    #[error("read the file; it must exist and be readable by the agent's user")]
    File(#[source] io::Error),
    /// The path is a device, a pipe or a directory.
    #[error("not a regular file; use one")]
    NotAFile,
    /// No request can be sent: an error in secrets, certificates or headers.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No response.
    #[error("no response{}; check the address, the network and the certificate", of(.url))]
    Request {
        /// Requested URL, as in `Status`.
        url: String,
        /// Error of the client.
        #[source]
        source: reqwest::Error,
    },
    /// The body ended before its length, or its compression is damaged.
    #[error("the body ended early or is damaged; it was cut in transit")]
    Cut(#[source] reqwest::Error),
    /// The time limit was exceeded.
    #[error("no complete response within {0:?}; raise timeout if the feed is large")]
    Timeout(Duration),
    /// No byte was received for this time.
    #[error("the body stalled for {0:?}; check the server and the proxies on the path")]
    Stalled(Duration),
    /// All requests together took too long.
    #[error(
        "the pull did not finish within {limit:?}, and reached page {page}; request less, or raise page_size"
    )]
    TooSlow {
        /// The limit.
        limit: Duration,
        /// Page that it reached.
        page: u32,
    },
    /// A status other than 200 and 304.
    #[error("status {status}{}; {}", of(.url), remedy(*.status))]
    Status {
        /// That status.
        status: StatusCode,
        /// Requested URL, escaped and without its query; "" for the feed's own.
        url: String,
    },
    /// The credentials were refused, or the status has a remedy of its own.
    #[error("status {status}{}; {hint}", of(.url))]
    Denied {
        /// That status.
        status: StatusCode,
        /// Requested URL, as in `Status`.
        url: String,
        /// Remedy.
        hint: &'static str,
    },
    /// The server refuses requests for some time.
    #[error("status {status}, with Retry-After {wait:?}; the next pull waits for it")]
    RetryAfter {
        /// 429 or 503.
        status: StatusCode,
        /// That time, a day at most.
        wait: Duration,
    },
    /// A redirection that is not followed.
    #[error("redirects to {to}, {why}")]
    Redirect {
        /// Target, escaped and without its query.
        to: String,
        /// Reason and remedy.
        why: &'static str,
    },
    /// The body exceeds the limit.
    #[error(
        "the body is larger than {max} bytes, all pages together; raise max_size if that is correct"
    )]
    TooLarge {
        /// The limit, of all bodies of a pull together.
        max: u64,
    },
    /// A response that should be small is not.
    #[error("a response of more than {0} bytes where a short one is expected; check kind and url")]
    NotSmall(usize),
    /// The number of pages exceeds the limit.
    #[error("more than {max} pages, of up to {largest} items; {remedy}")]
    TooManyPages {
        /// The limit.
        max: u32,
        /// Largest number of items of a page.
        largest: u64,
        /// Remedy.
        remedy: &'static str,
    },
    /// A page has the items of an earlier one.
    #[error(
        "page {page} has the items of page {earlier} again, so the server ignores {parameter}; {remedy}"
    )]
    RepeatedPage {
        /// Number of the page, from 1.
        page: u32,
        /// Number of the earlier page.
        earlier: u32,
        /// Parameter that requests the next page.
        parameter: &'static str,
        /// Remedy.
        remedy: &'static str,
    },
    /// Only empty pages, each with a link to another.
    #[error(
        "{count} pages in a row without an item, each with a link to another; raise page_size if the server filters its pages, else report it to its operator"
    )]
    EmptyPages {
        /// Number of those pages.
        count: u32,
    },
    /// An empty body.
    #[error("the body is empty; a list without entries has at least a comment, JSON at least []")]
    Empty,
    /// A web page, as captive portals and error handlers return with status 200.
    #[error("the body is a web page, not a feed; check the URL, and the proxies on the path")]
    Html,
    /// An archive, or text in another encoding.
    #[error(transparent)]
    NotText(#[from] TextInputError),
    /// An incomplete JSON document.
    #[error("the body ends inside its JSON; it was cut in transit")]
    Truncated,
    /// The server violates the protocol, or lacks the requested resource.
    #[error("{0}")]
    Protocol(String),
    /// The documents cannot be written.
    #[error("write the pulled documents to the state directory; is the disk full?")]
    Write(#[source] io::Error),
}

fn of(url: &str) -> String {
    if url.is_empty() { String::new() } else { format!(" of {url}") }
}

/// Returns the remedy for a status.
fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        404 | 410 => "nothing is there; check the URL",
        405 | 406 | 415 => "the server has no such feed there; check kind and url",
        407 => "the proxy requires credentials; check proxy",
        408 | 429 => "the server is busy; if it lasts, set a longer interval",
        500.. => "the server has an error; if it lasts, report it to its operator",
        _ => "check the URL and what it requires",
    }
}

impl FetchError {
    /// The error of a document, with the limit `max`.
    pub(super) fn from_documents(error: DocumentsError, max: u64) -> Self {
        match error {
            DocumentsError::TooLarge => Self::TooLarge { max },
            DocumentsError::Write(source) => Self::Write(source),
        }
    }

    /// Time before the next pull, if the server requires one.
    pub const fn wait(&self) -> Option<Duration> {
        match self {
            Self::RetryAfter { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}
