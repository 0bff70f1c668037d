//! Conntrack: queries the kernel's connection tracking for one connection, over netlink.
//!
//! Each request is for one connection: `IPCTNL_MSG_CT_GET` of
//! [nfnetlink_conntrack.h](https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nfnetlink_conntrack.h).
//! The kernel responds within the call to `send` (`ctnetlink_get_conntrack` in
//! `net/netfilter/nf_conntrack_netlink.c`). Events are no alternative: they report the connections
//! of all forwarded packets too, and since Linux 5.19 only those of namespaces that have a listener
//! of their own.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol as IpProtocol,
    Tuple as TupleAttribute,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    socket,
};
use serde::{Deserialize, Serialize};

use crate::base::protocol::Protocol;

/// Number of connections that the calling thread's network namespace tracks
/// ([nf_conntrack-sysctl](https://docs.kernel.org/networking/nf_conntrack-sysctl.html)).
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// Maximum number of bytes of a response; one connection takes some 400.
const RESPONSE_BYTES: usize = 8192;

/// One direction of a connection, `struct nf_conntrack_tuple` of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuple {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address and port of the sender.
    pub source: SocketAddr,
    /// Address and port of the receiver.
    pub destination: SocketAddr,
}

impl Tuple {
    /// The tuple of packets in the opposite direction, without NAT.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { protocol: self.protocol, source: self.destination, destination: self.source }
    }
}

/// A tracked connection: the tuples of packets as they enter this host or leave a socket, before
/// NAT. Without NAT, one is the other reversed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackedConnection {
    /// Packets of the end that initiated the connection.
    pub original: Tuple,
    /// Packets of the other end.
    pub reply: Tuple,
}

/// Why the kernel's table cannot be queried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConntrackError {
    /// The kernel module is missing.
    #[error("nf_conntrack is not loaded")]
    Absent,
    /// The kernel refuses the query.
    #[error("conntrack: {0}; it takes CAP_NET_ADMIN")]
    Refused(Errno),
    /// The response cannot be parsed.
    #[error("conntrack: invalid response of {bytes} bytes: {detail}")]
    Response {
        /// Size of the response.
        bytes: usize,
        /// Error of the parser.
        detail: String,
    },
}

/// A socket to the table of one network namespace: that of the thread which opened the socket.
#[derive(Debug)]
pub struct Conntrack {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Number of connections that the calling thread's network namespace tracks; 0 if no rule requires
/// tracking.
pub fn tracked_connections() -> Result<u64, ConntrackError> {
    let mut text = String::new();
    let mut file = File::open(COUNT).map_err(|_absent| ConntrackError::Absent)?;
    file.read_to_string(&mut text).map_err(|_absent| ConntrackError::Absent)?;
    text.trim().parse().map_err(|_not_a_number: std::num::ParseIntError| ConntrackError::Absent)
}

impl Conntrack {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, ConntrackError> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkNetFilter,
        )
        .map_err(ConntrackError::Refused)?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(ConntrackError::Refused)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; RESPONSE_BYTES] })
    }

    /// Checks that the kernel responds to queries.
    pub fn check(&mut self) -> Result<(), ConntrackError> {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let tuple =
            Tuple { protocol: Protocol::Tcp, source: unspecified, destination: unspecified };
        self.find(&tuple).map(drop)
    }

    /// Returns the connection that has `tuple` as one of its directions; `None` if there is no such
    /// connection. (`ctnetlink_get_conntrack` finds an entry by either direction:
    /// `nf_conntrack_find_get` in `net/netfilter/nf_conntrack_core.c`.)
    pub fn find(&mut self, tuple: &Tuple) -> Result<Option<TrackedConnection>, ConntrackError> {
        self.sequence = self.sequence.wrapping_add(1);
        let fd = self.socket.as_raw_fd();
        send(fd, &request(tuple, self.sequence), MsgFlags::empty())
            .map_err(ConntrackError::Refused)?;
        loop {
            let bytes = match recv(fd, &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                read => read.map_err(ConntrackError::Refused)?,
            };
            let response = self.buffer.get(..bytes).unwrap_or_default();
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(response)
                .map_err(|error| ConntrackError::Response { bytes, detail: error.to_string() })?;
            if message.header.sequence_number == self.sequence {
                return tracked_connection(message.payload, tuple.protocol);
            }
        }
    }
}

fn request(tuple: &Tuple, sequence: u32) -> Vec<u8> {
    let family = match tuple.source.ip() {
        IpAddr::V4(_) => NetfilterProtoFamily::IPv4,
        IpAddr::V6(_) => NetfilterProtoFamily::IPv6,
    };
    let protocol = match tuple.protocol {
        Protocol::Tcp => IpProtocol::Tcp,
        Protocol::Udp => IpProtocol::Udp,
    };
    let attributes = vec![ConntrackAttribute::CtaTupleOrig(vec![
        TupleAttribute::Ip(vec![
            IPTuple::SourceAddress(tuple.source.ip()),
            IPTuple::DestinationAddress(tuple.destination.ip()),
        ]),
        TupleAttribute::Proto(vec![
            ProtoTuple::Protocol(protocol),
            ProtoTuple::SourcePort(tuple.source.port()),
            ProtoTuple::DestinationPort(tuple.destination.port()),
        ]),
    ])];
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = sequence;
    let body = NetfilterMessage::new(
        NetfilterHeader::new(family, 0, 0),
        ConntrackMessage::Get(attributes),
    );
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(body));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn tracked_connection(
    payload: NetlinkPayload<NetfilterMessage>,
    protocol: Protocol,
) -> Result<Option<TrackedConnection>, ConntrackError> {
    let message = match payload {
        NetlinkPayload::InnerMessage(message) => message,
        NetlinkPayload::Error(error) => {
            let errno = Errno::from_raw(error.raw_code().wrapping_neg());
            return match errno {
                Errno::ENOENT => Ok(None),
                errno => Err(ConntrackError::Refused(errno)),
            };
        }
        _ => return Ok(None),
    };
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else {
        return Ok(None);
    };
    let (mut original, mut reply) = (None, None);
    for attribute in &attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(parts) => original = tuple(parts, protocol),
            ConntrackAttribute::CtaTupleReply(parts) => reply = tuple(parts, protocol),
            _ => {}
        }
    }
    Ok(original.zip(reply).map(|(original, reply)| TrackedConnection { original, reply }))
}

fn tuple(parts: &[TupleAttribute], protocol: Protocol) -> Option<Tuple> {
    let (mut source, mut destination, mut source_port, mut destination_port) =
        (None, None, None, None);
    for part in parts {
        match part {
            TupleAttribute::Ip(addresses) => {
                for address in addresses {
                    match address {
                        IPTuple::SourceAddress(address) => source = Some(*address),
                        IPTuple::DestinationAddress(address) => destination = Some(*address),
                        _ => {}
                    }
                }
            }
            TupleAttribute::Proto(ports) => {
                for port in ports {
                    match port {
                        ProtoTuple::SourcePort(port) => source_port = Some(*port),
                        ProtoTuple::DestinationPort(port) => destination_port = Some(*port),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Tuple {
        protocol,
        source: SocketAddr::new(source?, source_port?),
        destination: SocketAddr::new(destination?, destination_port?),
    })
}
