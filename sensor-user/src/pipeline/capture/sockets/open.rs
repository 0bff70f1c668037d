//! `OpenSocket`, and all of them at one moment with what finds one again.

use std::collections::HashSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Both ends of a socket; IPv4-mapped addresses are IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ends {
    /// This host's.
    pub local: IpAddr,
    /// Its port.
    pub local_port: u16,
    /// The other; unspecified for a socket that has none.
    pub remote: IpAddr,
    /// Its port; 0 for a socket that has no other end.
    pub remote_port: u16,
}

/// What a TCP connection has moved, as the record of its end counts it: payload, retransmissions
/// and FIN not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TcpCounts {
    /// Bytes sent (`tcpi_bytes_sent` less `tcpi_bytes_retrans`).
    pub bytes_sent: u64,
    /// Bytes received (`tcpi_bytes_received`, less one for a FIN).
    pub bytes_received: u64,
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: u32,
}

/// A socket that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSocket {
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Socket cookie; 0 where /proc told.
    pub cookie: u64,
    /// Its inode number in sockfs; 0 while or since no process holds it.
    pub inode: u32,
    /// Both ends.
    pub ends: Ends,
    /// State (`TCP_*` of `include/net/tcp_states.h`, for UDP too).
    pub state: u8,
    /// What it has moved; `None` for what is not a TCP connection, or where /proc told.
    pub counts: Option<TcpCounts>,
}

/// `include/net/tcp_states.h`.
pub(super) const TCP_ESTABLISHED: u8 = 1;
pub(super) const TCP_SYN_SENT: u8 = 2;
pub(super) const TCP_FIN_WAIT2: u8 = 5;
pub(super) const TCP_CLOSE: u8 = 7;
pub(super) const TCP_CLOSE_WAIT: u8 = 8;
pub(super) const TCP_LAST_ACK: u8 = 9;
pub(super) const TCP_LISTEN: u8 = 10;
pub(super) const TCP_CLOSING: u8 = 11;

impl OpenSocket {
    /// Whether it is a TCP socket whose handshake is not complete.
    pub const fn is_half_open(&self) -> bool {
        self.state == TCP_SYN_SENT
    }

    /// Whether it is a TCP socket that waits for connections.
    pub(super) const fn is_listener(&self) -> bool {
        self.state == TCP_LISTEN
    }
}

/// What is being found; no more than there is room for.
#[derive(Debug)]
pub(super) struct Found {
    tcp: Vec<OpenSocket>,
    udp: Vec<OpenSocket>,
    max: usize,
    /// Sockets that found no room.
    pub(super) dropped: u64,
}

/// Which list a socket belongs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Found {
    pub(super) const fn new(max: usize) -> Self {
        Self { tcp: Vec::new(), udp: Vec::new(), max, dropped: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.tcp.len().saturating_add(self.udp.len())
    }

    pub(super) fn add(&mut self, transport: Transport, socket: OpenSocket) {
        if self.len() >= self.max {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        match transport {
            Transport::Tcp => self.tcp.push(socket),
            Transport::Udp => self.udp.push(socket),
        }
    }

    /// Where it stands, to return to with [`Self::rewind`].
    pub(super) const fn mark(&self) -> Mark {
        Mark { tcp: self.tcp.len(), udp: self.udp.len(), dropped: self.dropped }
    }

    /// Forgets what was added since the mark.
    pub(super) fn rewind(&mut self, mark: Mark) {
        self.tcp.truncate(mark.tcp);
        self.udp.truncate(mark.udp);
        self.dropped = mark.dropped;
    }
}

/// A place in what is being found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    tcp: usize,
    udp: usize,
    dropped: u64,
}

/// All open sockets at a moment.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct OpenSockets {
    /// When the look began, ns since boot.
    pub began_boot_ns: u64,
    /// TCP sockets with another end, each once.
    pub connections: Vec<OpenSocket>,
    /// TCP sockets that listen.
    pub listeners: Vec<OpenSocket>,
    /// UDP sockets that are connected, or bound to a port.
    pub udp: Vec<OpenSocket>,
    /// Namespaces (inode numbers) of which all is here, those that are gone among them.
    pub namespaces: HashSet<u32>,
    /// Places in `connections`, by cookie; those without are left out.
    #[serde(skip)]
    by_cookie: Vec<u32>,
    /// Places in `connections`, by ends.
    #[serde(skip)]
    by_ends: Vec<u32>,
}

