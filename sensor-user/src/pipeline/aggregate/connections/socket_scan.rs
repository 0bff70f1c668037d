//! Socket scans: reconciles the connection table with the kernel's list of open sockets.
//!
//! The initial scan finds connections that predate the probes. They are reported as opened and established
//! in that minute, with the `preexisting` flag; earlier bytes are in no row. (So `LinksLive` of a key is
//! right from that minute on.) Each periodic scan reports the bytes that connections have moved since the
//! previous one, and closes those that two scans in a row did not find: their close event was lost. Sockets
//! that no record reported are scanned once more, with their owners, and opened.
//!
//! **A connection is reported once.** A socket belongs to the connection with its cookie. A connection whose
//! cookie is unknown is matched by namespace and addresses, if it is older than the scan. A record of a
//! connection that a scan found is matched in the same way. Connections that were closed during the scan
//! are known from a list that is kept in the meantime. The ring buffer must be drained after a scan has
//! ended and before it is applied: then every record older than it has been processed.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::listeners::Listener;
use super::super::response_times::ResponseTimes;
use super::latency::LatencyReader;
use super::scan_index::{ClosedDuringScan, ScanIndex};
use super::{Connection, ConnectionOwner, ConnectionTable};
use crate::pipeline::aggregate::change::Change;
use crate::pipeline::aggregate::flow::{Attribution, Direction};
use crate::pipeline::capture::{OpenSocket, OpenSockets};
use crate::pipeline::decode::{Tcp, TcpKind};
use crate::pipeline::enrich::Process;

/// Purpose of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScanKind {
    /// Finds connections that predate the probes.
    Initial,
    /// Reports the bytes of open connections.
    Periodic,
    /// Opens sockets that the previous scan found and no record reported.
    Owners,
}

/// Result of a finished scan, as applied to the table.
#[derive(Debug, Clone, Copy)]
pub struct FinishedScan<'a> {
    /// Purpose of the scan.
    pub kind: ScanKind,
    /// Time at which the scan began.
    pub time: Timestamp,
    /// Open sockets that the scan found.
    pub open: &'a OpenSockets,
}

/// Returns the owner of the socket with an inode number; `None` if it is gone.
pub(super) type OwnerOf<'a> = dyn FnMut(u32) -> Option<Arc<Process>> + 'a;

/// Marks keys that are not addresses of `struct sock`: those of the kernel have the highest bit set, on
/// every supported architecture.
const LOCAL_KEY: u64 = 1 << 62;

/// Time that the close of a connection which predates the probes waits for the initial scan, ns.
const EARLY_HOLD_NS: u64 = 10_000_000_000;

/// Key of a listener that only a scan has found.
pub(super) fn key_of_cookie(cookie: u64) -> Option<u64> {
    (cookie != 0).then_some(LOCAL_KEY | cookie)
}

/// State of a connection from scans, and the counts that were reported.
#[derive(Debug, Default)]
pub(super) struct ScanView {
    /// Socket cookie; 0 until a scan has found the connection.
    pub(super) cookie: u64,
    /// Bytes sent that were reported, or that predate the agent.
    pub(super) sent: u64,
    /// Bytes received, in the same way.
    pub(super) received: u64,
    pub(super) preexisting: bool,
    /// True if the last scan did not find the connection.
    pub(super) missed: bool,
    /// Responses that are not reported yet.
    pub(super) responses: ResponseTimes,
    /// Last epoch whose responses have been counted.
    pub(super) latency_epoch: u32,
    /// Request and response time, ns since boot, of the response that was counted ahead of the kernel.
    pub(super) trailing_response: Option<(u64, u64)>,
}

impl ScanView {
    /// Bytes that are not reported yet at the close: sent, received.
    pub(super) const fn unreported(&self, tcp: &Tcp) -> (u64, u64) {
        let sent = tcp.bytes_sent.saturating_sub(self.sent);
        (sent, tcp.bytes_received.saturating_sub(self.received))
    }
}

#[derive(Debug)]
pub(super) struct ScanState {
    max: usize,
    /// True once the initial scan has been applied.
    initial_done: bool,
    /// During a scan: the connections that were closed in the meantime.
    closed: Option<ClosedDuringScan>,
    /// Connections that only a scan has found, under local keys.
    pub(super) found: ScanIndex,
    /// Closes, before the initial scan, of connections that predate the probes. The scan knows whether there
    /// was a listener, and so the direction.
    early_closes: Vec<(Timestamp, Tcp)>,
}

