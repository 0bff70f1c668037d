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
use crate::pipeline::aggregate::{
    Attribution, Change, ChangeKind, Direction, Flow, NatMapping, Phase,
};
use crate::pipeline::enrich::Process;

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

/// Properties of a flow that all its changes have.
#[derive(Debug)]
pub(super) struct UdpFlow {
    /// `None` if the socket's cookie is unknown: the flow then has one part.
    pub(super) end: Option<SocketEnd>,
    /// Number of parts that are open.
    pub(super) parts: u32,
    pub(super) translated: Option<NatMapping>,
    direction: Direction,
    local: IpAddr,
    local_port: Option<u16>,
    remote: IpAddr,
    remote_port: Option<u16>,
    process: Arc<Process>,
    attribution: Attribution,
    preexisting: bool,
    opened: Timestamp,
    /// Latest datagram of the closed parts.
    ended: Timestamp,
}

impl UdpFlow {
    /// The flow whose first change has `flow`, on the socket `cookie` (0 if unknown).
    pub(super) fn new(flow: &Flow, cookie: u64, translation: Option<&Translation>) -> Self {
        let (mut local, mut local_port) = (flow.local, flow.local_port);
        let (mut remote, mut remote_port) = (flow.remote, flow.remote_port);
        let mut direction = flow.direction;
        if let Some(Translation { socket, is_initiator, .. }) = translation {
            (local, local_port) = (socket.source.ip(), Some(socket.source.port()));
            (remote, remote_port) = (socket.destination.ip(), Some(socket.destination.port()));
            direction = match is_initiator {
                Some(true) => Direction::Outbound,
                Some(false) => Direction::Inbound,
                None => direction,
            };
        }
        Self {
            end: (cookie != 0).then_some(SocketEnd { cookie, remote, remote_port }),
            parts: 1,
            translated: translation.map(mapping),
            direction,
            local,
            local_port,
            remote,
            remote_port,
            process: Arc::clone(&flow.process),
            attribution: flow.attribution,
            preexisting: flow.preexisting,
            opened: flow.time,
            ended: flow.time,
        }
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
            if !matches!(self.attribution, Attribution::Listener | Attribution::Unknown) {
                return false;
            }
            let owner = Arc::clone(&change.flow.process);
            guess.process = std::mem::replace(&mut self.process, owner);
            guess.since = self.opened;
            self.attribution = change.flow.attribution;
        }
        let flow = &mut change.flow;
        change.number = number;
        flow.direction = self.direction;
        (flow.local, flow.local_port) = (self.local, self.local_port);
        (flow.remote, flow.remote_port) = (self.remote, self.remote_port);
        flow.process = Arc::clone(&self.process);
        flow.attribution = self.attribution;
        flow.preexisting = self.preexisting;
        flow.translated = self.translated;
        if !matches!(change.kind, ChangeKind::Closed | ChangeKind::Failed) {
            return true;
        }
        let ended = part_opened.checked_add(change.duration).unwrap_or(part_opened);
        self.ended = self.ended.max(ended);
        self.parts = self.parts.saturating_sub(1);
        if self.parts == 0 {
            let duration = self.ended.duration_since(self.opened);
            change.duration = Duration::try_from(duration).unwrap_or_default();
            return true;
        }
        (change.kind, change.flow.phase) = (ChangeKind::Active, Phase::Active);
        change.duration = Duration::ZERO;
        change.packets_sent > 0 || change.packets_received > 0
    }

    /// Time of the first datagram.
    pub(super) const fn opened(&self) -> Timestamp {
        self.opened
    }
}

/// Mapping of a connection that is reported with the ends of its socket.
pub(super) const fn mapping(translation: &Translation) -> NatMapping {
    let outside = translation.outside;
    NatMapping {
        local_ip: outside.source.ip(),
        local_port: outside.source.port(),
        remote_ip: outside.destination.ip(),
        remote_port: outside.destination.port(),
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
    NatMapping {
        local_ip: socket.source.ip(),
        local_port: socket.source.port(),
        remote_ip: socket.destination.ip(),
        remote_port: socket.destination.port(),
    }
}
