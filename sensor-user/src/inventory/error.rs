//! Errors of the requests to Azure's instance metadata service.

use reqwest::StatusCode;

/// Maximum size of a response, bytes; a real one has a few thousand.
pub(super) const RESPONSE_MAX: usize = 256 << 10;

/// Why Azure has said nothing.
#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    /// The address is none.
    #[error("{0:?} is not a URL")]
    Url(&'static str),
    /// No HTTP client could be made.
    #[error("set up the http client")]
    Client(#[source] reqwest::Error),
    /// Nobody answered in time, or the answer was cut.
    #[error("no complete answer")]
    Request(#[source] reqwest::Error),
    /// Not 200.
    #[error("answered {0}")]
    Status(StatusCode),
    /// Larger than any real one.
    #[error("the answer is larger than {RESPONSE_MAX} bytes")]
    TooLarge,
    /// Not the document that it should be.
    #[error("the answer is not instance metadata")]
    Answer(#[source] serde_json::Error),
    /// The document names no machine.
    #[error("the answer has no vmId, or no resourceId below /subscriptions/")]
    NoMachine,
}
