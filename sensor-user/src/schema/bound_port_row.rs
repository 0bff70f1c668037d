//! `BoundPortRow`: one row of Microsoft's `VMBoundPort`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::table::{Table, row};
use crate::base::stable_id::stable_id;

row! {
    /// One minute of one listening port of a process. Counts are deltas of the minute, `LinksLive`
    /// is the gauge at its end.
    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    pub struct BoundPortRow {
        /// Start of the minute, UTC.
        time_generated: Timestamp = "TimeGenerated",
        /// Full name of the host.
        computer: String = "Computer",
        /// UUID of the agent.
        agent_id: String = "AgentId",
        /// `m-` and the agent's UUID.
        machine: String = "Machine",
        /// `p-` and a stable hash of the machine and the executable.
        process: String = "Process",
        /// File name of the executable.
        process_name: String = "ProcessName",
        /// Local address; `0.0.0.0` or `::` for a wildcard socket without connections.
        ip: String = "Ip",
        /// Local port.
        port: u16 = "Port",
        /// `tcp` or `udp`.
        protocol: String = "Protocol",
        /// Stable hash of machine, process, address, port and protocol, and of the network namespace
        /// if it is not the agent's.
        port_id: String = "PortId",
        /// True if the process listens on all addresses of this port; null if unknown (UDP).
        is_wildcard_bind: Option<bool> = "IsWildcardBind",
        /// Connections accepted in the minute.
        links_established: u64 = "LinksEstablished",
        /// Connections closed in the minute.
        links_terminated: u64 = "LinksTerminated",
        /// Connections open at the end of the minute.
        links_live: u64 = "LinksLive",
        /// Payload bytes sent in the minute.
        bytes_sent: u64 = "BytesSent",
        /// Payload bytes received in the minute.
        bytes_received: u64 = "BytesReceived",
        /// Responses in the minute; null if there was none.
        responses: Option<u64> = "Responses",
        /// Shortest response time, milliseconds.
        response_time_min: Option<u64> = "ResponseTimeMin",
        /// Longest response time, milliseconds.
        response_time_max: Option<u64> = "ResponseTimeMax",
        /// Sum of all response times, milliseconds.
        response_time_sum: Option<u64> = "ResponseTimeSum",
        /// Always `netsensor`.
        source_system: String = "SourceSystem",
        /// Always `VMBoundPort`.
        r#type: String = "Type",
        /// Azure resource id of the host.
        resource_id: String = "_ResourceId",
        /// Azure subscription of the host.
        subscription_id: String = "_SubscriptionId",
        /// Always null; the billing service sets it.
        billed_size: Option<f64> = "_BilledSize",
        /// Always ""; the billing service sets it.
        is_billable: String = "_IsBillable",
        /// Container id of the process.
        container_id: String = extension "ContainerId",
        /// Inode number of the network namespace; null if unknown.
        network_namespace: Option<u64> = extension "NetworkNamespace",
    }
}

impl BoundPortRow {
    /// Table `VMBoundPort`: one row a minute and listening port.
    pub const TABLE: Table = Table { name: "VMBoundPort", columns: &Self::COLUMNS };

    /// Returns the row's stable id: equal for the same row, wherever and however often it is sent.
    pub fn id(&self) -> String {
        // A minute is reported twice after the clock was set back.
        let counts = [self.links_established, self.links_terminated, self.links_live];
        let counts = format!("{counts:?} {} {}", self.bytes_sent, self.bytes_received);
        stable_id(&[&self.port_id, &self.time_generated.to_string(), &counts])
    }
}
