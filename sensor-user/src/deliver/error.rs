//! Errors of sinks, and what the engine does with the batch.

use std::path::Path;
use std::time::Duration;
use std::{fmt, io};

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;

use crate::base::escape::visible;
use crate::http::AccessError;

/// Action for a batch that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureAction {
    /// Keep the batch and retry it.
    Retry {
        /// Minimum delay that the receiver requests (`Retry-After`).
        after: Option<Duration>,
    },
    /// The batch is too large: halve it and retry both halves.
    Split,
    /// One item may be refused: find it by halving, if that is worth it.
    Isolate,
    /// The receiver of this sink has exited; nothing more is sent.
    Closed,
}

/// Error of a batch, or of the start of a sink.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The request cannot be made: secrets, certificates or headers.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No response: connection refused or reset, name not found, timeout.
    #[error("post {url}")]
    Post {
        /// URL of the request, redacted.
        url: String,
        /// Error of the client.
        #[source]
        source: reqwest::Error,
    },
    /// Response with an error status.
    #[error("post {url}: status {status}{}{}", Suffix(": ", text), Suffix("; ", hint))]
    Status {
        /// URL of the request, redacted.
        url: String,
        /// HTTP status.
        status: u16,
        /// Beginning of the response body, escaped; may be "".
        text: String,
        /// Advice for the operator if the error concerns the receiver or the configuration, and not
        /// the items; else "".
        hint: &'static str,
        /// Delay of `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The request exceeds the limit of the receiver and is not sent.
    #[error("a request of {bytes} bytes; the server accepts {max}")]
    TooLarge {
        /// Size of the request, bytes.
        bytes: usize,
        /// Maximum size, bytes.
        max: usize,
    },
    /// A setting that cannot be used.
    #[error("{0}")]
    Setting(&'static str),
    /// A file or connection cannot be opened or written.
    #[error("{operation} {target}")]
    Io {
        /// Operation that failed: `write`, `connect to` or `send to`.
        operation: &'static str,
        /// Path of the file, or the server as configured.
        target: String,
        /// Error of the system.
        #[source]
        source: io::Error,
    },
    /// The receiver does not accept the batch for now: a server, or a full device.
    #[error("{receiver}: {reason}")]
    Unavailable {
        /// Server as configured, redacted URL, or path, after the operation.
        receiver: String,
        /// Reason, with advice for the operator.
        reason: String,
    },
    /// Standard output or standard error cannot be written.
    #[error("write {stream}")]
    Stream {
        /// Name of the stream.
        stream: &'static str,
        /// Error of the system.
        #[source]
        source: io::Error,
    },
}

impl DeliverError {
    /// Action for the batch.
    pub fn action(&self) -> FailureAction {
        match self {
            Self::Status { status: 413, hint: "", .. } | Self::TooLarge { .. } => {
                FailureAction::Split
            }
            Self::Status { status: 400 | 422, hint: "", .. } => FailureAction::Isolate,
            // Includes errors that only the operator can fix (401, 403, 404, a redirect): the spool
            // is delivered once the configuration or the receiver is fixed.
            Self::Status { retry_after, .. } => FailureAction::Retry { after: *retry_after },
            Self::Stream { source, .. } if source.kind() == io::ErrorKind::BrokenPipe => {
                FailureAction::Closed
            }
            Self::Access(_)
            | Self::Post { .. }
            | Self::Setting(_)
            | Self::Io { .. }
            | Self::Unavailable { .. }
            | Self::Stream { .. } => FailureAction::Retry { after: None },
        }
    }

    /// Advice for the operator.
    pub(super) fn hint(&self) -> Option<&'static str> {
        let Self::Status { hint, .. } = self else { return None };
        Some(hint).filter(|hint| !hint.is_empty()).copied()
    }

    /// The error and its causes as text for a log line, escaped.
    pub(super) fn log_text(&self) -> String {
        log_text(self)
    }
}

/// An error and its causes as text for a log line, escaped.
pub(super) fn log_text(error: &dyn std::error::Error) -> String {
    visible(&crate::base::error_chain::chain(error))
}

/// Describes an error of a file at `path`, with the free space if the device is full.
pub(super) fn write_error(path: &Path, source: io::Error) -> DeliverError {
    let target = path.display().to_string();
    let (Some(full @ (Errno::ENOSPC | Errno::EDQUOT)), device) =
        (source.raw_os_error().map(Errno::from_raw), statvfs(path))
    else {
        return DeliverError::Io { operation: "write", target, source };
    };
    let bytes = device.map(|it| it.blocks_available().saturating_mul(it.fragment_size()));
    let free = bytes.map_or_else(|_| "unknown".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let reason = format!("{}; free space {free}", full.desc());
    DeliverError::Unavailable { receiver: format!("write {target}"), reason }
}

/// A separator and a text, or nothing if the text is empty.
pub(super) struct Suffix<'t>(pub(super) &'static str, pub(super) &'t str);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1.is_empty() { Ok(()) } else { write!(out, "{}{}", self.0, self.1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> DeliverError {
        let (url, text) = ("http://c/".to_owned(), "why".to_owned());
        let retry_after = Some(Duration::from_secs(3));
        DeliverError::Status { url, status, text, hint: "", retry_after }
    }

    #[test]
    fn the_action_follows_from_the_status() {
        let later = FailureAction::Retry { after: Some(Duration::from_secs(3)) };
        for (code, action) in [
            (301, later),
            (400, FailureAction::Isolate),
            (401, later),
            (404, later),
            (408, later),
            (409, later),
            (413, FailureAction::Split),
            (422, FailureAction::Isolate),
            (429, later),
            (500, later),
            (503, later),
            (599, later),
            (600, later),
        ] {
            assert_eq!(status(code).action(), action, "{code}");
        }
    }

    #[test]
    fn a_stream_without_a_reader_is_closed_and_other_errors_are_retried() {
        for (kind, action) in [
            (io::ErrorKind::BrokenPipe, FailureAction::Closed),
            (io::ErrorKind::WouldBlock, FailureAction::Retry { after: None }),
        ] {
            let error = DeliverError::Stream { stream: "standard output", source: kind.into() };
            assert_eq!(error.action(), action, "{kind:?}");
        }
        let source = io::ErrorKind::BrokenPipe.into();
        let error = write_error(Path::new("/x"), source);
        assert_eq!(error.action(), FailureAction::Retry { after: None });
    }

    #[test]
    fn a_message_contains_each_cause_once() {
        assert_eq!(status(503).to_string(), "post http://c/: status 503: why");
        let source = io::ErrorKind::PermissionDenied.into();
        let error = write_error(Path::new("/x"), source);
        assert_eq!(error.log_text(), "write /x: permission denied");
    }
}
