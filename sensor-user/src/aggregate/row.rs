//! `Row`: one minute of one group key, as a row of Microsoft's `VMConnection`.
//!
//! The serde names are Microsoft's columns (type and meaning as documented there), then our own
//! extension columns; they are a contract. Text that is absent is "".

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One `VMConnection` row. Counts are deltas of the minute, `LinksLive` is the gauge at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
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
    /// Always `VMConnection`.
    pub r#type: String,
}