impl ScanState {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            initial_done: false,
            closed: None,
            found: ScanIndex::default(),
            early_closes: Vec::new(),
        }
    }

    /// True while connections that predate the probes are unknown.
    pub(super) const fn is_initial_scan_running(&self) -> bool {
        self.closed.is_some() && !self.initial_done
    }

    /// Holds the close of a connection that predates the probes until the initial scan, if that is running
    /// and there is room.
    pub(super) fn hold_early_close(&mut self, time: Timestamp, tcp: &Tcp) -> bool {
        let held = self.is_initial_scan_running() && self.early_closes.len() < self.max;
        if held {
            self.early_closes.push((time, tcp.clone()));
        }
        held
    }
}

impl ConnectionTable {
    /// Must be called before a scan begins: records the connections that are closed from now on.
    pub fn begin_scan(&mut self) {
        self.scan.closed = Some(ClosedDuringScan::default());
    }

    /// Network namespaces of all tracked connections, and of listeners whose port is unknown; `None` if one is unknown.
    pub fn namespaces(&self) -> Option<HashSet<u32>> {
        let connections = self.connections.iter().map(|(_, connection)| connection.netns);
        let all: HashSet<u32> = connections.chain(self.listeners.without_port()).collect();
        (!all.contains(&0)).then_some(all)
    }

    /// Applies a finished scan. `owner` returns the owner of the socket with an inode number,
    /// `latency` the responses of a connection. A [`ScanKind::Periodic`] scan returns the sockets that no
    /// record reported, for a scan of kind [`ScanKind::Owners`].
    pub fn apply_scan(
        &mut self,
        scan: FinishedScan<'_>,
        owner: &mut OwnerOf<'_>,
        latency: &mut dyn LatencyReader,
        changes: &mut Vec<Change>,
    ) -> Vec<OpenSocket> {
        let open = scan.open;
        let closed = self.scan.closed.take().unwrap_or_default();
        if scan.kind == ScanKind::Initial {
            self.add_listeners(open, &closed, owner);
        }
        if scan.kind != ScanKind::Owners {
            self.listeners.set_ports(&open.listeners);
        }
        let mut known = vec![false; open.connections.len()];
        let lost = self.reconcile(scan, &mut known, latency, changes);
        for key in lost {
            self.close_missed(key, scan.time, changes);
        }
        let sockets = open.connections.iter().zip(known);
        let unknown = sockets
            .filter(|(socket, known)| !known && !closed.contains(socket, open.began_boot_ns));
        let mut unknown: Vec<OpenSocket> = unknown.map(|(socket, _)| *socket).collect();
        if scan.kind == ScanKind::Periodic {
            if !unknown.is_empty() {
                self.scan.closed = Some(closed);
            }
        } else {
            for socket in unknown.drain(..) {
                self.open_scanned(&socket, scan, owner, changes);
            }
        }
        self.scan.initial_done = true;
        self.emit_early_closes(changes);
        let connections = &self.connections;
        self.scan.found.retain(|key| connections.contains(key));
        unknown
    }

    /// Emits the closes that have waited too long for the initial scan.
    pub(super) fn expire_early_closes(&mut self, now_boot_ns: u64, changes: &mut Vec<Change>) {
        let first = self.scan.early_closes.first();
        if first.is_some_and(|(_, tcp)| tcp.boot_ns.saturating_add(EARLY_HOLD_NS) <= now_boot_ns) {
            self.scan.initial_done = true;
            self.emit_early_closes(changes);
        }
    }

    fn emit_early_closes(&mut self, changes: &mut Vec<Change>) {
        let first = changes.len();
        for (time, mut tcp) in std::mem::take(&mut self.scan.early_closes) {
            // The socket may belong to another connection by now.
            tcp.sk = LOCAL_KEY;
            self.close(time, &tcp, changes);
        }
        for change in changes.iter_mut().skip(first) {
            change.flow.preexisting = true;
        }
    }

