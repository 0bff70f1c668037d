//! `ConnectionTable`: converts socket events to changes of TCP connections.
//!
//! Invariants. At most `max` connections are tracked. The least recently used is evicted first (counted),
//! and reported as closed, so that no gauge counts it for ever. A connection is reported as opened at most
//! `OUTBOUND_HOLD_NS` or `INBOUND_HOLD_NS` after its first event: an outbound one waits for its local port,
//! an inbound one for its owner, after which the owner of the listener is taken. That guess is corrected
//! once, when the owner is known (`owner`).

mod close_reason;
mod emit;
mod latency;
mod owner;
mod recent_failures;
mod reconcile;
mod scan_index;
mod socket_scan;

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use sensor_ebpf::record::OwnerSource;

use super::change::{Change, ChangeKind};
use super::flow::{Attribution, Direction};
use super::host::ListeningSocket;
use super::listeners::{Listener, Listeners};
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;
use crate::pipeline::capture::Ends;
use crate::pipeline::decode::{LatencyByDirection, Tcp, TcpKind};
use crate::pipeline::enrich::{Process, TcpEvent};

use close_reason::was_established;
use latency::EARLY_LATENCY_MAX;
pub use latency::LatencyReader;
use recent_failures::RecentFailures;
use scan_index::ends_of;
pub use socket_scan::{FinishedScan, ScanKind};
use socket_scan::{ScanState, ScanView};

/// Maximum time that an outbound connection waits for its local port, ns.
const OUTBOUND_HOLD_NS: u64 = 50_000_000;
/// Maximum time that an inbound connection waits for its owner, ns.
const INBOUND_HOLD_NS: u64 = 50_000_000;

#[derive(Debug)]
struct Connection {
    number: u64,
    opened_boot_ns: u64,
    opened: Timestamp,
    established: Option<Timestamp>,
    /// True once the connection was reported as opened.
    emitted: bool,
    direction: Direction,
    ends: Ends,
    netns: u32,
    process: Option<Arc<Process>>,
    attribution: Attribution,
    /// MPTCP socket that this is a subflow of; 0 for others.
    mptcp: u64,
    scan: ScanView,
}

impl Connection {
    /// True if the connection was accepted before the handshake was complete (TCP Fast Open).
    fn is_accepted_early(&self) -> bool {
        self.attribution == Attribution::Accept && self.established.is_none()
    }

    /// True if this is a pending connect to the remote end of `tcp`.
    fn is_pending_connect_to(&self, tcp: &Tcp) -> bool {
        self.direction == Direction::Outbound
            && self.established.is_none()
            && (self.ends.remote, self.ends.remote_port) == (tcp.remote, tcp.remote_port)
    }
}

/// Owner of a connection, with its source.
#[derive(Debug)]
struct ConnectionOwner {
    process: Option<Arc<Process>>,
    attribution: Attribution,
}

impl ConnectionOwner {
    const UNKNOWN: Self = Self { process: None, attribution: Attribution::Unknown };

    /// Owner `process`, by `attribution`; unknown without a process.
    fn of(process: Option<Arc<Process>>, attribution: Attribution) -> Self {
        match process {
            Some(_) => Self { process, attribution },
            None => Self::UNKNOWN,
        }
    }
}

/// Connections by socket: by the address of its `struct sock`, or by a local key (see `socket_scan`) until a
/// record has that address.
#[derive(Debug)]
pub struct ConnectionTable {
    computer: Arc<str>,
    connections: Table<u64, Connection>,
    listeners: Listeners,
    /// Connections that wait to be reported, by deadline: one queue a direction, so that each is sorted.
    held_outbound: VecDeque<HeldConnection>,
    held_inbound: VecDeque<HeldConnection>,
    recent_failures: RecentFailures,
    last_number: u64,
    /// Subflows of each MPTCP socket.
    subflows: Table<u64, Vec<u64>>,
    scan: ScanState,
    /// Latencies that were reported before the close of their connection, by cookie.
    early_latency: Table<u64, LatencyByDirection>,
    unknown_process: Arc<Process>,
    stats: Arc<Stats>,
}

#[derive(Debug)]
struct HeldConnection {
    deadline_boot_ns: u64,
    sk: u64,
    number: u64,
}

impl ConnectionTable {
    /// Creates an empty table for at most `max` connections (at least 1) of the host `computer`.
    pub fn new(computer: Arc<str>, max: usize, stats: Arc<Stats>) -> Self {
        Self {
            computer,
            connections: collections::table(max),
            listeners: Listeners::new(Arc::clone(&stats)),
            held_outbound: VecDeque::new(),
            held_inbound: VecDeque::new(),
            recent_failures: RecentFailures::default(),
            last_number: 0,
            subflows: collections::table(max),
            scan: ScanState::new(max),
            early_latency: collections::table(EARLY_LATENCY_MAX),
            unknown_process: Arc::new(Process::default()),
            stats,
        }
    }

