//! `RecordedChange`: the JSON line of a change, written by `record` and read by `replay --live`.
//!
//! A line has the columns of `VMConnection`, with the counts of this change alone, and extension
//! columns for facts that a row has not. So `replay --at` reads the same file as rows.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::change::{Change, ChangeKind, ClosedBy, Guess};
use super::flow::{Attribution, Direction, Flow, NatMapping};
use super::response_times::ResponseTimes;
use crate::base::community_id::community_id;
use crate::base::protocol::Protocol;
use crate::pipeline::enrich::Process;

/// JSON line of one change of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecordedChange {
    /// Time of the change, UTC, to the nanosecond.
    pub time_generated: Timestamp,
    /// Kind of the change: `opened`, `established`, `active`, `translated`, `attributed`,
    /// `failed` or `closed`.
    pub event: ChangeKind,
    /// Number of the connection in the recording, from 1.
    pub connection_number: u64,
    /// Fully qualified name of the host.
    pub computer: String,
    /// Direction: `inbound` or `outbound`.
    pub direction: Direction,
    /// Transport protocol: `tcp` or `udp`.
    pub protocol: Protocol,
    /// Address of the end that initiated the connection.
    pub source_ip: IpAddr,
    /// Port of that end, if known.
    pub source_port: Option<u16>,
    /// Address of the end that accepted the connection.
    pub destination_ip: IpAddr,
    /// Port of that end, if known.
    pub destination_port: Option<u16>,
    /// Address of the remote end.
    pub remote_ip: IpAddr,
    /// 1 for `established`, else 0.
    pub links_established: u64,
    /// 1 for `closed`, else 0.
    pub links_terminated: u64,
    /// 1 for `failed`, else 0.
    pub links_failed: u64,
    /// Payload bytes sent since the previous change.
    pub bytes_sent: u64,
    /// Payload bytes received since the previous change.
    pub bytes_received: u64,
    /// Datagrams sent since the previous change (UDP).
    #[serde(default)]
    pub packets_sent: u64,
    /// Datagrams received since the previous change (UDP).
    #[serde(default)]
    pub packets_received: u64,
    /// Responses since the previous change (TCP).
    #[serde(default)]
    pub responses: u64,
    /// Sum of the response times, µs.
    #[serde(default)]
    pub response_time_sum_us: u64,
    /// Minimum response time, µs; 0 for no response.
    #[serde(default)]
    pub response_time_min_us: u32,
    /// Maximum response time, µs; 0 for no response.
    #[serde(default)]
    pub response_time_max_us: u32,
    /// True if the connection was open before the agent started.
    #[serde(default)]
    pub preexisting: bool,
    /// NAT mapping of the connection, if there is one.
    #[serde(default)]
    pub translated: Option<NatMapping>,
    /// Source of the process.
    pub attribution: Attribution,
    /// File name of the executable.
    pub process_name: String,
    /// Process id, if known.
    pub process_id: Option<u32>,
    /// Start of the process, ns since boot; 0 if unknown.
    pub process_start_boot_ns: u64,
    /// Absolute path of the executable.
    pub process_path: String,
    /// Arguments of the process, joined by spaces.
    pub command_line: String,
    /// User id of the process.
    pub user_id: Option<u32>,
    /// User name of the process.
    pub user_name: String,
    /// Process id of the parent.
    pub parent_process_id: Option<u32>,
    /// File name of the executable of the parent.
    pub parent_process_name: String,
    /// cgroup v2 id of the process; 0 if unknown.
    pub cgroup_id: u64,
    /// Container id of the process.
    pub container_id: String,
    /// Inode number of the network namespace; 0 if unknown.
    pub network_namespace: u32,
    /// errno of a failure or of an abnormal close; 0 for none.
    pub error_number: u32,
    /// Smoothed round-trip time, microseconds, while the connection is open and at its close; 0 if
    /// unknown.
    pub rtt_us: u32,
    /// Nanoseconds from open to close; 0 before the close.
    pub duration_ns: u64,
    /// End that closed the connection: `local`, `remote`, `timeout` or `unknown`.
    #[serde(default)]
    pub closed_by: ClosedBy,
    /// Community ID of the connection (version 1, seed 0); "" if a port is unknown.
    #[serde(default)]
    pub community_id: String,
    /// In an event `attributed`: the guess that it corrects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guess: Option<RecordedGuess>,
    /// Name of the table: always `VMConnection`.
    pub r#type: String,
}

/// Process that a connection was attributed to before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecordedGuess {
    /// Time at which the connection was opened.
    pub since: Timestamp,
    /// File name of the executable.
    pub process_name: String,
    /// Process id, if known.
    pub process_id: Option<u32>,
    /// Absolute path of the executable.
    pub process_path: String,
    /// Container id of the process.
    pub container_id: String,
}

