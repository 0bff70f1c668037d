//! `BoundPortRow`: one row of Microsoft's `VMBoundPort`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::stable_id::stable_id;

/// One minute of one port on which a process listens. Counts are deltas of the minute, `LinksLive`
/// is the gauge at its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BoundPortRow {
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
    /// Local address; `0.0.0.0` or `::` of a socket that takes every address and had no connection.
    pub ip: String,
    /// Local port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Stable hash of machine, process, address, port and protocol, and of the network namespace
    /// where that is not the agent's.
    pub port_id: String,
    /// Whether the process listens on every address of this port; null where that is not known (UDP).
    pub is_wildcard_bind: Option<bool>,
    /// Connections accepted in the minute.
    pub links_established: u64,
    /// Connections that ended in the minute.
    pub links_terminated: u64,
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
    /// The kind of agent that reports.
    pub source_system: String,
    /// Always `VMBoundPort`.
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
    /// Extension: container id of the process.
    pub container_id: String,
    /// Extension: inode number of the network namespace; null when unknown.
    pub network_namespace: Option<u32>,
}

impl BoundPortRow {
    /// The `Type` column.
    pub const TYPE: &str = "VMBoundPort";

    /// Stable: the same row has the same id wherever and however often it is sent.
    pub fn id(&self) -> String {
        // Where the clock is set back a minute is told twice.
        let counts = [self.links_established, self.links_terminated, self.links_live];
        let counts = format!("{counts:?} {} {}", self.bytes_sent, self.bytes_received);
        stable_id(&[&self.port_id, &self.time_generated.to_string(), &counts])
    }
}