    /// Number of tracked connections.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// True if no connection is tracked.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Number of entries, and the maximum.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.connections.len(), self.connections.cap().get())
    }

    /// Number of listeners, and the maximum.
    pub fn listeners_occupancy(&self) -> (usize, usize) {
        self.listeners.occupancy()
    }

    /// Processes an event; appends its changes to `changes`.
    pub fn observe(&mut self, event: TcpEvent, changes: &mut Vec<Change>) {
        let TcpEvent { time, tcp, process } = event;
        if self.is_known_from_scan(&tcp) {
            return;
        }
        match tcp.kind {
            TcpKind::Connect => self.connect(time, &tcp, process, changes),
            TcpKind::Established { inbound: false } => self.established(time, &tcp, changes),
            TcpKind::Established { inbound: true } => self.accepted(time, &tcp, changes),
            TcpKind::ConnectFailed => self.connect_failed(time, &tcp, process, changes),
            TcpKind::Owner(source) => self.set_owner(time, &tcp, source, process, changes),
            TcpKind::Close => {
                if process.is_some() {
                    self.set_owner(time, &tcp, OwnerSource::FirstIo, process, changes);
                }
                self.close(time, &tcp, changes);
            }
            TcpKind::Listen => {
                let process = process.unwrap_or_else(|| Arc::clone(&self.unknown_process));
                let (sk, cookie) = (tcp.sk, tcp.cookie);
                let listener = Listener { sk, cookie, address: tcp.local, process, since: time };
                self.listeners.add((tcp.netns, tcp.local_port), listener);
            }
            TcpKind::Unlisten => {
                let key = (tcp.netns, tcp.local_port);
                let scanned = socket_scan::key_of_cookie(tcp.cookie);
                self.listeners.remove(key, tcp.sk, scanned, time);
            }
        }
    }

    /// True, once, if a socket scan is needed soon: a listener's port is unknown.
    pub fn take_scan_request(&mut self) -> bool {
        self.listeners.take_scan_request()
    }

    /// Sockets that listened at any time from `start` to `end`.
    pub fn listening(&mut self, start: Timestamp, end: Timestamp) -> Vec<ListeningSocket> {
        self.listeners.listening(start, end)
    }

    /// Assigns the listeners of a process that has executed another program to that program.
    pub fn image_replaced(&mut self, image: &Arc<Process>) {
        self.listeners.image_replaced(image);
    }

    /// Reports the connections whose hold has expired at `now_boot_ns`.
    pub fn expire(&mut self, now_boot_ns: u64, changes: &mut Vec<Change>) {
        self.expire_early_closes(now_boot_ns, changes);
        for direction in [Direction::Outbound, Direction::Inbound] {
            loop {
                let held = match direction {
                    Direction::Outbound => &mut self.held_outbound,
                    Direction::Inbound => &mut self.held_inbound,
                };
                let is_expired =
                    held.front().is_some_and(|first| first.deadline_boot_ns <= now_boot_ns);
                let Some(first) = is_expired.then(|| held.pop_front()).flatten() else { break };
                if self.connections.peek(&first.sk).is_some_and(|it| it.number == first.number) {
                    self.emit_opened(first.sk, changes);
                }
            }
        }
    }

    fn connect(
        &mut self,
        time: Timestamp,
        tcp: &Tcp,
        process: Option<Arc<Process>>,
        changes: &mut Vec<Change>,
    ) {
        if tcp.is_restored {
            self.restore(time, tcp, process, changes);
            return;
        }
        let owner = ConnectionOwner::of(process, Attribution::Connect);
        self.open(time, tcp, Direction::Outbound, owner, changes);
        if tcp.local_port == 0 {
            self.hold(tcp, Direction::Outbound, changes);
        } else {
            self.emit_opened(tcp.sk, changes);
        }
    }

    fn established(&mut self, time: Timestamp, tcp: &Tcp, changes: &mut Vec<Change>) {
        if !self.connections.contains(&tcp.sk) {
            if self.scan.is_initial_scan_running() {
                // It connected before the agent started: the initial scan finds it and its process.
                return;
            }
            // The record of its connect was lost.
            self.stats.connections_without_open.increment();
            self.open(time, tcp, Direction::Outbound, ConnectionOwner::UNKNOWN, changes);
        }
        if let Some(connection) = self.connections.get_mut(&tcp.sk) {
            connection.ends.local = tcp.local;
            connection.ends.local_port = tcp.local_port;
        }
        self.emit_opened(tcp.sk, changes);
        self.emit_established(tcp.sk, time, changes);
    }

    fn accepted(&mut self, time: Timestamp, tcp: &Tcp, changes: &mut Vec<Change>) {
        let known = self.connections.peek(&tcp.sk);
        if known.is_some_and(Connection::is_accepted_early) {
            self.emit_established(tcp.sk, time, changes);
            return;
        }
        if known.is_some_and(|connection| connection.is_pending_connect_to(tcp)) {
            // Simultaneous open (RFC 9293, 3.5): SYN_SENT, SYN_RECEIVED, ESTABLISHED.
            self.established(time, tcp, changes);
            return;
        }
        self.open(time, tcp, Direction::Inbound, ConnectionOwner::UNKNOWN, changes);
        let mut is_owned = false;
        if let Some(connection) = self.connections.get_mut(&tcp.sk) {
            connection.established = Some(time);
            is_owned = connection.process.is_some();
        }
        if is_owned {
            self.emit_opened(tcp.sk, changes);
        } else {
            self.hold(tcp, Direction::Inbound, changes);
        }
    }

    fn close(&mut self, time: Timestamp, tcp: &Tcp, changes: &mut Vec<Change>) {
        if !self.connections.contains(&tcp.sk) {
            if self.scan.hold_early_close(time, tcp) {
                return;
            }
            self.stats.connections_without_open.increment();
            let listener = self.listeners.owner((tcp.netns, tcp.local_port), tcp.local);
            let direction = match listener {
                Some(_) => Direction::Inbound,
                None => Direction::Outbound,
            };
            self.open(time, tcp, direction, ConnectionOwner::UNKNOWN, changes);
        }
        if let Some(connection) = self.connections.get_mut(&tcp.sk)
            && connection.ends.local_port == 0
        {
            connection.ends.local_port = tcp.local_port;
        }
        self.emit_opened(tcp.sk, changes);
        if was_established(tcp.old_state) {
            // In case that record was lost, or never sent (TCP Fast Open, closed during the handshake).
            self.emit_established(tcp.sk, time, changes);
        }
        if let Some(mut connection) = self.connections.pop(&tcp.sk) {
            if let Some(latency) = self.early_latency.pop(&tcp.cookie) {
                connection.add_latency(&latency, u32::MAX);
            }
            if connection.established.is_none() {
                self.recent_failures.add(tcp.sk, tcp.boot_ns);
            }
            changes.push(self.closed_change(&connection, time, Some(tcp)));
        }
    }

    fn open(
        &mut self,
        time: Timestamp,
        tcp: &Tcp,
        direction: Direction,
        owner: ConnectionOwner,
        changes: &mut Vec<Change>,
    ) {
        self.last_number = self.last_number.saturating_add(1);
        let owner = self.owner_of_subflow(tcp, owner);
        let connection = Connection {
            number: self.last_number,
            opened_boot_ns: tcp.boot_ns,
            opened: time,
            established: None,
            emitted: false,
            direction,
            ends: ends_of(tcp),
            netns: tcp.netns,
            process: owner.process,
            attribution: owner.attribution,
            mptcp: tcp.mptcp,
            scan: ScanView::default(),
        };
        let Some((sk, evicted)) = self.connections.push(tcp.sk, connection) else { return };
        // Either the same socket, whose close was lost, or the least recently used of a full table.
        if sk == tcp.sk {
            self.stats.connections_without_close.increment();
        } else {
            self.stats.connections_evicted.increment();
        }
        if !evicted.emitted {
            changes.push(self.change(&evicted, ChangeKind::Opened, evicted.opened));
            if let Some(established) = evicted.established {
                changes.push(self.change(&evicted, ChangeKind::Established, established));
            }
        }
        changes.push(self.closed_change(&evicted, time, None));
    }

    /// Holds a connection until its port or owner is known, unless the queue is full.
    fn hold(&mut self, tcp: &Tcp, direction: Direction, changes: &mut Vec<Change>) {
        let (queue, hold_ns) = match direction {
            Direction::Outbound => (&mut self.held_outbound, OUTBOUND_HOLD_NS),
            Direction::Inbound => (&mut self.held_inbound, INBOUND_HOLD_NS),
        };
        if queue.len() >= self.connections.cap().get() {
            self.emit_opened(tcp.sk, changes);
            return;
        }
        queue.push_back(HeldConnection {
            deadline_boot_ns: tcp.boot_ns.saturating_add(hold_ns),
            sk: tcp.sk,
            number: self.last_number,
        });
    }
}

#[cfg(test)]
mod tests;
