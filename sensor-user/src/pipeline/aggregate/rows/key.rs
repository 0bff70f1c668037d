//! The group key of a row, and the counts of a key in a minute.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;

use super::super::change::{Change, ChangeKind};
use super::super::flow::{Direction, NatMapping, Peer};
use super::super::response_times::ResponseTimes;
use crate::base::counters::Stats;
use crate::base::protocol::Protocol;
use crate::pipeline::enrich::Process;

/// Microsoft's group key without the machine, which is always this host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    pub(super) direction: Direction,
    /// Path of the executable, or its name where no path is known.
    pub(super) executable: String,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) destination_port: u16,
    pub(super) protocol: Protocol,
}

impl RowKey {
    pub(super) fn of(change: &Change) -> Self {
        let flow = &change.flow;
        Self {
            direction: flow.direction,
            executable: flow.process.executable().to_owned(),
            source: flow.source(),
            destination: flow.destination(),
            destination_port: flow.destination_port().unwrap_or(0),
            protocol: flow.protocol,
        }
    }

    /// Key of the same connection with another process.
    pub(super) fn with_process(&self, process: &Process) -> Self {
        Self { executable: process.executable().to_owned(), ..self.clone() }
    }

    /// Remote end of the key with a NAT mapping. A row has only the port of the accepting end.
    pub(super) fn peer(&self, translated: Option<SocketAddr>) -> Peer {
        let port = (self.destination_port != 0).then_some(self.destination_port);
        let (address, port, local_port) = match self.direction {
            Direction::Inbound => (self.source, None, port),
            Direction::Outbound => (self.destination, port, None),
        };
        Peer { address, port, local_port, translated }
    }
}

/// Maximum number of mapped remote ends of a key in a minute.
const MAPPED_MAX: usize = 16;

/// Counts of the connections of a key in a minute.
#[derive(Debug)]
pub(in super::super) struct MinuteCounts {
    pub(in super::super) established: u64,
    pub(in super::super) terminated: u64,
    pub(in super::super) failed: u64,
    pub(in super::super) bytes_sent: u64,
    pub(in super::super) bytes_received: u64,
    pub(in super::super) responses: ResponseTimes,
    /// Minimum and maximum round-trip time, microseconds.
    pub(in super::super) rtt_us: Option<(u32, u32)>,
    /// Time of the first change.
    pub(in super::super) since: Option<Timestamp>,
    /// Mapped remote ends of connections with a NAT mapping; that of the latest connection is last.
    pub(super) translated: Vec<SocketAddr>,
    /// Process of the latest change.
    pub(in super::super) process: Arc<Process>,
}

impl MinuteCounts {
    pub(in super::super) fn new(process: &Arc<Process>) -> Self {
        Self {
            established: 0,
            terminated: 0,
            failed: 0,
            bytes_sent: 0,
            bytes_received: 0,
            responses: ResponseTimes::NONE,
            rtt_us: None,
            since: None,
            translated: Vec::new(),
            process: Arc::clone(process),
        }
    }

    /// True if nothing was counted.
    pub(in super::super) const fn is_empty(&self) -> bool {
        let links = self.established | self.terminated | self.failed;
        links | self.bytes_sent | self.bytes_received | self.responses.count == 0
    }

    pub(in super::super) fn add(&mut self, change: &Change) {
        match change.kind {
            ChangeKind::Opened
            | ChangeKind::Active
            | ChangeKind::Attributed
            | ChangeKind::Translated => {}
            ChangeKind::Established => self.established += 1,
            ChangeKind::Failed => self.failed += 1,
            ChangeKind::Closed => self.terminated += 1,
        }
        self.bytes_sent = self.bytes_sent.saturating_add(change.flow.bytes_sent);
        self.bytes_received = self.bytes_received.saturating_add(change.flow.bytes_received);
        self.responses.add(&change.responses);
        if change.rtt_us > 0 {
            let (min, max) = self.rtt_us.unwrap_or((change.rtt_us, change.rtt_us));
            self.rtt_us = Some((min.min(change.rtt_us), max.max(change.rtt_us)));
        }
        let time = change.flow.time;
        self.since = Some(self.since.map_or(time, |since| since.min(time)));
        self.process = Arc::clone(&change.flow.process);
    }

    /// Adds the mapped remote end of a connection. The oldest one is evicted if there are too many.
    pub(super) fn add_mapping(&mut self, mapping: Option<&NatMapping>, stats: &Stats) {
        let Some(end) = mapping.map(NatMapping::remote) else { return };
        self.translated.retain(|known| *known != end);
        self.translated.push(end);
        if self.translated.len() > MAPPED_MAX {
            self.translated.remove(0);
            stats.row_mappings_evicted.increment();
        }
    }
}

/// State of a key with open connections.
#[derive(Debug)]
pub(super) struct LiveKey {
    pub(super) links: u64,
    pub(super) process: Arc<Process>,
    /// Mapped remote end of the latest connection with a NAT mapping.
    pub(super) translated: Option<SocketAddr>,
    /// Last closed minute in which the key has a row, by its number among the closed minutes.
    pub(super) last_row_in: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_the_key_is_that_of_the_accepting_end() {
        let outbound = RowKey {
            direction: Direction::Outbound,
            executable: String::new(),
            source: [192, 0, 2, 1].into(),
            destination: [203, 0, 113, 7].into(),
            destination_port: 443,
            protocol: Protocol::Tcp,
        };
        let inbound = RowKey { direction: Direction::Inbound, ..outbound.clone() };
        let unknown = RowKey { destination_port: 0, ..outbound.clone() };
        for (key, address, port, local_port) in [
            (outbound, "203.0.113.7", Some(443), None),
            (inbound, "192.0.2.1", None, Some(443)),
            (unknown, "203.0.113.7", None, None),
        ] {
            let peer = key.peer(None);
            assert_eq!((peer.address.to_string().as_str(), peer.port), (address, port));
            assert_eq!(peer.local_port, local_port);
        }
    }
}