    /// Handles a record about a connection that a scan has found; true if the record is redundant.
    pub(super) fn is_known_from_scan(&mut self, tcp: &Tcp) -> bool {
        if matches!(tcp.kind, TcpKind::Close | TcpKind::Unlisten) {
            self.record_close(tcp);
        }
        let is_relevant =
            matches!(tcp.kind, TcpKind::Connect | TcpKind::Established { .. } | TcpKind::Close);
        if !is_relevant || self.scan.found.is_empty() || self.connections.contains(&tcp.sk) {
            return false;
        }
        let Some(key) = self.scanned_key(tcp) else { return false };
        let begins = matches!(tcp.kind, TcpKind::Connect | TcpKind::Established { inbound: true });
        if begins {
            // Either a new connection with the same addresses, or the late record of this one.
            let found_at = self.connections.peek(&key).map_or(0, |found| found.opened_boot_ns);
            if tcp.boot_ns > found_at {
                return false;
            }
        }
        if let Some(connection) = self.connections.pop(&key) {
            self.scan
                .found
                .remove(connection.scan.cookie, (connection.ends, connection.netns, key));
            self.connections.push(tcp.sk, connection);
        }
        begins
    }

    fn record_close(&mut self, tcp: &Tcp) {
        if let Some(closed) = &mut self.scan.closed
            && !closed.insert(tcp, self.scan.max)
        {
            self.stats.recent_closes_evicted.increment();
        }
    }

    /// Key of the connection that a scan has found and a record is about.
    fn scanned_key(&self, tcp: &Tcp) -> Option<u64> {
        let cookie = |key: &u64| self.connections.peek(key).map_or(0, |found| found.scan.cookie);
        self.scan.found.find(tcp, cookie)
    }

    fn add_listeners(
        &mut self,
        open: &OpenSockets,
        closed: &ClosedDuringScan,
        owner: &mut OwnerOf<'_>,
    ) {
        for socket in &open.listeners {
            if closed.contains(socket, open.began_boot_ns) {
                continue;
            }
            let process = owner(socket.inode).unwrap_or_else(|| Arc::clone(&self.unknown_process));
            let sk =
                key_of_cookie(socket.cookie).unwrap_or_else(|| LOCAL_KEY | u64::from(socket.inode));
            let address = socket.ends.local;
            let (cookie, since) = (socket.cookie, Timestamp::MIN);
            let listener = Listener { sk, cookie, address, process, since };
            self.listeners.add((socket.netns, socket.ends.local_port), listener);
        }
    }

    /// Opens a connection that only a scan has found.
    fn open_scanned(
        &mut self,
        socket: &OpenSocket,
        scan: FinishedScan<'_>,
        owner: &mut OwnerOf<'_>,
        changes: &mut Vec<Change>,
    ) {
        let Some((key, mut connection)) = self.new_from_scan(socket, scan, owner) else {
            return;
        };
        let port = (socket.netns, socket.ends.local_port);
        if !socket.is_half_open() && self.listeners.owner(port, socket.ends.local).is_some() {
            connection.direction = Direction::Inbound;
        }
        if socket.is_half_open() {
            connection.established = None;
        }
        if scan.kind == ScanKind::Initial {
            let before = socket.counts.unwrap_or_default();
            connection.scan.preexisting = true;
            (connection.scan.sent, connection.scan.received) =
                (before.bytes_sent, before.bytes_received);
        }
        self.scan.found.insert(socket, key);
        self.connections.push(key, connection);
        self.emit_opened(key, changes);
    }

    /// An outbound, established connection for a socket, with its key; `None` if the table is full
    /// (counted).
    fn new_from_scan(
        &mut self,
        socket: &OpenSocket,
        scan: FinishedScan<'_>,
        owner: &mut OwnerOf<'_>,
    ) -> Option<(u64, Connection)> {
        if self.connections.len() >= self.connections.cap().get() {
            self.stats.sockets_dropped_full.increment();
            return None;
        }
        self.stats.connections_found_by_scan.increment();
        self.last_number = self.last_number.saturating_add(1);
        let process = if socket.inode == 0 { None } else { owner(socket.inode) };
        let ConnectionOwner { process, attribution } =
            ConnectionOwner::of(process, Attribution::Scan);
        let connection = Connection {
            number: self.last_number,
            opened_boot_ns: scan.open.began_boot_ns,
            opened: scan.time,
            established: Some(scan.time),
            emitted: false,
            direction: Direction::Outbound,
            ends: socket.ends,
            netns: socket.netns,
            process,
            attribution,
            mptcp: 0,
            scan: ScanView { cookie: socket.cookie, ..ScanView::default() },
        };
        Some((LOCAL_KEY | self.last_number, connection))
    }
}

#[cfg(test)]
#[path = "socket_scan_tests.rs"]
mod tests;
