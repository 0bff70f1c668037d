//! `Flow`: one connection as the matcher sees it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::protocol::Protocol;
use crate::pipeline::enrich::Process;

/// Who began: `connect` on this host is outbound, `accept` is inbound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// This host accepted.
    Inbound,
    /// This host connected.
    Outbound,
}

impl Direction {
    /// The word of the `Direction` column.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// How the process of a connection is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribution {
    /// It called connect.
    Connect,
    /// Accept returned the connection to it.
    Accept,
    /// It was the first to read, write or close the connection.
    FirstIo,
    /// It owns the listener: a guess.
    Listener,
    /// It held the socket when the open sockets were read: the connection is older than the agent.
    Scan,
    /// Not known: the record that would tell was lost, or no process held the socket.
    #[default]
    Unknown,
}

impl Attribution {
    /// The word of the `Attribution` column.
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

/// Where in its life a connection is when the matcher sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Seen for the first time: SYN sent, or accepted, or one replayed row.
    Opened,
    /// Still open, with what it moved since it was last seen. It was seen as `Opened` before.
    Active,
    /// Its translation is known by now. It was seen as `Opened` before, without.
    Translated,
    /// Ended. It was seen as `Opened` before.
    Closed,
}

impl Phase {
    /// Whether hits are new: each of a connection's hits is, once.
    pub const fn is_first_sight(self) -> bool {
        matches!(self, Self::Opened | Self::Translated)
    }
}

/// A connection at a moment that the matcher must see: at first sight, while it lives, at its end.
#[derive(Debug, Clone)]
pub struct Flow {
    /// When: of the SYN, of the accept (these for its translation too), of a look at what is open,
    /// or of the end.
    pub time: Timestamp,
    /// Opened, active or closed.
    pub phase: Phase,
    /// Full name of the host.
    pub computer: Arc<str>,
    /// Who began.
    pub direction: Direction,
    /// Transport.
    pub protocol: Protocol,
    /// This host's end; an IPv4-mapped address is IPv4 here.
    pub local: IpAddr,
    /// This host's port; `None` while the kernel has not chosen one, or where the input has none.
    pub local_port: Option<u16>,
    /// The other end; an IPv4-mapped address is IPv4 here.
    pub remote: IpAddr,
    /// The other end's port; `None` where the input has none (inbound `VMConnection` rows).
    pub remote_port: Option<u16>,
    /// The process, as far as it is known.
    pub process: Arc<Process>,
    /// How it is known.
    pub attribution: Attribution,
    /// Physical connections that this stands for: 1, or the links of a replayed row.
    pub connections: u64,
    /// Whether it was open before the agent watched; its `time` is then that of the first look.
    pub preexisting: bool,
    /// The same connection as the other side of a translation (NAT) sees it, where there is one.
    pub translated: Option<NatMapping>,
    /// Payload bytes sent since it was last told: the sum over all phases is the connection's.
    pub bytes_sent: u64,
    /// Payload bytes received since it was last told.
    pub bytes_received: u64,
}

/// Both ends of a connection behind an address translation, from this host's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NatMapping {
    /// This host's end as the remote one sees it.
    pub local_ip: IpAddr,
    /// Its port.
    pub local_port: u16,
    /// The remote end that is really talked to.
    pub remote_ip: IpAddr,
    /// Its port.
    pub remote_port: u16,
}

/// The remote end of a connection, and the ports that an indicator may ask for besides.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Its port, where it is known.
    pub port: Option<u16>,
    /// This host's port, where it is known.
    pub local_port: Option<u16>,
    /// What it is translated to.
    pub translated: Option<SocketAddr>,
}

impl NatMapping {
    /// The remote end that is really talked to.
    pub const fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.remote_ip, self.remote_port)
    }
}

impl Flow {
    /// Its remote end.
    pub fn peer(&self) -> Peer {
        Peer {
            address: self.remote,
            port: self.remote_port,
            local_port: self.local_port,
            translated: self.translated.map(|it| it.remote()),
        }
    }

    /// `SourceIp` of Microsoft's tables: the end that began.
    pub const fn source(&self) -> IpAddr {
        match self.direction {
            Direction::Inbound => self.remote,
            Direction::Outbound => self.local,
        }
    }

    /// `DestinationIp`: the end that was called.
    pub const fn destination(&self) -> IpAddr {
        match self.direction {
            Direction::Inbound => self.local,
            Direction::Outbound => self.remote,
        }
    }

    /// The port of the end that began.
    pub const fn source_port(&self) -> Option<u16> {
        match self.direction {
            Direction::Inbound => self.remote_port,
            Direction::Outbound => self.local_port,
        }
    }

    /// `DestinationPort`: the port of the end that was called.
    pub const fn destination_port(&self) -> Option<u16> {
        match self.direction {
            Direction::Inbound => self.local_port,
            Direction::Outbound => self.remote_port,
        }
    }
}
