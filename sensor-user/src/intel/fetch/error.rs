//! Errors of a pull.

use std::io;
use std::time::Duration;

use reqwest::StatusCode;

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
    #[error("no response; check the address, the network and the certificate")]
    Request(#[source] reqwest::Error),
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
    #[error("the pull did not finish within {0:?}; request less, or larger pages")]
    TooSlow(Duration),
    /// A status other than 200 and 304.
    #[error("status {0}; check the URL and what it requires")]
    Status(StatusCode),
    /// The credentials were refused.
    #[error("status {status}; {hint}")]
    Denied {
        /// 401 or 403.
        status: StatusCode,
        /// Remedy.
        hint: &'static str,
    },
    /// The server refuses requests for some time.
    #[error("status {status}, with Retry-After {wait:?}")]
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
    #[error("the body is larger than {max} bytes; raise max_size if that is correct")]
    TooLarge {
        /// The limit, of all bodies of a pull together.
        max: u64,
    },
    /// The number of pages exceeds the limit.
    #[error("over {0} pages; request less, or raise page_size")]
    TooManyPages(u32),
    /// An empty body.
    #[error("the body is empty; a feed without entries has at least a comment")]
    Empty,
    /// A web page, as captive portals and error handlers return with status 200.
    #[error("the body is a web page, not a feed; check the URL, and the proxies on the path")]
    Html,
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
