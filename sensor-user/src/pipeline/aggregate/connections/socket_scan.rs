//! ScanState: what is open by the kernel's own list, put beside what the records told.
//!
//! The first look finds the connections that are older than the probes: they are told as opened
//! and established in the minute of that look, flagged, and what they moved before is in no row.
//! (So a key's `LinksLive` is true from that minute on.) Each later look tells what connections have
//! moved since the one before, and ends those that two looks in a row did not find, whose end was
//! lost. What it finds and no record told is looked at once more, with its owner, and opened.
//!
//! **A connection is told once.** A socket is the connection of the table with its cookie; a
//! connection whose cookie is not known yet is joined by namespace and ends, if it is older than
//! the look. A record of what a look has found finds it in the same way. What ended between the
//! look and now is known by the list of ends that is kept meanwhile. The ring must be drained
//! after a look has ended and before it is taken in: then every record older than it is in.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::response_times::Responses;
use super::latency::LatencyReader;
use super::scan_index::{Ended, Found};
use super::{Connection, ConnectionTable};
use crate::pipeline::aggregate::change::Change;
use crate::pipeline::aggregate::flow::{Attribution, Direction};
use crate::pipeline::capture::{Ends, OpenSocket, OpenSockets};
use crate::pipeline::decode::{Tcp, TcpKind};
use crate::pipeline::enrich::Process;

/// What a look is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScanKind {
    /// To find what is older than the probes.
    First,
    /// To tell what has moved.
    Again,
    /// To open what the look before found and no record had told.
    Unknown,
}

/// Gives the holder of the socket with an inode number; `None` when it has gone.
pub(super) type OwnerOf<'a> = dyn FnMut(u32) -> Option<Arc<Process>> + 'a;

/// The bit that tells keys of ours from addresses: the kernel's have the highest bit too, on every
/// architecture of ours.
const OURS: u64 = 1 << 62;

/// How long the end of something older than the probes waits for the first look, ns.
const EARLY_HOLD_NS: u64 = 10_000_000_000;

/// The key of a listener that only a look has seen.
pub(super) fn key_of_cookie(cookie: u64) -> Option<u64> {
    (cookie != 0).then_some(OURS | cookie)
}

/// What looks know of a connection, and what was told of its counts.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Socket cookie; 0 until a look told.
    pub(super) cookie: u64,
    /// Bytes sent that were told, or that were before the agent.
    pub(super) sent: u64,
    /// Bytes received, likewise.
    pub(super) received: u64,
    pub(super) preexisting: bool,
    /// The last look did not find it.
    pub(super) missed: bool,
    /// Answers that are not told yet.
    pub(super) responses: Responses,
    /// The last epoch whose answers are among those that were counted.
    pub(super) turns_epoch: u32,
    /// From when to when the answer went, ns since boot, that was counted ahead of the kernel.
    pub(super) answer_ahead: Option<(u64, u64)>,
}

impl Seen {
    /// What is left to tell of the counts at the end: sent, received.
    pub(super) const fn left(&self, tcp: &Tcp) -> (u64, u64) {
        let sent = tcp.bytes_sent.saturating_sub(self.sent);
        (sent, tcp.bytes_received.saturating_sub(self.received))
    }
}

/// What is kept from look to look.
#[derive(Debug)]
pub(super) struct ScanState {
    max: usize,
    /// Whether the first look has been taken in.
    done: bool,
    /// While a look is under way: what ended meanwhile.
    ended: Option<Ended>,
    /// Connections that only a look has told, under keys of ours.
    pub(super) found: Found,
    /// Ends before the first look of what began before the probes: whether a listener was there,
    /// and so who began, the look tells.
    early_ends: Vec<(Timestamp, Tcp)>,
}

impl ScanState {
    pub(super) fn new(max: usize) -> Self {
        Self { max, done: false, ended: None, found: Found::default(), early_ends: Vec::new() }
    }

    /// Whether what is older than the probes is not known yet.
    pub(super) const fn is_initial_scan_running(&self) -> bool {
        self.ended.is_some() && !self.done
    }

