//! `UdpFlow`: a UDP flow as its program sees it, of one or more flows of the kernel's table.
//!
//! The kernel counts datagrams by socket and remote address of the packet. Where the host translates
//! what it sends (DNAT, or the reply to a client behind SNAT), the packets of one flow have two remote
//! addresses: sent ones that of the actual receiver, received ones that of the program. Both are parts
//! of the same flow, which has the ends of its socket, and the actual receiver in its NAT mapping.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::messages::Translation;
use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::{Change, ChangeKind, Direction, Flow, NatMapping, Phase};
use crate::pipeline::capture::Tuple;

/// A socket and its remote end, as the program has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SocketEnd {
    cookie: u64,
    remote: IpAddr,
    remote_port: Option<u16>,
}

impl SocketEnd {
    /// End of a UDP flow on the socket `cookie`; `None` for TCP, and if the cookie is unknown (0).
    pub(super) fn of(flow: &Flow, cookie: u64) -> Option<Self> {
        let (remote, remote_port) = (flow.remote, flow.remote_port);
        (cookie != 0 && flow.protocol == Protocol::Udp).then_some(Self {
            cookie,
            remote,
            remote_port,
        })
    }
}

/// The flow whose properties all changes have.
#[derive(Debug)]
pub(super) struct UdpFlow {
    /// `None` if the socket's cookie is unknown: the flow then has one part.
    pub(super) end: Option<SocketEnd>,
    /// Number of parts that are open.
    pub(super) parts: u32,
    /// The flow at its first datagram, with the ends of the socket.
    flow: Flow,
    /// Latest datagram of the closed parts.
    ended: Timestamp,
}

impl UdpFlow {
    /// The flow whose first change has `flow`, on the socket `cookie` (0 if unknown).
    pub(super) fn new(mut flow: Flow, cookie: u64, translation: Option<&Translation>) -> Self {
        if let Some(Translation { socket, is_initiator, .. }) = translation {
            let (source, destination) = (socket.source, socket.destination);
            (flow.local, flow.local_port) = (source.ip(), Some(source.port()));
            (flow.remote, flow.remote_port) = (destination.ip(), Some(destination.port()));
            flow.direction = match is_initiator {
                Some(true) => Direction::Outbound,
                Some(false) => Direction::Inbound,
                None => flow.direction,
            };
        }
        flow.translated = translation.map(mapping);
        Self { end: SocketEnd::of(&flow, cookie), parts: 1, ended: flow.time, flow }
    }

    pub(super) const fn is_translated(&self) -> bool {
        self.flow.translated.is_some()
    }

    /// Adds the mapping of another part, if this is the first. True if it was.
    pub(super) const fn translate(&mut self, other: &Self) -> bool {
        let is_first = self.flow.translated.is_none() && other.flow.translated.is_some();
        if is_first {
            self.flow.translated = other.flow.translated;
        }
        is_first
    }

    /// Gives a change of a part the properties of the flow, whose number is `number`. False if nothing
    /// is left to report.
    pub(super) fn apply(
        &mut self,
        change: &mut Change,
        number: u64,
        part_opened: Timestamp,
    ) -> bool {
        if let Some(guess) = &mut change.guess {
            if !self.flow.attribution.is_guess() {
                return false;
            }
            let owner = Arc::clone(&change.flow.process);
            guess.process = std::mem::replace(&mut self.flow.process, owner);
            guess.since = self.flow.time;
            self.flow.attribution = change.flow.attribution;
        }
        change.number = number;
        let Flow { time, phase, bytes_sent, bytes_received, .. } = change.flow;
        change.flow = Flow { time, phase, bytes_sent, bytes_received, ..self.flow.clone() };
        if !matches!(change.kind, ChangeKind::Closed | ChangeKind::Failed) {
            return true;
        }
        let ended = part_opened.checked_add(change.duration).unwrap_or(part_opened);
        self.ended = self.ended.max(ended);
        self.parts = self.parts.saturating_sub(1);
        if self.parts == 0 {
            let duration = self.ended.duration_since(self.flow.time);
            change.duration = Duration::try_from(duration).unwrap_or_default();
            return true;
        }
        (change.kind, change.flow.phase) = (ChangeKind::Active, Phase::Active);
        change.duration = Duration::ZERO;
        change.packets_sent > 0 || change.packets_received > 0
    }

    /// Time of the first datagram.
    pub(super) const fn opened(&self) -> Timestamp {
        self.flow.time
    }
}

/// Mapping of a connection that is reported with the ends of its socket.
pub(super) const fn mapping(translation: &Translation) -> NatMapping {
    mapping_to(translation.outside)
}

/// Mapping to the ends `tuple`, this host's first.
const fn mapping_to(tuple: Tuple) -> NatMapping {
    NatMapping {
        local_ip: tuple.source.ip(),
        local_port: tuple.source.port(),
        remote_ip: tuple.destination.ip(),
        remote_port: tuple.destination.port(),
    }
}

/// Mapping of a connection that was reported with `local` and `remote` before its translation was known:
/// the ends on the other side.
pub(super) fn late_mapping(translation: &Translation, flow: &Flow) -> NatMapping {
    let socket = translation.socket;
    let reported = |end: SocketAddr, ip, port| end.ip() == ip && Some(end.port()) == port;
    if reported(socket.destination, flow.remote, flow.remote_port)
        && reported(socket.source, flow.local, flow.local_port)
    {
        return mapping(translation);
    }
    mapping_to(socket)
}
