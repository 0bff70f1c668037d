//! Errors before a request is sent.

use super::secret::SecretError;

/// Why no request can be sent: a file, or the use of its contents, is invalid.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A secret, key or certificate cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Invalid name or value of a header.
    #[error("header {0}: its name or value cannot be sent; use letters, digits and punctuation")]
    Header(String),
    /// The HTTP client cannot be created.
    #[error("set up TLS or the proxy; check the configured certificates and those of the host")]
    Client(#[source] reqwest::Error),
    /// TLS cannot be configured.
    #[error("set up TLS; check the configured certificates and those of the host")]
    Tls(#[source] rustls::Error),
    /// The thread that reads files has stopped: the agent is exiting.
    #[error("files are not read any more; the agent is exiting")]
    Stopped,
}
