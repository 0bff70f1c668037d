//! `Row`: one minute of one group key, as a row of Microsoft's `VMConnection`.
//!
//! The serde names are Microsoft's columns (type and meaning as documented there), then our own
//! extension columns; they are a contract. Text that is absent is "", and an absent number null.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One `VMConnection` row. Counts are deltas of the minute, `LinksLive` is the gauge at its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Row {
    /// Start of the minute, UTC.
    pub time_generated: Timestamp,
    /// Full name of the host.
    pub computer: String,
    /// The agent's UUID.
    pub agent_id: String,
    /// `m-` and the agent's UUID.
    pub machine: String,
    /// `p-` and a stable hash of the machine and the executable.
    pub process: String,
    /// File name of the executable.
    pub process_name: String,
    /// Stable hash of the group key and the minute.
    pub connection_id: String,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The end that began.
    pub source_ip: String,
    /// The end that was called.
    pub destination_ip: String,
    /// Port of the end that was called.
    pub destination_port: u16,
    /// The remote end.
    pub remote_ip: String,
    /// Connections established in the minute.
    pub links_established: u64,
    /// Connections that ended in the minute.
    pub links_terminated: u64,
    /// Attempts that failed in the minute.
    pub links_failed: u64,
    /// Connections open at the end of the minute.
    pub links_live: u64,
    /// Payload bytes sent in the minute.
    pub bytes_sent: u64,
    /// Payload bytes received in the minute.
    pub bytes_received: u64,
    /// Responses in the minute; `None` where there was none.
    pub responses: Option<u64>,
    /// Shortest time to a response, milliseconds.
    pub response_time_min: Option<u64>,
    /// Longest time to a response, milliseconds.
    pub response_time_max: Option<u64>,
    /// Sum of the times to all responses, milliseconds.
    pub response_time_sum: Option<u64>,
    /// JSON array as text: names that this host asked for and that led to the remote address.
    pub remote_dns_questions: String,
    /// JSON array as text: canonical names that DNS gave for the remote address.
    pub remote_dns_canonical_names: String,
    /// Class of the remote end.
    pub remote_classification: String,
    /// Country of the remote address, its English name.
    pub remote_country: String,
    /// Latitude of the remote address, degrees.
    pub remote_latitude: Option<f64>,
    /// Longitude of the remote address, degrees.
    pub remote_longitude: Option<f64>,
    /// The remote address where an indicator names it, else "".
    pub malicious_ip: String,
    /// Of that indicator: kind of threat.
    pub indicator_threat_type: String,
    /// Of that indicator: description.
    pub description: String,
    /// Of that indicator: `White`, `Green`, `Amber` or `Red`.
    #[serde(rename = "TLPLevel")]
    pub tlp_level: String,
    /// Of that indicator: "0" to "100", as text.
    pub confidence: String,
    /// Of that indicator: 0 to 5.
    pub severity: Option<i32>,
    /// Of that indicator: when it was first reported, RFC 3339, as text.
    pub first_reported_date_time: String,
    /// Of that indicator: when it was last reported, RFC 3339, as text.
    pub last_reported_date_time: String,
    /// Of that indicator: `True` or `False`, as text.
    pub is_active: String,
    /// Of that indicator: where to read more.
    pub report_reference_link: String,
    /// Of that indicator: what else its source says.
    pub additional_information: String,
    /// The kind of agent that reports.
    pub source_system: String,
    /// Always `VMConnection`.
    pub r#type: String,
    /// Resource of the host in Azure.
    #[serde(rename = "_ResourceId")]
    pub resource_id: String,
    /// Its subscription.
    #[serde(rename = "_SubscriptionId")]
    pub subscription_id: String,
    /// For the service that bills the row to fill in.
    #[serde(rename = "_BilledSize")]
    pub billed_size: Option<f64>,
    /// For the service that bills the row to fill in.
    #[serde(rename = "_IsBillable")]
    pub is_billable: String,
    /// Extension: id of a process behind the key (the latest seen).
    pub process_id: Option<u32>,
    /// Extension: absolute path of the executable.
    pub process_path: String,
    /// Extension: arguments of that process.
    pub command_line: String,
    /// Extension: its user.
    pub user_name: String,
    /// Extension: file name of its parent's executable.
    pub parent_process_name: String,
    /// Extension: container id.
    pub container_id: String,
    /// Extension: smallest smoothed round-trip time seen in the minute, microseconds.
    pub rtt_min_us: Option<u32>,
    /// Extension: largest smoothed round-trip time seen in the minute, microseconds.
    pub rtt_max_us: Option<u32>,
}

impl Row {
    /// The `Type` column.
    pub const TYPE: &str = "VMConnection";
    /// The `SourceSystem` column.
    pub const SOURCE_SYSTEM: &str = "netsensor";
}
