//! Records and map entries of UDP flows and sockets.

use super::{RecordHeader, TaskIds};

/// Source of the owner of a UDP flow, in ascending order of confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum UdpOwnerSource {
    /// No owner is known.
    Unknown = 0,
    /// This task bound the socket.
    Bound = 1,
    /// This task was the first observed to read or write the socket.
    FirstIo = 2,
    /// This task connected the socket, or sent the datagram with an address.
    Sent = 3,
}

impl UdpOwnerSource {
    /// Returns the source with this number, if there is one.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Unknown,
            1 => Self::Bound,
            2 => Self::FirstIo,
            3 => Self::Sent,
            _ => return None,
        })
    }
}

/// Record of the kinds `UdpFlow` and `UdpOwner`. Addresses are IPv6, those of IPv4 mapped
/// (`::ffff:a.b.c.d`).
///
/// Until `owner_resolved`, `task` is the best guess, and an owner record may follow within moments.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct UdpRecord {
    /// Common record header. In a flow record, its time is `first_boot_ns` of [`FlowCounts`].
    pub header: RecordHeader,
    /// Key of the flow. In an owner record, `remote_port` 0 stands for every flow of the socket
    /// that has no resolved owner and began in the same direction. Of sent flows, those with that
    /// process in `on_cpu_tgid` take precedence.
    pub key: FlowKey,
    /// Owner; zero where `header.detail` is `Unknown`.
    pub task: TaskIds,
    /// Local address; `::` in an owner record.
    pub local_addr: [u8; 16],
    /// Local port, host order; 0 in an owner record.
    pub local_port: u16,
    /// 1 if the first datagram was received, 0 if it was sent.
    pub inbound: u8,
    /// 1 if `task` is the owner and no owner record follows.
    pub owner_resolved: u8,
    /// Inode number of the network namespace; 0 if unknown.
    pub netns: u32,
    /// Process id of the task on the CPU when a sent flow began. That is the sender, unless the
    /// datagram had been queued to a firewall in user space (`NFQUEUE`).
    pub on_cpu_tgid: u32,
    /// Explicit padding, zero.
    pub padding: u32,
}

/// Refused datagram of a flow that has no other: nothing was sent or received.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct UdpRefusedRecord {
    /// Common record header.
    pub header: RecordHeader,
    /// Key of the flow.
    pub key: FlowKey,
}

/// End of a UDP socket and of all its flows.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct UdpReleaseRecord {
    /// Common record header.
    pub header: RecordHeader,
    /// Socket cookie of the closed socket.
    pub cookie: u64,
}

/// Key of [`crate::maps::UDP_FLOWS`]: one per socket with its port, and remote address and port. A
/// socket has another port after it was disconnected (`connect(2)` with `AF_UNSPEC`).
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FlowKey {
    /// Socket cookie, never reused.
    pub cookie: u64,
    /// Remote address, IPv6 or mapped IPv4.
    pub remote_addr: [u8; 16],
    /// Remote port, host order.
    pub remote_port: u16,
    /// Port of the socket, host order.
    pub local_port: u16,
    /// Explicit padding. Always zero, since it is part of the key.
    pub padding: [u16; 2],
}

/// Size of a [`FlowKey`], bytes.
pub const FLOW_KEY_LEN: usize = 32;

/// Value of [`crate::maps::UDP_FLOWS`].
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FlowCounts {
    /// Time of the first datagram, ns since boot.
    pub first_boot_ns: u64,
    /// Time of the latest datagram, ns of `CLOCK_MONOTONIC`; in ticks with
    /// [`crate::maps::COARSE_TIME`].
    pub last_monotonic_ns: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Number of datagrams sent.
    pub packets_sent: u64,
    /// Number of datagrams received.
    pub packets_received: u64,
    /// 1 if the first datagram was received.
    pub inbound: u16,
    /// 1 once the flow's record is on the ring. Until then each datagram retries.
    pub emitted: u16,
    /// 1 once the owner is final.
    pub owner_resolved: u16,
    /// 1 once a refused datagram is on the ring.
    pub refused: u16,
}

/// Size of a [`FlowCounts`], bytes.
pub const FLOW_COUNTS_LEN: usize = 56;

const _: () = assert!(size_of::<FlowKey>() == FLOW_KEY_LEN);
const _: () = assert!(size_of::<FlowCounts>() == FLOW_COUNTS_LEN);
const _: () = assert!(size_of::<UdpRecord>() == 128);
const _: () = assert!(size_of::<UdpRefusedRecord>() == 48);
const _: () = assert!(size_of::<UdpReleaseRecord>() == 24);
