//! Settings of the elasticsearch sink.

use reqwest::Url;

use crate::deliver::sinks::http_client::ServerConfig;

/// Settings of `kind = "elasticsearch"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticsearchConfig {
    /// URL of the server.
    pub url: Url,
    /// Index or data stream of alerts.
    pub alerts_index: String,
    /// Index or data stream of rows.
    pub rows_index: String,
    /// Index or data stream of agent events.
    pub health_index: String,
    /// Access to the server.
    pub server: ServerConfig,
}

impl ElasticsearchConfig {
    /// Default of `alerts_index`.
    pub const ALERTS_INDEX: &str = "logs-netsensor.alert-default";
    /// Default of `rows_index`.
    pub const ROWS_INDEX: &str = "logs-netsensor.row-default";
    /// Default of `health_index`.
    pub const HEALTH_INDEX: &str = "logs-netsensor.health-default";
}
