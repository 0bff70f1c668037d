//! Reconciles the table with the sockets of a scan: bytes moved, and connections that are gone.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;

use super::latency::LatencyReader;
use super::socket_scan::{FinishedScan, ScanKind};
use super::{Connection, ConnectionTable};
use crate::pipeline::aggregate::change::{Change, ChangeKind};
use crate::pipeline::capture::{OpenSocket, OpenSockets};

impl ConnectionTable {
    /// Matches the table with the open sockets, reports the bytes moved, and sets `known` for the sockets
    /// with a connection. Returns the keys of the connections that two scans in a row have missed.
    pub(super) fn reconcile(
        &mut self,
        scan: FinishedScan<'_>,
        known: &mut [bool],
        latency: &mut dyn LatencyReader,
        changes: &mut Vec<Change>,
    ) -> Vec<u64> {
        let FinishedScan { kind, time, open } = scan;
        let (mut lost, mut without_port, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        let mut missed = |key: u64, connection: &mut Connection| {
            let is_covered = open.namespaces.contains(&connection.netns);
            if kind == ScanKind::Owners
                || !is_covered
                || connection.opened_boot_ns >= open.began_boot_ns
            {
                return;
            }
            if std::mem::replace(&mut connection.scan.missed, true) {
                lost.push(key);
            }
        };
        for (key, connection) in &mut self.connections {
            if connection.ends.local_port == 0 && connection.established.is_none() {
                without_port.push(*key);
                continue;
            }
            let Some(index) = connection.index_in(open) else {
                missed(*key, connection);
                continue;
            };
            let Some(socket) = open.connections.get(index) else { continue };
            if let Some(known) = known.get_mut(index) {
                *known = true;
            }
            // A connection younger than the scan may have the addresses of an earlier one.
            let is_same =
                connection.scan.cookie != 0 || connection.opened_boot_ns < open.began_boot_ns;
            if is_same && kind != ScanKind::Owners && connection.is_up(socket, time) {
                if connection.count_latency(latency, open.began_boot_ns) {
                    self.stats.latency_evicted.increment();
                }
                if connection.moved(socket) {
                    moved.push((*key, socket));
                }
            }
        }
        let mut half_open = half_open(open, known);
        for key in without_port {
            let Some(connection) = self.connections.peek_mut(&key) else { continue };
            let to = (connection.netns, connection.ends.remote, connection.ends.remote_port);
            match half_open.get_mut(&to).and_then(Vec::pop) {
                Some(index) => {
                    connection.scan.missed = false;
                    if let Some(known) = known.get_mut(index) {
                        *known = true;
                    }
                }
                None => missed(key, connection),
            }
        }
        for (key, socket) in moved {
            self.emit_active(key, socket, time, changes);
        }
        lost
    }

    /// Emits the bytes that a connection has moved since its last change.
    fn emit_active(
        &mut self,
        key: u64,
        socket: &OpenSocket,
        time: Timestamp,
        changes: &mut Vec<Change>,
    ) {
        let Some(counts) = socket.counts else { return };
        let Some(connection) = self.connections.peek(&key) else { return };
        let mut change = self.change(connection, ChangeKind::Active, time);
        change.flow.bytes_sent = counts.bytes_sent.saturating_sub(connection.scan.sent);
        change.flow.bytes_received = counts.bytes_received.saturating_sub(connection.scan.received);
        change.rtt_us = counts.rtt_us;
        if let Some(connection) = self.connections.peek_mut(&key) {
            let view = &mut connection.scan;
            view.sent = view.sent.max(counts.bytes_sent);
            view.received = view.received.max(counts.bytes_received);
            change.responses = view.responses.take();
        }
        changes.push(change);
    }

    /// Closes a connection whose close event was lost.
    pub(super) fn close_missed(&mut self, key: u64, time: Timestamp, changes: &mut Vec<Change>) {
        self.emit_opened(key, changes);
        let Some(connection) = self.connections.pop(&key) else { return };
        self.scan.found.remove(connection.scan.cookie, (connection.ends, connection.netns, key));
        self.stats.connections_close_missed.increment();
        changes.push(self.closed_change(&connection, time, None));
    }
}

impl Connection {
    /// Index of this connection's socket among the open sockets.
    fn index_in(&self, open: &OpenSockets) -> Option<usize> {
        let cookie = self.scan.cookie;
        if let Some(index) = (cookie != 0).then(|| open.position_by_cookie(cookie)).flatten() {
            return Some(index);
        }
        open.positions_by_ends(self.ends).find(|index| {
            open.connections.get(*index).is_some_and(|socket| {
                let is_same_netns = socket.netns == self.netns || self.netns == 0;
                is_same_netns && (socket.cookie == 0 || cookie == 0)
            })
        })
    }

    /// Assigns a socket to this connection; true if the connection was established at the time of the scan.
    fn is_up(&mut self, socket: &OpenSocket, time: Timestamp) -> bool {
        self.scan.missed = false;
        if self.scan.cookie == 0 {
            self.scan.cookie = socket.cookie;
        }
        self.emitted && self.established.is_some_and(|established| established <= time)
    }

    /// True if the socket has moved bytes, or responses are unreported.
    fn moved(&self, socket: &OpenSocket) -> bool {
        !self.scan.responses.is_none()
            || socket.counts.is_some_and(|counts| {
                counts.bytes_sent > self.scan.sent || counts.bytes_received > self.scan.received
            })
    }
}

/// Indexes of unmatched sockets in `SYN_SENT`, by destination.
fn half_open(open: &OpenSockets, known: &[bool]) -> HashMap<(u32, IpAddr, u16), Vec<usize>> {
    let mut indexes: HashMap<_, Vec<usize>> = HashMap::new();
    for (index, (socket, known)) in open.connections.iter().zip(known).enumerate() {
        if socket.is_half_open() && !known {
            let to = (socket.netns, socket.ends.remote, socket.ends.remote_port);
            indexes.entry(to).or_default().push(index);
        }
    }
    indexes
}
