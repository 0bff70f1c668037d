//! Settings of the splunk sink.

use std::time::Duration;

use reqwest::Url;

use crate::deliver::sinks::http_client::ServerConfig;

/// Settings of `kind = "splunk"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplunkConfig {
    /// URL of the collector, with or without its path.
    pub url: Url,
    /// Index; by default that of the token.
    pub index: Option<String>,
    /// Field `source`.
    pub source: String,
    /// Field `sourcetype`; by default `netsensor:` and the type of the item.
    pub sourcetype: Option<String>,
    /// Time limit of indexer acknowledgement; `None` if it is not used.
    pub acknowledge: Option<Duration>,
    /// Access to the server.
    pub server: ServerConfig,
}

impl SplunkConfig {
    /// Default of `source`.
    pub const SOURCE: &str = "netsensor";
    /// Default of `acknowledge` if acknowledgement is used.
    pub const ACK_TIMEOUT: Duration = Duration::from_mins(5);
}
