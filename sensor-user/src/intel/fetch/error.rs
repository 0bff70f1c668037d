//! Why a pull was not good.

use std::io;
use std::time::Duration;

use reqwest::StatusCode;

use crate::http::AccessError;
use crate::intel::pull::DocumentsError;

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
    /// The server cannot be asked: its secrets, certificates or headers.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Nobody answered.
    #[error("no answer; check the address, the network and the certificate")]
    Request(#[source] reqwest::Error),
    /// The body ended before its length, or its compression is damaged.
    #[error("the body ended early or is damaged; it was cut on its way")]
    Cut(#[source] reqwest::Error),
    /// The time ran out.
    #[error("no complete answer within {0:?}; raise timeout if the feed is large")]
    Timeout(Duration),
    /// Not a byte came for so long.
    #[error("the body stood still for {0:?}; check the server and what stands between")]
    Stalled(Duration),
    /// All requests together took too long.
    #[error("the pull was not done within {0:?}; ask for less, or for larger pages")]
    TooSlow(Duration),
    /// Not 200 and not 304.
    #[error("answered {0}; check the URL and what it requires")]
    Status(StatusCode),
    /// Who asks is not let in.
    #[error("answered {status}; {hint}")]
    Denied {
        /// 401 or 403.
        status: StatusCode,
        /// What to look at.
        hint: &'static str,
    },
    /// Not now. Whoever pulls again should not do so before.
    #[error("answered {status} and wants to be left alone for {wait:?}")]
    RetryAfter {
        /// 429 or 503.
        status: StatusCode,
        /// For how long, a day at most.
        wait: Duration,
    },
    /// A redirection that is not followed.
    #[error("redirects to {to}, {why}")]
    Redirect {
        /// Where, escaped and without its query.
        to: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// Larger than allowed.
    #[error("the body is larger than {max} bytes; raise max_size if that is right")]
    TooLarge {
        /// The limit, of all bodies of a pull together.
        max: u64,
    },
    /// More pages than anybody has.
    #[error("over {0} pages; ask for less, or raise page_size")]
    TooManyPages(u32),
    /// Nothing in it.
    #[error("the body is empty; a feed with nothing to say has at least a comment")]
    Empty,
    /// A web page, as captive portals and error handlers give with status 200.
    #[error("the body is a web page, not a feed; check the URL, and what stands between")]
    Html,
    /// The document of the protocol is cut.
    #[error("the body ends inside its JSON; it was cut on its way")]
    Truncated,
    /// The server does not keep to the protocol, or has not what is asked for.
    #[error("{0}")]
    Protocol(String),
    /// The disk does not take it.
    #[error("write what was pulled beside the state; is the disk full?")]
    Keep(#[source] io::Error),
}

impl FetchError {
    /// Why `error`, with the limit `max`.
    pub(super) fn keep(error: DocumentsError, max: u64) -> Self {
        match error {
            DocumentsError::TooLarge => Self::TooLarge { max },
            DocumentsError::Write(source) => Self::Keep(source),
        }
    }

    /// How long not to pull again, where the server says so.
    pub const fn wait(&self) -> Option<Duration> {
        match self {
            Self::RetryAfter { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}