impl OpenSockets {
    pub(super) fn new(began_boot_ns: u64, found: Found, namespaces: HashSet<u32>) -> Self {
        let Found { mut tcp, udp, .. } = found;
        // A dump that goes on while sockets come and go may show one twice.
        tcp.sort_unstable_by_key(|socket| (socket.cookie, socket.netns, socket.ends));
        tcp.dedup_by_key(|socket| (socket.cookie, socket.netns, socket.ends));
        let (listeners, connections) = tcp.into_iter().partition(OpenSocket::is_listener);
        let mut open =
            Self { began_boot_ns, connections, listeners, udp, namespaces, ..Self::default() };
        open.index();
        open
    }

    /// TCP connections out of a look that began at `began_boot_ns`, to be taken in once more.
    pub fn from_connections(began_boot_ns: u64, connections: Vec<OpenSocket>) -> Self {
        let mut open = Self { began_boot_ns, connections, ..Self::default() };
        open.index();
        open
    }

    /// The same after a way on which only what was found came along.
    #[must_use]
    pub fn with_indexes(mut self) -> Self {
        self.index();
        self
    }

    /// All sockets.
    pub fn iter(&self) -> impl Iterator<Item = &OpenSocket> {
        self.connections.iter().chain(&self.listeners).chain(&self.udp)
    }

    /// Adds what another look found.
    pub fn extend(&mut self, other: Self) {
        self.connections.extend(other.connections);
        self.listeners.extend(other.listeners);
        self.udp.extend(other.udp);
        self.namespaces.extend(other.namespaces);
        self.index();
    }

    /// A look that found `connections`, in namespaces of which all is among them.
    #[cfg(test)]
    pub(crate) fn from_scan(
        began_boot_ns: u64,
        connections: Vec<OpenSocket>,
        namespaces: HashSet<u32>,
    ) -> Self {
        let mut found = Found::new(usize::MAX);
        found.tcp = connections;
        Self::new(began_boot_ns, found, namespaces)
    }

    fn index(&mut self) {
        let sockets = &self.connections;
        let all = 0..u32::try_from(sockets.len()).unwrap_or(u32::MAX);
        let at = |place: &u32| sockets.get(*place as usize);
        self.by_ends = all.clone().collect();
        self.by_ends.sort_unstable_by_key(|place| at(place).map(|socket| socket.ends));
        let told = |place: &u32| at(place).is_some_and(|socket| socket.cookie != 0);
        self.by_cookie = all.filter(told).collect();
        self.by_cookie.sort_unstable_by_key(|place| at(place).map(|socket| socket.cookie));
    }

    /// Place in `connections` of the one with this cookie.
    pub fn position_by_cookie(&self, cookie: u64) -> Option<usize> {
        let key = |place: &u32| self.connections.get(*place as usize).map(|socket| socket.cookie);
        let found = self.by_cookie.binary_search_by_key(&Some(cookie), key).ok()?;
        self.by_cookie.get(found).map(|place| *place as usize)
    }

    /// Places in `connections` of those with these ends, in any namespace.
    pub fn positions_by_ends(&self, ends: Ends) -> impl Iterator<Item = usize> {
        let key = |place: &u32| self.connections.get(*place as usize).map(|socket| socket.ends);
        let first = self.by_ends.partition_point(|place| key(place) < Some(ends));
        let rest = self.by_ends.get(first..).unwrap_or_default();
        rest.iter().take_while(move |place| key(place) == Some(ends)).map(|place| *place as usize)
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
        let port = |place: Option<usize>| open.connections[place.unwrap()].ends.local_port;
        assert_eq!(port(open.position_by_cookie(5)), 2);
        assert_eq!(port(open.position_by_cookie(7)), 3);
        assert_eq!(open.position_by_cookie(6), None);
        for wanted in [2, 3, 4, 9] {
            let places: Vec<usize> = open.positions_by_ends(socket(0, wanted).ends).collect();
            assert_eq!(places.len(), 1);
            assert_eq!(port(places.first().copied()), wanted);
        }
        assert_eq!(open.positions_by_ends(socket(0, 5).ends).count(), 0);
    }
}
