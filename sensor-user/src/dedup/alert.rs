//! `Alert`: what is posted upstream. The serde names are the columns of the original rule (25,
//! in its order) and then our own; they are a contract.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The rule that this product re-creates.
pub const RULE_ID: &str = "9713e3c0-1410-468d-b79e-383448434b2d";
/// Its name.
pub const RULE_NAME: &str = "TI Map IP Entity to VMConnection";

/// Why an alert was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertKind {
    /// First hit of its key in a window.
    New,
    /// The further hits of a window that has ended.
    Summary,
    /// The connection was before the indicator.
    Retro,
}

impl AlertKind {
    /// The word of the `AlertKind` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Summary => "summary",
            Self::Retro => "retro",
        }
    }
}

/// An entity of an alert, as the rule's entity mappings name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all = "lowercase")]
pub enum Entity {
    /// The host that alerts.
    Host {
        /// Before the first dot of `Computer`.
        #[serde(rename = "HostName")]
        host_name: String,
        /// After it.
        #[serde(rename = "DnsDomain")]
        dns_domain: String,
    },
    /// The remote address.
    Ip {
        /// Canonical text.
        #[serde(rename = "Address")]
        address: String,
    },
    /// The indicator's URL.
    Url {
        /// As given.
        #[serde(rename = "Url")]
        url: String,
    },
}

/// One alert. Absent strings are "", absent times and numbers null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Alert {
    /// Time of the latest connection.
    #[serde(rename = "VMConnection_TimeGenerated")]
    pub vm_connection_time_generated: Timestamp,
    /// The indicator's description.
    pub description: String,
    /// The indicator's activity groups.
    pub activity_group_names: String,
    /// The indicator's id.
    pub indicator_id: String,
    /// The indicator's threat type.
    pub threat_type: String,
    /// The indicator's URL.
    pub url: String,
    /// First instant at which the indicator is no longer valid.
    pub expiration_date_time: Option<Timestamp>,
    /// 0 to 100.
    pub confidence_score: Option<f64>,
    /// The indicator's address or network, as given.
    #[serde(rename = "TI_ipEntity")]
    pub ti_ip_entity: String,
    /// Full name of the host.
    pub computer: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// File name of the executable.
    pub process_name: String,
    /// The end that began.
    pub source_ip: String,
    /// The end that was called.
    pub destination_ip: String,
    /// The remote address, canonical (RFC 5952; IPv4-mapped as IPv4).
    pub remote_ip: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Port of the end that was called.
    pub destination_port: Option<u16>,
    /// The indicator's column of that name.
    #[serde(rename = "NetworkIP")]
    pub network_ip: String,
    /// The indicator's column of that name.
    #[serde(rename = "NetworkDestinationIP")]
    pub network_destination_ip: String,
    /// The indicator's column of that name.
    #[serde(rename = "NetworkSourceIP")]
    pub network_source_ip: String,
    /// The indicator's column of that name.
    pub email_source_ip_address: String,
    /// Always `ThreatIntelligenceIndicator`.
    pub r#type: String,
    /// Same as `VMConnection_TimeGenerated`.
    #[serde(rename = "timestamp")]
    pub timestamp: Timestamp,
    /// Before the first dot of `Computer`.
    pub host_name: String,
    /// After the first dot of `Computer`.
    pub dns_domain: String,

    /// Stable: the same hit gives the same id wherever and however often it is sent.
    pub alert_id: String,
    /// `new`, `summary` or `retro`.
    pub alert_kind: AlertKind,
    /// The rule's id.
    pub rule_id: String,
    /// The rule's name.
    pub rule_name: String,
    /// `Informational`, `Low`, `Medium` or `High`.
    pub severity: String,
    /// `["CommandAndControl"]`.
    pub tactics: Vec<String>,
    /// `["T1071"]`.
    pub techniques: Vec<String>,
    /// Host, IP and (where there is one) URL.
    pub entities: Vec<Entity>,
    /// The prefix that covered the address, canonical.
    pub matched_prefix: String,
    /// Name of the feed.
    pub feed: String,
    /// Traffic light level, as given.
    #[serde(rename = "TLPLevel")]
    pub tlp_level: String,
    /// First connection counted here.
    pub first_seen: Timestamp,
    /// Last connection counted here.
    pub last_seen: Timestamp,
    /// Connections counted here.
    pub connection_count: u64,
    /// Payload bytes sent by them, as far as known.
    pub bytes_sent: u64,
    /// Payload bytes received by them, as far as known.
    pub bytes_received: u64,
    /// Process id.
    pub process_id: Option<u32>,
    /// Absolute path of the executable.
    pub process_path: String,
    /// Arguments joined by spaces.
    pub command_line: String,
    /// User of the process.
    pub user_name: String,
    /// File name of the parent's executable.
    pub parent_process_name: String,
    /// Container id.
    pub container_id: String,
    /// Port of the end that began.
    pub source_port: Option<u16>,
}

/// `HostName` and `DnsDomain` of a `Computer`: before and after its first dot.
///
/// As in the rule (KQL `split` and `array_slice`): `web01` gives (`web01`, ""), `host.` gives
/// (`host`, "").
pub fn split_computer(computer: &str) -> (&str, &str) {
    computer.split_once('.').unwrap_or((computer, ""))
}