impl From<&Guess> for RecordedGuess {
    fn from(guess: &Guess) -> Self {
        let process = &guess.process;
        Self {
            since: guess.since,
            process_name: process.name.clone(),
            process_id: process.pid,
            process_path: process.path.clone(),
            container_id: process.container_id.clone(),
        }
    }
}

impl From<RecordedGuess> for Guess {
    fn from(recorded: RecordedGuess) -> Self {
        let process = Process {
            pid: recorded.process_id,
            name: recorded.process_name,
            path: recorded.process_path,
            container_id: recorded.container_id,
            ..Process::default()
        };
        Self { process: Arc::new(process), since: recorded.since }
    }
}

impl From<&Change> for RecordedChange {
    fn from(change: &Change) -> Self {
        let (flow, process) = (&change.flow, &change.flow.process);
        Self {
            time_generated: flow.time,
            event: change.kind,
            connection_number: change.number,
            computer: flow.computer.to_string(),
            direction: flow.direction,
            protocol: flow.protocol,
            source_ip: flow.source(),
            source_port: flow.source_port(),
            destination_ip: flow.destination(),
            destination_port: flow.destination_port(),
            remote_ip: flow.remote,
            links_established: u64::from(change.kind == ChangeKind::Established),
            links_terminated: u64::from(change.kind == ChangeKind::Closed),
            links_failed: u64::from(change.kind == ChangeKind::Failed),
            bytes_sent: flow.bytes_sent,
            bytes_received: flow.bytes_received,
            packets_sent: change.packets_sent,
            packets_received: change.packets_received,
            responses: change.responses.count,
            response_time_sum_us: change.responses.sum_us,
            response_time_min_us: change.responses.min_us,
            response_time_max_us: change.responses.max_us,
            preexisting: flow.preexisting,
            translated: flow.translated,
            attribution: flow.attribution,
            process_name: process.name.clone(),
            process_id: process.pid,
            process_start_boot_ns: process.start_boot_ns,
            process_path: process.path.clone(),
            command_line: process.command_line.clone(),
            user_id: process.uid,
            user_name: process.user_name.clone(),
            parent_process_id: process.parent_pid,
            parent_process_name: process.parent_name.clone(),
            cgroup_id: process.cgroup_id,
            container_id: process.container_id.clone(),
            network_namespace: change.netns,
            error_number: change.error,
            rtt_us: change.rtt_us,
            duration_ns: u64::try_from(change.duration.as_nanos()).unwrap_or(u64::MAX),
            closed_by: change.closed_by,
            community_id: community_id(
                flow.protocol,
                flow.source(),
                flow.source_port(),
                flow.destination(),
                flow.destination_port(),
            ),
            guess: change.guess.as_ref().map(RecordedGuess::from),
            r#type: "VMConnection".to_owned(),
        }
    }
}

impl From<RecordedChange> for Change {
    fn from(line: RecordedChange) -> Self {
        let (source, destination) =
            (line.source_ip.to_canonical(), line.destination_ip.to_canonical());
        let ends = ((source, line.source_port), (destination, line.destination_port));
        let ((local, local_port), (remote, remote_port)) = match line.direction {
            Direction::Outbound => ends,
            Direction::Inbound => (ends.1, ends.0),
        };
        let process = Process {
            pid: line.process_id,
            start_boot_ns: line.process_start_boot_ns,
            parent_pid: line.parent_process_id,
            parent_name: line.parent_process_name,
            name: line.process_name,
            path: line.process_path,
            command_line: line.command_line,
            uid: line.user_id,
            user_name: line.user_name,
            cgroup_id: line.cgroup_id,
            container_id: line.container_id,
        };
        let flow = Flow {
            time: line.time_generated,
            phase: line.event.phase(),
            computer: line.computer.into(),
            direction: line.direction,
            protocol: line.protocol,
            local,
            local_port,
            remote,
            remote_port,
            process: Arc::new(process),
            attribution: line.attribution,
            connections: 1,
            preexisting: line.preexisting,
            translated: line.translated,
            bytes_sent: line.bytes_sent,
            bytes_received: line.bytes_received,
        };
        Self {
            kind: line.event,
            flow,
            number: line.connection_number,
            netns: line.network_namespace,
            cookie: 0,
            error: line.error_number,
            rtt_us: line.rtt_us,
            duration: Duration::from_nanos(line.duration_ns),
            closed_by: line.closed_by,
            packets_sent: line.packets_sent,
            packets_received: line.packets_received,
            responses: ResponseTimes {
                count: line.responses,
                sum_us: line.response_time_sum_us,
                min_us: line.response_time_min_us,
                max_us: line.response_time_max_us,
            },
            guess: line.guess.map(Guess::from),
        }
    }
}
