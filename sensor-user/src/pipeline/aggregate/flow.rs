//! `Flow`: a connection at the time of one of its changes, the input of the matcher.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::protocol::Protocol;
use crate::pipeline::enrich::Process;

/// Direction of a connection, by the end that initiated it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// This host accepted the connection.
    Inbound,
    /// This host initiated the connection.
    Outbound,
}

impl Direction {
    /// Value of the `Direction` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Source of the process of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribution {
    /// The process called connect.
    Connect,
    /// `accept` returned the connection to the process.
    Accept,
    /// The process was the first to read, write or close the connection.
    FirstIo,
    /// The process owns the listening socket: a guess.
    Listener,
    /// The process owned the socket during a socket scan, since no record has its open.
    Scan,
    /// Unknown: the record was lost, or no process owned the socket.
    #[default]
    Unknown,
}

impl Attribution {
    /// True if no action of a process on the connection is known: its process may be corrected.
    pub const fn is_guess(self) -> bool {
        matches!(self, Self::Listener | Self::Unknown)
    }

    /// Value of the `Attribution` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::FirstIo => "first_io",
            Self::Listener => "listener",
            Self::Scan => "scan",
            Self::Unknown => "unknown",
        }
    }
}

/// Phase of a connection at the time of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Seen for the first time: SYN sent, accepted, or one replayed row.
    Opened,
    /// Still open; the counts are those since the previous change. A flow in phase `Opened` came
    /// before.
    Active,
    /// The NAT mapping is known now. A flow in phase `Opened` came before, without the mapping.
    Translated,
    /// Closed. A flow in phase `Opened` came before.
    Closed,
}

impl Phase {
    /// True if hits of the flow are new. Each hit of a connection is new once.
    pub const fn is_first_sight(self) -> bool {
        matches!(self, Self::Opened | Self::Translated)
    }
}

/// A connection at the time of a change: first seen, open, or closed.
///
/// The aggregate stage puts a flow into each [`Change`](super::Change). A recording has the change as
/// a JSON line, and replay builds the same flow from it:
///
/// ```
/// # use std::sync::Arc;
/// # use sensor_user::base::protocol::Protocol;
/// # use sensor_user::pipeline::aggregate::RecordedChange;
/// # use sensor_user::pipeline::aggregate::{Attribution, Change, ChangeKind};
/// # use sensor_user::pipeline::aggregate::{Direction, Flow, Phase};
/// let flow = Flow {
///     time: "2026-03-01T12:00:00Z".parse()?,
///     phase: Phase::Opened,
///     computer: "web01.example.com".into(),
///     direction: Direction::Outbound,
///     protocol: Protocol::Tcp,
///     local: [192, 0, 2, 1].into(),
///     local_port: Some(40_000),
///     remote: [203, 0, 113, 7].into(),
///     remote_port: Some(443),
///     process: Arc::default(),
///     attribution: Attribution::Connect,
///     connections: 1,
///     preexisting: false,
///     translated: None,
///     bytes_sent: 0,
///     bytes_received: 0,
/// };
/// // An outbound connection has its source on this host.
/// assert_eq!((flow.source(), flow.source_port()), (flow.local, Some(40_000)));
/// assert_eq!((flow.destination(), flow.destination_port()), (flow.remote, Some(443)));
///
/// let change = Change::new(ChangeKind::Opened, flow, 1, 0);
/// let line = serde_json::to_string(&RecordedChange::from(&change))?;
/// assert!(line.starts_with(r#"{"TimeGenerated":"2026-03-01T12:00:00Z","Event":"opened","#));
///
/// let replayed = Change::from(serde_json::from_str::<RecordedChange>(&line)?);
/// assert_eq!((replayed.kind, replayed.flow.phase), (ChangeKind::Opened, Phase::Opened));
/// assert_eq!(replayed.flow.peer().port, Some(443));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Flow {
    /// Time of the SYN or of the accept (also in phase `Translated`), of a socket scan, or of the close.
    pub time: Timestamp,
    /// Phase of the connection.
    pub phase: Phase,
    /// Fully qualified name of the host.
    pub computer: Arc<str>,
    /// Direction of the connection.
    pub direction: Direction,
    /// Transport protocol: TCP or UDP.
    pub protocol: Protocol,
    /// Local address; IPv4 for an IPv4-mapped address.
    pub local: IpAddr,
    /// Local port; `None` before the kernel has chosen one, or if the input has none.
    pub local_port: Option<u16>,
    /// Remote address; IPv4 for an IPv4-mapped address.
    pub remote: IpAddr,
    /// Remote port; `None` if the input has none (inbound `VMConnection` rows).
    pub remote_port: Option<u16>,
    /// Process of the connection, as far as known.
    pub process: Arc<Process>,
    /// Source of the process.
    pub attribution: Attribution,
    /// Number of connections: 1, or the links of a replayed row.
    pub connections: u64,
    /// True if the connection was open before the agent started; it then opens at the time of the
    /// initial socket scan.
    pub preexisting: bool,
    /// NAT mapping of the connection, if there is one.
    pub translated: Option<NatMapping>,
    /// Payload bytes sent since the previous change: the sum over all changes is the total.
    pub bytes_sent: u64,
    /// Payload bytes received since the previous change.
    pub bytes_received: u64,
}

/// Ends of a connection on the other side of a network address translation (NAT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NatMapping {
    /// Address of this host as the remote end has it.
    pub local_ip: IpAddr,
    /// Port of this host as the remote end has it.
    pub local_port: u16,
    /// Address of the actual remote end.
    pub remote_ip: IpAddr,
    /// Port of the actual remote end.
    pub remote_port: u16,
}

/// Remote end of a connection, with the ports that an indicator can restrict.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Remote address of the socket.
    pub address: IpAddr,
    /// Remote port, if known.
    pub port: Option<u16>,
    /// Local port, if known.
    pub local_port: Option<u16>,
    /// Actual remote end, if there is a NAT mapping.
    pub translated: Option<SocketAddr>,
}

impl NatMapping {
    /// Address and port of the actual remote end.
    pub const fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote_ip, self.remote_port)
    }
}

impl Flow {
    /// Remote end of the flow.
    pub fn peer(&self) -> Peer {
        Peer {
            address: self.remote,
            port: self.remote_port,
            local_port: self.local_port,
            translated: self.translated.map(|it| it.remote()),
        }
    }

    /// Value of `SourceIp` in Microsoft's tables: the end that initiated the connection.
    pub const fn source(&self) -> IpAddr {
        match self.direction {
            Direction::Inbound => self.remote,
            Direction::Outbound => self.local,
        }
    }

    /// Value of `DestinationIp`: the end that accepted the connection.
    pub const fn destination(&self) -> IpAddr {
        match self.direction {
            Direction::Inbound => self.local,
            Direction::Outbound => self.remote,
        }
    }

    /// Port of the end that initiated the connection.
    pub const fn source_port(&self) -> Option<u16> {
        match self.direction {
            Direction::Inbound => self.remote_port,
            Direction::Outbound => self.local_port,
        }
    }

    /// Value of `DestinationPort`: the port of the end that accepted the connection.
    pub const fn destination_port(&self) -> Option<u16> {
        match self.direction {
            Direction::Inbound => self.local_port,
            Direction::Outbound => self.remote_port,
        }
    }
}
