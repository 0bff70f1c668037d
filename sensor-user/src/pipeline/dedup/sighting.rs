//! `Sighting`: the connection's side of an alert, as text and numbers of its columns.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::serde_time;
use crate::pipeline::aggregate::Flow;

/// What an alert says of a connection. It comes from a live flow, or from a replayed row, whose
/// text is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// When.
    #[serde(with = "serde_time::required")]
    pub time: Timestamp,
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
    /// The remote end, canonical.
    pub remote_ip: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Port of the end that was called.
    pub destination_port: Option<u16>,
    /// Port of the end that began.
    pub source_port: Option<u16>,
    /// Process id.
    pub process_id: Option<u32>,
    /// Absolute path of the executable.
    pub process_path: String,
    /// Arguments.
    pub command_line: String,
    /// User.
    pub user_name: String,
    /// File name of the parent's executable.
    pub parent_process_name: String,
    /// Container id.
    pub container_id: String,
    /// How the process is known; "" where the input does not say.
    pub attribution: String,
    /// Names that led to the remote end, as a replayed row says; a live one has them from the table
    /// of names.
    pub remote_dns_questions: String,
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
