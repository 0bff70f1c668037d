//! `Sighting`: the columns of an alert that come from its connection.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::community_id::community_id;
use crate::base::protocol::Protocol;
use crate::base::serde_time;
use crate::pipeline::aggregate::Flow;

/// Connection of an alert, as values of its columns. A live flow is converted to them; the text of a
/// replayed row is taken unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Time of the connection.
    #[serde(with = "serde_time::required")]
    pub time: Timestamp,
    /// Fully qualified name of the host.
    pub computer: String,
    /// Direction: `inbound` or `outbound`.
    pub direction: String,
    /// File name of the executable.
    pub process_name: String,
    /// Address of the end that initiated the connection.
    pub source_ip: String,
    /// Address of the end that accepted the connection.
    pub destination_ip: String,
    /// Remote address, in canonical form.
    pub remote_ip: String,
    /// Transport protocol: `tcp` or `udp`.
    pub protocol: String,
    /// Port of the end that accepted the connection.
    pub destination_port: Option<u16>,
    /// Port of the end that initiated the connection.
    pub source_port: Option<u16>,
    /// Process id, if known.
    pub process_id: Option<u32>,
    /// Absolute path of the executable.
    pub process_path: String,
    /// Arguments of the process, joined by spaces.
    pub command_line: String,
    /// User name of the process.
    pub user_name: String,
    /// File name of the executable of the parent process.
    pub parent_process_name: String,
    /// Container id of the process.
    pub container_id: String,
    /// Source of the process; "" if the input has no such column.
    pub attribution: String,
    /// DNS names of the remote address, from a replayed row. For a live flow the pipeline adds them
    /// from its DNS cache.
    pub remote_dns_questions: String,
}

impl Sighting {
    /// Community ID of the connection; "" if a port, an address or the protocol is unknown.
    pub fn community_id(&self) -> String {
        let ends = self.source_ip.parse().ok().zip(self.destination_ip.parse().ok());
        let Some(((source, destination), protocol)) =
            ends.zip(Protocol::from_column(&self.protocol))
        else {
            return String::new();
        };
        community_id(protocol, source, self.source_port, destination, self.destination_port)
    }
}

impl From<&Flow> for Sighting {
    fn from(flow: &Flow) -> Self {
        let process = &flow.process;
        Self {
            time: flow.time,
            computer: flow.computer.to_string(),
            direction: flow.direction.as_str().to_owned(),
            process_name: process.name.clone(),
            source_ip: flow.source().to_string(),
            destination_ip: flow.destination().to_string(),
            remote_ip: flow.remote.to_string(),
            protocol: flow.protocol.as_str().to_owned(),
            destination_port: flow.destination_port(),
            source_port: flow.source_port(),
            process_id: process.pid,
            process_path: process.path.clone(),
            command_line: process.command_line.clone(),
            user_name: process.user_name.clone(),
            parent_process_name: process.parent_name.clone(),
            container_id: process.container_id.clone(),
            attribution: flow.attribution.as_str().to_owned(),
            remote_dns_questions: String::new(),
        }
    }
}
