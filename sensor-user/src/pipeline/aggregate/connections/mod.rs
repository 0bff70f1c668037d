//! `ConnectionTable`: from socket events to what happens to a connection.
//!
//! Invariants. At most `max` connections are tracked; the least recently used leaves first
//! (counted) and is told as closed, so that no gauge keeps it for ever. A connection is told as
//! opened at most `OUTBOUND_HOLD_NS` or `INBOUND_HOLD_NS` after its first event: an outbound
//! one waits for its local port, an inbound one for its owner; then the listener's owner stands
//! in. What is told of the process is not changed later.

mod close_reason;
mod emit;
mod latency;
mod recent_failures;
mod reconcile;
mod scan_index;
mod socket_scan;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use sensor_ebpf::record::OwnerSource;

use super::change::{Change, ChangeKind};
use super::flow::{Attribution, Direction};
use super::host::Listening;
use super::listeners::Listeners;
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;
use crate::pipeline::decode::{LatencyByDirection, Tcp, TcpKind};
use crate::pipeline::enrich::{Process, TcpEvent};

use close_reason::was_established;
use latency::AHEAD_MOST;
pub use latency::LatencyReader;
use recent_failures::RecentFailures;
pub use socket_scan::ScanKind;
use socket_scan::{ScanState, Seen};

/// How long an outbound connection waits for its local port, ns.
const OUTBOUND_HOLD_NS: u64 = 50_000_000;
/// How long an inbound connection waits for its owner, ns.
const INBOUND_HOLD_NS: u64 = 50_000_000;

#[derive(Debug)]
struct Connection {
    number: u64,
    opened_boot_ns: u64,
    opened: Timestamp,
    established: Option<Timestamp>,
    told: bool,
    direction: Direction,
    local: IpAddr,
    local_port: u16,
    remote: IpAddr,
    remote_port: u16,
    netns: u32,
    process: Option<Arc<Process>>,
    attribution: Attribution,
    seen: Seen,
}

impl Connection {
    /// Accepted while the handshake was under way (TCP Fast Open).
    fn accepted_early(&self) -> bool {
        self.attribution == Attribution::Accept && self.established.is_none()
    }

    /// Called that end, and was not answered yet.
    fn calls(&self, tcp: &Tcp) -> bool {
        self.direction == Direction::Outbound
            && self.established.is_none()
            && (self.remote, self.remote_port) == (tcp.remote, tcp.remote_port)
    }
}

/// Connections by socket: by the address of its `struct sock`, or by a number of ours (see `look`)
/// until a record tells that.
#[derive(Debug)]
pub struct ConnectionTable {
    computer: Arc<str>,
    connections: Table<u64, Connection>,
    listeners: Listeners,
    /// Sockets that wait to be told, with the number of their connection, by deadline: one queue
    /// a direction, since one hold is longer than the other.
    held_outbound: VecDeque<Held>,
    held_inbound: VecDeque<Held>,
    recent_failures: RecentFailures,
    last_number: u64,
    scan: ScanState,
    /// ConnectionLatency that were told ahead of the end of their connection, by cookie.
    ahead: Table<u64, LatencyByDirection>,
    nobody: Arc<Process>,
    stats: Arc<Stats>,
}

#[derive(Debug)]
struct Held {
    deadline_boot_ns: u64,
    sk: u64,
    number: u64,
}

impl ConnectionTable {
    /// An empty table for at most `max` connections (at least 1) of the host `computer`.
    pub fn new(computer: Arc<str>, max: usize, stats: Arc<Stats>) -> Self {
        Self {
            computer,
            connections: collections::table(max),
            listeners: Listeners::new(Arc::clone(&stats)),
            held_outbound: VecDeque::new(),
            held_inbound: VecDeque::new(),
            recent_failures: RecentFailures::default(),
            last_number: 0,
            scan: ScanState::new(max),
            ahead: collections::table(AHEAD_MOST),
            nobody: Arc::new(Process::default()),
            stats,
        }
    }

