//! `OpenSocket`, and the indexed result of a socket scan.

use std::collections::HashSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::base::protocol::Protocol;

/// Both ends of a socket; IPv4-mapped addresses are IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ends {
    /// Local address of the socket.
    pub local: IpAddr,
    /// Local port of the socket.
    pub local_port: u16,
    /// Remote address; unspecified for a socket without a remote end.
    pub remote: IpAddr,
    /// Remote port; 0 for a socket without a remote end.
    pub remote_port: u16,
}

/// Traffic of a TCP connection, counted as in the record of its close: payload without
/// retransmissions and FIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TcpCounts {
    /// Bytes sent (`tcpi_bytes_sent` less `tcpi_bytes_retrans`).
    pub bytes_sent: u64,
    /// Bytes received (`tcpi_bytes_received`, less one for a FIN).
    pub bytes_received: u64,
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: u32,
}

/// An open socket, as a scan found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSocket {
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Socket cookie; 0 if it was read from /proc.
    pub cookie: u64,
    /// Inode number in sockfs; 0 before a process owns the socket, and afterwards.
    pub inode: u32,
    /// Local and remote end.
    pub ends: Ends,
    /// State (`TCP_*` of `include/net/tcp_states.h`, also for UDP).
    pub state: u8,
    /// Traffic of a TCP connection; `None` for other sockets, and if it was read from /proc.
    pub counts: Option<TcpCounts>,
}

// States of include/net/tcp_states.h.
pub(super) const TCP_ESTABLISHED: u8 = 1;
pub(super) const TCP_SYN_SENT: u8 = 2;
pub(super) const TCP_FIN_WAIT1: u8 = 4;
pub(super) const TCP_FIN_WAIT2: u8 = 5;
pub(super) const TCP_CLOSE: u8 = 7;
pub(super) const TCP_CLOSE_WAIT: u8 = 8;
pub(super) const TCP_LAST_ACK: u8 = 9;
pub(super) const TCP_LISTEN: u8 = 10;
pub(super) const TCP_CLOSING: u8 = 11;

impl OpenSocket {
    /// True for a TCP socket whose handshake is not complete.
    pub const fn is_half_open(&self) -> bool {
        self.state == TCP_SYN_SENT
    }

    const fn is_listener(&self) -> bool {
        self.state == TCP_LISTEN
    }
}

/// Sockets that the current scan has found, up to a maximum.
#[derive(Debug)]
pub(super) struct SocketBuffer {
    tcp: Vec<OpenSocket>,
    udp: Vec<OpenSocket>,
    max: usize,
    /// Number of sockets beyond the maximum.
    pub(super) dropped: u64,
}

