//! Errors of the requests to Azure's instance metadata service.

use reqwest::StatusCode;

/// Maximum size of a response, bytes; real responses have a few thousand.
pub(super) const RESPONSE_MAX: usize = 256 << 10;

/// Reason why Azure's instance metadata is unavailable.
#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    /// The address is not a URL.
    #[error("{0:?} is not a URL")]
    Url(&'static str),
    /// The HTTP client could not be created.
    #[error("set up the http client")]
    Client(#[source] reqwest::Error),
    /// No response within the time limit, or a truncated one.
    #[error("no complete response")]
    Request(#[source] reqwest::Error),
    /// The response status is not 200.
    #[error("response status {0}")]
    Status(StatusCode),
    /// The response is larger than any real one.
    #[error("the response is larger than {RESPONSE_MAX} bytes")]
    TooLarge,
    /// The response is not the expected JSON document.
    #[error("the response is not instance metadata")]
    Response(#[source] serde_json::Error),
    /// The document does not identify a machine.
    #[error("the response has no vmId, or no resourceId below /subscriptions/")]
    NoMachine,
}