    /// Keeps an end of something that was open before the probes until the first look, if that is
    /// under way and there is room.
    pub(super) fn hold_early_end(&mut self, time: Timestamp, tcp: &Tcp) -> bool {
        let held = self.is_initial_scan_running() && self.early_ends.len() < self.max;
        if held {
            self.early_ends.push((time, tcp.clone()));
        }
        held
    }
}

impl Connection {
    pub(super) const fn ends(&self) -> Ends {
        Ends {
            local: self.local,
            local_port: self.local_port,
            remote: self.remote,
            remote_port: self.remote_port,
        }
    }
}

impl ConnectionTable {
    /// A look is about to begin: from now on what ends is noted.
    pub fn begin_scan(&mut self) {
        self.scan.ended = Some(Ended::default());
    }

    /// The namespaces of what is tracked; `None` where one is not known.
    pub fn namespaces(&self) -> Option<HashSet<u32>> {
        let all: HashSet<u32> =
            self.connections.iter().map(|(_, connection)| connection.netns).collect();
        (!all.contains(&0)).then_some(all)
    }

    /// Takes in what a look at `time` found. `owner` gives the holder of the socket with an inode
    /// number, `turns` the answers on a connection. Of [`ScanKind::Again`] it gives the sockets that no record has told: they are looked
    /// at again, as [`ScanKind::Unknown`], with their owners.
    pub fn look(
        &mut self,
        open: &OpenSockets,
        (kind, time): (ScanKind, Timestamp),
        (owner, turns): (&mut OwnerOf<'_>, &mut dyn LatencyReader),
        changes: &mut Vec<Change>,
    ) -> Vec<OpenSocket> {
        let ended = self.scan.ended.take().unwrap_or_default();
        if kind == ScanKind::First {
            self.add_listeners(open, &ended, owner);
        }
        let mut known = vec![false; open.connections.len()];
        let lost = self.join(open, (kind, time), (&mut known, turns), changes);
        for key in lost {
            self.end_unseen(key, time, changes);
        }
        let sockets = open.connections.iter().zip(known);
        let unknown =
            sockets.filter(|(socket, known)| !known && !ended.has(socket, open.began_boot_ns));
        let mut unknown: Vec<OpenSocket> = unknown.map(|(socket, _)| *socket).collect();
        if kind == ScanKind::Again {
            if !unknown.is_empty() {
                self.scan.ended = Some(ended);
            }
        } else {
            for socket in unknown.drain(..) {
                self.open_found(&socket, (kind, time, open.began_boot_ns), owner, changes);
            }
        }
        self.scan.done = true;
        self.tell_early_ends(changes);
        let connections = &self.connections;
        self.scan.found.keep(|key| connections.contains(key));
        unknown
    }

    /// Tells the ends that waited for a first look which does not come.
    pub(super) fn expire_early_ends(&mut self, now_boot_ns: u64, changes: &mut Vec<Change>) {
        let first = self.scan.early_ends.first();
        if first.is_some_and(|(_, tcp)| tcp.boot_ns.saturating_add(EARLY_HOLD_NS) <= now_boot_ns) {
            self.scan.done = true;
            self.tell_early_ends(changes);
        }
    }

    fn tell_early_ends(&mut self, changes: &mut Vec<Change>) {
        let first = changes.len();
        for (time, mut tcp) in std::mem::take(&mut self.scan.early_ends) {
            // Its socket may be another connection's by now.
            tcp.sk = OURS;
            self.close(time, &tcp, changes);
        }
        for change in changes.iter_mut().skip(first) {
            change.flow.preexisting = true;
        }
    }

    /// Takes a record in that is about what a look has found; true when it tells nothing new.
    pub(super) fn told_by_look(&mut self, tcp: &Tcp) -> bool {
        if matches!(tcp.kind, TcpKind::Close | TcpKind::Unlisten) {
            self.note_end(tcp);
        }
        let about =
            matches!(tcp.kind, TcpKind::Connect | TcpKind::Established { .. } | TcpKind::Close);
        if !about || self.scan.found.is_empty() || self.connections.contains(&tcp.sk) {
            return false;
        }
        let Some(key) = self.found(tcp) else { return false };
        let begins = matches!(tcp.kind, TcpKind::Connect | TcpKind::Established { inbound: true });
        if begins {
            // A new connection with the same ends, or the beginning of this one, come late.
            let seen_at = self.connections.peek(&key).map_or(0, |found| found.opened_boot_ns);
            if tcp.boot_ns > seen_at {
                return false;
            }
        }
        if let Some(connection) = self.connections.pop(&key) {
            self.scan
                .found
                .forget(connection.seen.cookie, (connection.ends(), connection.netns, key));
            self.connections.push(tcp.sk, connection);
        }
        begins
    }

    fn note_end(&mut self, tcp: &Tcp) {
        if let Some(ended) = &mut self.scan.ended
            && !ended.note(tcp, self.scan.max)
        {
            self.stats.recent_closes_evicted.increment();
        }
    }

    /// Key of the connection that a look has found and a record is about.
    fn found(&self, tcp: &Tcp) -> Option<u64> {
        let cookie = |key: &u64| self.connections.peek(key).map_or(0, |found| found.seen.cookie);
        self.scan.found.of(tcp, cookie)
    }

    fn add_listeners(&mut self, open: &OpenSockets, ended: &Ended, owner: &mut OwnerOf<'_>) {
        for socket in &open.listeners {
            if ended.has(socket, open.began_boot_ns) {
                continue;
            }
            let process = owner(socket.inode).unwrap_or_else(|| Arc::clone(&self.nobody));
            let key =
                key_of_cookie(socket.cookie).unwrap_or_else(|| OURS | u64::from(socket.inode));
            let port = (socket.netns, socket.ends.local_port);
            let listener = (key, Timestamp::MIN);
            self.listeners.add(port, listener, socket.ends.local, process);
        }
    }

    /// Opens what only a look has told.
    fn open_found(
        &mut self,
        socket: &OpenSocket,
        (kind, time, boot_ns): (ScanKind, Timestamp, u64),
        owner: &mut OwnerOf<'_>,
        changes: &mut Vec<Change>,
    ) {
        let Some((key, mut connection)) = self.new_found(socket, (time, boot_ns), owner) else {
            return;
        };
        let port = (socket.netns, socket.ends.local_port);
        if !socket.is_half_open() && self.listeners.owner(port, socket.ends.local).is_some() {
            connection.direction = Direction::Inbound;
        }
        if socket.is_half_open() {
            connection.established = None;
        }
        if kind == ScanKind::First {
            let before = socket.counts.unwrap_or_default();
            connection.seen.preexisting = true;
            (connection.seen.sent, connection.seen.received) =
                (before.bytes_sent, before.bytes_received);
        }
        self.scan.found.add(socket, key);
        self.connections.push(key, connection);
        self.tell_opened(key, changes);
    }

    /// An outbound, established connection for a socket, and a key for it; `None` where the table
    /// is full (counted).
    pub(super) fn new_found(
        &mut self,
        socket: &OpenSocket,
        (time, boot_ns): (Timestamp, u64),
        owner: &mut OwnerOf<'_>,
    ) -> Option<(u64, Connection)> {
        if self.connections.len() >= self.connections.cap().get() {
            self.stats.sockets_dropped_full.increment();
            return None;
        }
        self.stats.connections_found_by_scan.increment();
        self.last_number = self.last_number.saturating_add(1);
        let process = if socket.inode == 0 { None } else { owner(socket.inode) };
        let attribution = match process {
            Some(_) => Attribution::Scan,
            None => Attribution::Unknown,
        };
        let connection = Connection {
            number: self.last_number,
            opened_boot_ns: boot_ns,
            opened: time,
            established: Some(time),
            told: false,
            direction: Direction::Outbound,
            local: socket.ends.local,
            local_port: socket.ends.local_port,
            remote: socket.ends.remote,
            remote_port: socket.ends.remote_port,
            netns: socket.netns,
            process,
            attribution,
            seen: Seen { cookie: socket.cookie, ..Seen::default() },
        };
        Some((OURS | self.last_number, connection))
    }
}

#[cfg(test)]
#[path = "socket_scan_tests.rs"]
mod tests;