impl SocketBuffer {
    pub(super) const fn new(max: usize) -> Self {
        Self { tcp: Vec::new(), udp: Vec::new(), max, dropped: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.tcp.len().saturating_add(self.udp.len())
    }

    pub(super) fn push(&mut self, protocol: Protocol, socket: OpenSocket) {
        if self.len() >= self.max {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        match protocol {
            Protocol::Tcp => self.tcp.push(socket),
            Protocol::Udp => self.udp.push(socket),
        }
    }

    /// Current position, for [`Self::rewind`].
    pub(super) const fn position(&self) -> BufferPosition {
        BufferPosition { tcp: self.tcp.len(), udp: self.udp.len(), dropped: self.dropped }
    }

    /// Removes all sockets after `position`.
    pub(super) fn rewind(&mut self, position: BufferPosition) {
        self.tcp.truncate(position.tcp);
        self.udp.truncate(position.udp);
        self.dropped = position.dropped;
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct BufferPosition {
    tcp: usize,
    udp: usize,
    dropped: u64,
}

/// Open sockets at the time of a scan.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct OpenSockets {
    /// Start of the scan, ns since boot.
    pub began_boot_ns: u64,
    /// TCP sockets with a remote end, each once.
    pub connections: Vec<OpenSocket>,
    /// Listening TCP sockets.
    pub listeners: Vec<OpenSocket>,
    /// UDP sockets that are connected, or bound to a port.
    pub udp: Vec<OpenSocket>,
    /// Namespaces (inode numbers) whose list is complete, including those that have ended.
    pub namespaces: HashSet<u32>,
    /// Indices of `connections`, sorted by cookie; without those that have none.
    #[serde(skip)]
    by_cookie: Vec<u32>,
    /// Indices of `connections`, sorted by ends.
    #[serde(skip)]
    by_ends: Vec<u32>,
}

impl OpenSockets {
    pub(super) fn new(began_boot_ns: u64, found: SocketBuffer, namespaces: HashSet<u32>) -> Self {
        let SocketBuffer { mut tcp, udp, .. } = found;
        // A dump may return a socket twice if others open and close meanwhile.
        tcp.sort_unstable_by_key(|socket| (socket.cookie, socket.netns, socket.ends));
        tcp.dedup_by_key(|socket| (socket.cookie, socket.netns, socket.ends));
        let (listeners, connections) = tcp.into_iter().partition(OpenSocket::is_listener);
        Self { began_boot_ns, connections, listeners, udp, namespaces, ..Self::default() }
            .with_indexes()
    }

    /// TCP connections of a scan that began at `began_boot_ns`, to be processed once more.
    pub fn from_connections(began_boot_ns: u64, connections: Vec<OpenSocket>) -> Self {
        Self { began_boot_ns, connections, ..Self::default() }.with_indexes()
    }

    /// Builds the indexes, which are not serialized.
    #[must_use]
    pub fn with_indexes(mut self) -> Self {
        self.index();
        self
    }

    /// All sockets, of all kinds.
    pub fn iter(&self) -> impl Iterator<Item = &OpenSocket> {
        self.connections.iter().chain(&self.listeners).chain(&self.udp)
    }

    /// Adds the sockets of another scan.
    pub fn extend(&mut self, other: Self) {
        self.connections.extend(other.connections);
        self.listeners.extend(other.listeners);
        self.udp.extend(other.udp);
        self.namespaces.extend(other.namespaces);
        self.index();
    }

    /// A scan that found `connections`, complete in `namespaces`.
    #[cfg(test)]
    pub(crate) fn from_scan(
        began_boot_ns: u64,
        connections: Vec<OpenSocket>,
        namespaces: HashSet<u32>,
    ) -> Self {
        let mut found = SocketBuffer::new(usize::MAX);
        found.tcp = connections;
        Self::new(began_boot_ns, found, namespaces)
    }

    fn index(&mut self) {
        let sockets = &self.connections;
        let all = 0..u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        let at = |index: &u32| sockets.get(*index as usize);
        self.by_ends = all.clone().collect();
        self.by_ends.sort_unstable_by_key(|index| at(index).map(|socket| socket.ends));
        let has_cookie = |index: &u32| at(index).is_some_and(|socket| socket.cookie != 0);
        self.by_cookie = all.filter(has_cookie).collect();
        self.by_cookie.sort_unstable_by_key(|index| at(index).map(|socket| socket.cookie));
    }

    /// Index of the connection with this cookie.
    pub fn position_by_cookie(&self, cookie: u64) -> Option<usize> {
        let key = |index: &u32| self.connections.get(*index as usize).map(|socket| socket.cookie);
        let found = self.by_cookie.binary_search_by_key(&Some(cookie), key).ok()?;
        self.by_cookie.get(found).map(|index| *index as usize)
    }

    /// Indices of the connections with these ends, in any namespace.
    pub fn positions_by_ends(&self, ends: Ends) -> impl Iterator<Item = usize> {
        let key = |index: &u32| self.connections.get(*index as usize).map(|socket| socket.ends);
        let first = self.by_ends.partition_point(|index| key(index) < Some(ends));
        let rest = self.by_ends.get(first..).unwrap_or_default();
        rest.iter().take_while(move |index| key(index) == Some(ends)).map(|index| *index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(cookie: u64, local_port: u16) -> OpenSocket {
        let ends = Ends {
            local: "192.0.2.1".parse().unwrap(),
            local_port,
            remote: "198.51.100.7".parse().unwrap(),
            remote_port: 443,
        };
        OpenSocket { netns: 1, cookie, inode: 1, ends, state: TCP_ESTABLISHED, counts: None }
    }

    #[test]
    fn a_socket_is_found_by_cookie_and_by_ends() {
        let sockets = vec![socket(7, 3), socket(0, 9), socket(5, 2), socket(7, 3), socket(0, 4)];
        let open = OpenSockets::from_scan(1, sockets, HashSet::new());
        assert_eq!(open.connections.len(), 4, "each once");
        let port = |index: Option<usize>| open.connections[index.unwrap()].ends.local_port;
        assert_eq!(port(open.position_by_cookie(5)), 2);
        assert_eq!(port(open.position_by_cookie(7)), 3);
        assert_eq!(open.position_by_cookie(6), None);
        for wanted in [2, 3, 4, 9] {
            let indices: Vec<usize> = open.positions_by_ends(socket(0, wanted).ends).collect();
            assert_eq!(indices.len(), 1);
            assert_eq!(port(indices.first().copied()), wanted);
        }
        assert_eq!(open.positions_by_ends(socket(0, 5).ends).count(), 0);
    }
}
