//! Settings of the otlp sink.

use reqwest::Url;

use crate::deliver::sinks::http_client::ServerConfig;

/// Settings of `kind = "otlp"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// URL of the server; without a path, `/v1/logs` is added.
    pub url: Url,
    /// Resource attribute `service.name`.
    pub service_name: String,
    /// Access to the server.
    pub server: ServerConfig,
}

impl OtlpConfig {
    /// Default of `service_name`.
    pub const SERVICE_NAME: &str = "netsensor";
}
