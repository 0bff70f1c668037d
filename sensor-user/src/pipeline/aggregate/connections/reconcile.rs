//! Joins the table with the sockets of a look: what has moved, and what is not there any more.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;

use super::latency::LatencyReader;
use super::socket_scan::ScanKind;
use super::{Connection, ConnectionTable};
use crate::pipeline::aggregate::change::{Change, ChangeKind};
use crate::pipeline::capture::{OpenSocket, OpenSockets};

impl ConnectionTable {
    /// Joins the table with the open sockets, and tells what has moved. Gives the keys of what two
    /// looks have missed.
    pub(super) fn join(
        &mut self,
        open: &OpenSockets,
        (kind, time): (ScanKind, Timestamp),
        (known, turns): (&mut [bool], &mut dyn LatencyReader),
        changes: &mut Vec<Change>,
    ) -> Vec<u64> {
        let (mut lost, mut without_port, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        let mut missed = |key: u64, connection: &mut Connection| {
            let looked_at = open.namespaces.contains(&connection.netns);
            if kind == ScanKind::Unknown
                || !looked_at
                || connection.opened_boot_ns >= open.began_boot_ns
            {
                return;
            }
            if std::mem::replace(&mut connection.seen.missed, true) {
                lost.push(key);
            }
        };
        for (key, connection) in &mut self.connections {
            if connection.local_port == 0 && connection.established.is_none() {
                without_port.push(*key);
                continue;
            }
            let Some(place) = connection.place_in(open) else {
                missed(*key, connection);
                continue;
            };
            let Some(socket) = open.connections.get(place) else { continue };
            if let Some(known) = known.get_mut(place) {
                *known = true;
            }
            // One that is younger than the look may follow one with the same ends.
            let sure =
                connection.seen.cookie != 0 || connection.opened_boot_ns < open.began_boot_ns;
            if sure && kind != ScanKind::Unknown && connection.is_up(socket, time) {
                if connection.count_turns(turns, open.began_boot_ns) {
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
            let to = (connection.netns, connection.remote, connection.remote_port);
            match half_open.get_mut(&to).and_then(Vec::pop) {
                Some(place) => {
                    connection.seen.missed = false;
                    if let Some(known) = known.get_mut(place) {
                        *known = true;
                    }
                }
                None => missed(key, connection),
            }
        }
        for (key, socket) in moved {
            self.tell_active(key, socket, time, changes);
        }
        lost
    }

    /// Tells what a connection has moved since it was last told.
    fn tell_active(
        &mut self,
        key: u64,
        socket: &OpenSocket,
        time: Timestamp,
        changes: &mut Vec<Change>,
    ) {
        let Some(counts) = socket.counts else { return };
        let Some(connection) = self.connections.peek(&key) else { return };
        let mut change = self.change(connection, ChangeKind::Active, time);
        change.flow.bytes_sent = counts.bytes_sent.saturating_sub(connection.seen.sent);
        change.flow.bytes_received = counts.bytes_received.saturating_sub(connection.seen.received);
        change.rtt_us = counts.rtt_us;
        if let Some(connection) = self.connections.peek_mut(&key) {
            let seen = &mut connection.seen;
            seen.sent = seen.sent.max(counts.bytes_sent);
            seen.received = seen.received.max(counts.bytes_received);
            change.responses = seen.responses.take();
        }
        changes.push(change);
    }

    /// Ends a connection whose end was lost.
    pub(super) fn end_unseen(&mut self, key: u64, time: Timestamp, changes: &mut Vec<Change>) {
        self.tell_opened(key, changes);
        let Some(connection) = self.connections.pop(&key) else { return };
        self.scan.found.forget(connection.seen.cookie, (connection.ends(), connection.netns, key));
        self.stats.connections_close_missed.increment();
        changes.push(self.ended(&connection, time, None));
    }
}

impl Connection {
    /// The socket of this connection among those that are open.
    fn place_in(&self, open: &OpenSockets) -> Option<usize> {
        let cookie = self.seen.cookie;
        if let Some(place) = (cookie != 0).then(|| open.with_cookie(cookie)).flatten() {
            return Some(place);
        }
        open.with_ends(self.ends()).find(|place| {
            open.connections.get(*place).is_some_and(|socket| {
                let here = socket.netns == self.netns || self.netns == 0;
                here && (socket.cookie == 0 || cookie == 0)
            })
        })
    }

    /// Takes in which socket is this connection's; whether it was up at the time of the look.
    fn is_up(&mut self, socket: &OpenSocket, time: Timestamp) -> bool {
        self.seen.missed = false;
        if self.seen.cookie == 0 {
            self.seen.cookie = socket.cookie;
        }
        self.told && self.established.is_some_and(|established| established <= time)
    }

    /// Whether there is something to tell of it.
    fn moved(&self, socket: &OpenSocket) -> bool {
        !self.seen.responses.is_none()
            || socket.counts.is_some_and(|counts| {
                counts.bytes_sent > self.seen.sent || counts.bytes_received > self.seen.received
            })
    }
}

/// Places of sockets in `SYN_SENT` that are not known yet, by where they go.
fn half_open(open: &OpenSockets, known: &[bool]) -> HashMap<(u32, IpAddr, u16), Vec<usize>> {
    let mut places: HashMap<_, Vec<usize>> = HashMap::new();
    for (place, (socket, known)) in open.connections.iter().zip(known).enumerate() {
        if socket.is_half_open() && !known {
            let to = (socket.netns, socket.ends.remote, socket.ends.remote_port);
            places.entry(to).or_default().push(place);
        }
    }
    places
}
