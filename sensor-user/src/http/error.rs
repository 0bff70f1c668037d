//! Why a server cannot be asked at all.

use super::secret::SecretError;

/// Why no request can be made: what stands in files, or how they are used, is wrong.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A secret, key or certificate cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A header cannot be sent.
    #[error("header {0}: its name or value cannot be sent; use letters, digits and punctuation")]
    Header(String),
    /// No HTTP client could be made.
    #[error("set up TLS or the proxy; check the certificates that are named and those of the host")]
    Client(#[source] reqwest::Error),
    /// TLS cannot be set up.
    #[error("set up TLS; check the certificates that are named and those of the host")]
    Tls(#[source] rustls::Error),
    /// The thread that reads files is gone: the agent ends.
    #[error("files are not read any more; the agent ends")]
    Stopped,
}