    /// Connections tracked now.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether none is tracked.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Entries, and how many there may be.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.connections.len(), self.connections.cap().get())
    }

    /// The same of the listeners.
    pub fn listeners_occupancy(&self) -> (usize, usize) {
        self.listeners.occupancy()
    }

    /// Takes an event in; what it changes is appended to `changes`.
    pub fn observe(&mut self, event: TcpEvent, changes: &mut Vec<Change>) {
        let TcpEvent { time, tcp, process } = event;
        if self.told_by_look(&tcp) {
            return;
        }
        match tcp.kind {
            TcpKind::Connect => self.connect(time, &tcp, process, changes),
            TcpKind::Established { inbound: false } => self.established(time, &tcp, changes),
            TcpKind::Established { inbound: true } => self.arrived(time, &tcp, changes),
            TcpKind::ConnectFailed => self.connect_failed(time, &tcp, process, changes),
            TcpKind::Owner(source) => self.owned(time, &tcp, (source, process), changes),
            TcpKind::Close => {
                if process.is_some() {
                    self.owned(time, &tcp, (OwnerSource::FirstIo, process), changes);
                }
                self.close(time, &tcp, changes);
            }
            TcpKind::Listen => {
                let process = process.unwrap_or_else(|| Arc::clone(&self.nobody));
                let listener = (tcp.sk, time);
                self.listeners.add((tcp.netns, tcp.local_port), listener, tcp.local, process);
            }
            TcpKind::Unlisten => {
                let listener = (tcp.sk, socket_scan::key_of_cookie(tcp.cookie));
                self.listeners.remove((tcp.netns, tcp.local_port), listener, time);
            }
        }
    }

    /// What listened at some time from `start` to `end`.
    pub fn listening(&mut self, start: Timestamp, end: Timestamp) -> Vec<Listening> {
        self.listeners.listening(start, end)
    }

    /// A process became another program; its listeners are that program's now.
    pub fn image_replaced(&mut self, image: &Arc<Process>) {
        self.listeners.image_replaced(image);
    }

    /// Tells what has waited long enough at `now_boot_ns`.
    pub fn expire(&mut self, now_boot_ns: u64, changes: &mut Vec<Change>) {
        self.expire_early_ends(now_boot_ns, changes);
        for direction in [Direction::Outbound, Direction::Inbound] {
            loop {
                let held = match direction {
                    Direction::Outbound => &mut self.held_outbound,
                    Direction::Inbound => &mut self.held_inbound,
                };
                let due = held.front().is_some_and(|first| first.deadline_boot_ns <= now_boot_ns);
                let Some(first) = due.then(|| held.pop_front()).flatten() else { break };
                if self.connections.peek(&first.sk).is_some_and(|it| it.number == first.number) {
                    self.tell_opened(first.sk, changes);
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
        let found = (Direction::Outbound, process, Attribution::Connect);
        self.open(time, tcp, found, changes);
        if tcp.local_port == 0 {
            self.hold(tcp, Direction::Outbound, changes);
        } else {
            self.tell_opened(tcp.sk, changes);
        }
    }

    fn established(&mut self, time: Timestamp, tcp: &Tcp, changes: &mut Vec<Change>) {
        if !self.connections.contains(&tcp.sk) {
            if self.scan.is_initial_scan_running() {
                // Its connect was before the agent: the look finds it, and its process.
                return;
            }
            // Its connect was lost.
            self.stats.connections_without_open.increment();
            self.open(time, tcp, (Direction::Outbound, None, Attribution::Unknown), changes);
        }
        if let Some(connection) = self.connections.get_mut(&tcp.sk) {
            connection.local = tcp.local;
            connection.local_port = tcp.local_port;
        }
        self.tell_opened(tcp.sk, changes);
        self.tell_established(tcp.sk, time, changes);
    }

    fn arrived(&mut self, time: Timestamp, tcp: &Tcp, changes: &mut Vec<Change>) {
        let known = self.connections.peek(&tcp.sk);
        if known.is_some_and(Connection::accepted_early) {
            self.tell_established(tcp.sk, time, changes);
            return;
        }
        if known.is_some_and(|connection| connection.calls(tcp)) {
            // Both ends called at once (RFC 9293, 3.5): SYN_SENT, SYN_RECEIVED, ESTABLISHED.
            self.established(time, tcp, changes);
            return;
        }
        self.open(time, tcp, (Direction::Inbound, None, Attribution::Unknown), changes);
        if let Some(connection) = self.connections.get_mut(&tcp.sk) {
            connection.established = Some(time);
        }
        self.hold(tcp, Direction::Inbound, changes);
    }

    fn owned(
        &mut self,
        time: Timestamp,
        tcp: &Tcp,
        (source, process): (OwnerSource, Option<Arc<Process>>),
        changes: &mut Vec<Change>,
    ) {
        let attribution = match source {
            OwnerSource::Accept => Attribution::Accept,
            OwnerSource::FirstIo => Attribution::FirstIo,
        };
        if let Some(connection) = self.connections.get_mut(&tcp.sk) {
            if connection.told || connection.direction != Direction::Inbound {
                return;
            }
            (connection.process, connection.attribution) = (process, attribution);
        } else if !tcp.remote.is_unspecified() {
            // With Fast Open it is accepted before the handshake is complete.
            self.open(time, tcp, (Direction::Inbound, process, attribution), changes);
        }
        self.tell_opened(tcp.sk, changes);
    }

    fn close(&mut self, time: Timestamp, tcp: &Tcp, changes: &mut Vec<Change>) {
        if !self.connections.contains(&tcp.sk) {
            if self.scan.hold_early_end(time, tcp) {
                return;
            }
            self.stats.connections_without_open.increment();
            let listener = self.listeners.owner((tcp.netns, tcp.local_port), tcp.local);
            let direction = match listener {
                Some(_) => Direction::Inbound,
                None => Direction::Outbound,
            };
            self.open(time, tcp, (direction, None, Attribution::Unknown), changes);
        }
        if let Some(connection) = self.connections.get_mut(&tcp.sk)
            && connection.local_port == 0
        {
            connection.local_port = tcp.local_port;
        }
        self.tell_opened(tcp.sk, changes);
        if was_established(tcp.old_state) {
            // Where that was lost, or never was (Fast Open, closed before the handshake was over).
            self.tell_established(tcp.sk, time, changes);
        }
        if let Some(mut connection) = self.connections.pop(&tcp.sk) {
            if let Some(turns) = self.ahead.pop(&tcp.cookie) {
                connection.add_turns(&turns, u32::MAX);
            }
            if connection.established.is_none() {
                self.recent_failures.add(tcp.sk, tcp.boot_ns);
            }
            changes.push(self.ended(&connection, time, Some(tcp)));
        }
    }

    fn open(
        &mut self,
        time: Timestamp,
        tcp: &Tcp,
        (direction, process, attribution): (Direction, Option<Arc<Process>>, Attribution),
        changes: &mut Vec<Change>,
    ) {
        self.last_number = self.last_number.saturating_add(1);
        let connection = Connection {
            number: self.last_number,
            opened_boot_ns: tcp.boot_ns,
            opened: time,
            established: None,
            told: false,
            direction,
            local: tcp.local,
            local_port: tcp.local_port,
            remote: tcp.remote,
            remote_port: tcp.remote_port,
            netns: tcp.netns,
            process,
            attribution,
            seen: Seen::default(),
        };
        let Some((sk, gone)) = self.connections.push(tcp.sk, connection) else { return };
        // Either the same socket, whose close was lost, or the least recently used of a full table.
        if sk == tcp.sk {
            self.stats.connections_without_close.increment();
        } else {
            self.stats.connections_evicted.increment();
        }
        if !gone.told {
            changes.push(self.change(&gone, ChangeKind::Opened, gone.opened));
            if let Some(established) = gone.established {
                changes.push(self.change(&gone, ChangeKind::Established, established));
            }
        }
        changes.push(self.ended(&gone, time, None));
    }

    /// Lets a connection wait for what is still unknown of it; not more than the table holds.
    fn hold(&mut self, tcp: &Tcp, direction: Direction, changes: &mut Vec<Change>) {
        let (queue, hold_ns) = match direction {
            Direction::Outbound => (&mut self.held_outbound, OUTBOUND_HOLD_NS),
            Direction::Inbound => (&mut self.held_inbound, INBOUND_HOLD_NS),
        };
        if queue.len() >= self.connections.cap().get() {
            self.tell_opened(tcp.sk, changes);
            return;
        }
        queue.push_back(Held {
            deadline_boot_ns: tcp.boot_ns.saturating_add(hold_ns),
            sk: tcp.sk,
            number: self.last_number,
        });
    }
}

#[cfg(test)]
mod tests;
