//! Settings of the syslog sink.

use std::time::Duration;

use crate::http::TlsConfig;

/// Framing of the messages (RFC 6587).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// Length in octets before each message.
    #[default]
    Octets,
    /// Line end after each message.
    Newline,
}

/// Settings of `kind = "syslog"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogConfig {
    /// Server, `host:port`.
    pub address: String,
    /// TLS settings; `None` for plain TCP.
    pub tls: Option<TlsConfig>,
    /// Name in the server's certificate, if it is not the host of `address`.
    pub server_name: Option<String>,
    /// Framing of the messages.
    pub framing: Framing,
    /// Facility, 0 to 23.
    pub facility: u8,
    /// Header field `APP-NAME`.
    pub app_name: String,
    /// Header field `HOSTNAME`, instead of the item's `Computer`.
    pub hostname: Option<String>,
    /// `SD-ID` of the structured data.
    pub sd_id: String,
    /// Time limit of connecting, and of sending a batch.
    pub timeout: Duration,
}

impl SyslogConfig {
    /// Default facility: `local0`.
    pub const FACILITY: u8 = 16;
    /// Default of `app_name`.
    pub const APP_NAME: &str = "netsensor";
    /// Default of `sd_id`; 32473 is the enterprise number for documentation (RFC 5612), since this
    /// program has no number of its own.
    pub const SD_ID: &str = "netsensor@32473";
    /// Default time limit.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// Plain TCP to `address`, with the defaults.
    pub fn new(address: String) -> Self {
        Self {
            address,
            tls: None,
            server_name: None,
            framing: Framing::Octets,
            facility: Self::FACILITY,
            app_name: Self::APP_NAME.to_owned(),
            hostname: None,
            sd_id: Self::SD_ID.to_owned(),
            timeout: Self::TIMEOUT,
        }
    }

    /// Host of `address`, without brackets.
    pub(super) fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}
