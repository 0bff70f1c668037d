//! Settings of the azure sink.

use std::collections::BTreeMap;

use reqwest::Url;

use crate::deliver::sinks::http_client::ServerConfig;
use crate::http::Secret;

/// Settings of `kind = "azure"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsIngestionConfig {
    /// URL of the data collection endpoint, or of the rule itself.
    pub endpoint: Url,
    /// Immutable id of the data collection rule.
    pub dcr: String,
    /// Stream of alerts.
    pub alerts_stream: String,
    /// Streams of rows and agent events by their `Type`; others use [`Self::usual_stream`].
    pub streams: BTreeMap<String, String>,
    /// Audience of the access tokens.
    pub audience: String,
    /// Source of the access tokens.
    pub login: AzureLogin,
    /// Access to the endpoint.
    pub server: ServerConfig,
}

/// Source of access tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureLogin {
    /// An application in Microsoft Entra ID.
    Application {
        /// URL of the token service.
        login_url: Url,
        /// Tenant.
        tenant: String,
        /// Id of the application.
        client_id: String,
        /// Client secret of the application.
        client_secret: Secret,
    },
    /// The machine's identity, from its metadata service.
    ManagedIdentity {
        /// URL that replaces the link-local address; only scheme, host and port are used.
        imds_url: Option<Url>,
        /// Id of the identity, if the machine has several.
        client_id: Option<String>,
    },
}

impl LogsIngestionConfig {
    /// Default of `alerts_stream`.
    pub const ALERTS_STREAM: &str = "Custom-NetsensorAlert_CL";

    /// Default stream of a table.
    pub fn usual_stream(table: &str) -> String {
        format!("Custom-{table}_CL")
    }

    /// Stream of a table; `None` for that of alerts.
    pub(super) fn stream(&self, table: Option<&str>) -> String {
        let Some(table) = table else { return self.alerts_stream.clone() };
        self.streams.get(table).cloned().unwrap_or_else(|| Self::usual_stream(table))
    }
}
