//! `Ingest`: the stages up to the tables of connections.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::aggregate::{
    Change, ClockReading, ConnectionTable, FlowCounters, LatencyReader, ListeningSocket, ScanKind,
    UdpTable,
};
use super::canary::CanaryDetector;
use super::capture::{OpenSocket, OpenSockets};
use super::decode;
use super::decode::Record;
use super::enrich::{DnsAnswer, Enricher, Event, Process, SocketOwners};
use crate::base::clock::BootClock;
use crate::base::counters::Stats;

/// From the kernel's bytes to changes of connections.
#[derive(Debug)]
pub struct Ingest {
    enricher: Enricher,
    connections: ConnectionTable,
    flows: UdpTable,
    drops_per_million: u32,
    /// What names resolved to, since somebody asked.
    pub(crate) answers: Vec<DnsAnswer>,
    /// Sees the canary, where there is one.
    pub(crate) canary: Option<CanaryDetector>,
    stats: Arc<Stats>,
}

impl Ingest {
    /// Puts the stages together.
    pub fn new(
        enricher: Enricher,
        connections: ConnectionTable,
        flows: UdpTable,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            enricher,
            connections,
            flows,
            drops_per_million: 0,
            answers: Vec::new(),
            canary: None,
            stats,
        }
    }

    /// Leaves out a share of the records, unread: `per_million` of a million on average.
    #[must_use]
    pub fn with_drops(self, per_million: u32) -> Self {
        Self { drops_per_million: per_million, ..self }
    }

    /// decode → enrich → aggregate, for one record; what it changes is appended to `changes`.
    pub fn record(&mut self, bytes: &[u8], clock: &BootClock, changes: &mut Vec<Change>) {
        self.stats.records_received.increment();
        if self.drops_per_million > 0 && fastrand::u32(..1_000_000) < self.drops_per_million {
            self.stats.records_dropped_simulated.increment();
            return;
        }
        match decode::record(bytes) {
            Ok(record) => {
                if let Some(canary) = &mut self.canary {
                    canary.record(&record);
                }
                self.decoded(record, clock, changes);
            }
            Err(error) => {
                self.stats.records_discarded_decode.increment();
                tracing::debug!(%error, "record discarded");
            }
        }
    }

    fn decoded(&mut self, record: Record, clock: &BootClock, changes: &mut Vec<Change>) {
        if let Record::Exec(exec) = record {
            let image = self.enricher.exec(exec);
            self.connections.image_replaced(&image);
            return;
        }
        match self.enricher.event(record, clock) {
            Some(Event::Tcp(event)) => self.connections.observe(event, changes),
            Some(Event::Latency(latency)) => self.connections.add_early_latency(&latency),
            Some(Event::Udp(event)) => self.flows.observe(event, clock, changes),
            Some(Event::Dns(answer)) => self.answers.push(answer),
            None => {}
        }
    }

    /// A look at what is open is about to begin; gives the namespaces that it should go to
    /// (`None`: all).
    pub fn begin_scan(&mut self) -> Option<HashSet<u32>> {
        self.connections.begin_scan();
        self.connections.namespaces()
    }

    /// enrich → aggregate, for what a look at `time` found. The ring must have been drained since.
    /// Gives the sockets that are to be looked at once more, with their holders.
    pub fn look(
        &mut self,
        (kind, time): (ScanKind, Timestamp),
        open: &OpenSockets,
        (holders, turns): (&SocketOwners, &mut dyn LatencyReader),
        changes: &mut Vec<Change>,
    ) -> Vec<OpenSocket> {
        let enricher = &mut self.enricher;
        let mut owner = |inode| holders.get(inode).and_then(|holder| enricher.holder(holder));
        let unknown = self.connections.apply_scan(open, (kind, time), (&mut owner, turns), changes);
        if kind == ScanKind::Initial {
            self.flows.apply_scan(open, time, &mut owner, changes);
        }
        unknown
    }

    /// Connections that have waited long enough at `now_boot_ns`.
    pub fn expire(&mut self, now_boot_ns: u64, changes: &mut Vec<Change>) {
        self.connections.expire(now_boot_ns, changes);
        self.flows.expire(now_boot_ns, changes);
    }

    /// Reads what UDP flows have moved, some at a time; says whether others are due.
    pub fn read_udp_flows(
        &mut self,
        now: ClockReading<'_>,
        counters: &mut dyn FlowCounters,
        changes: &mut Vec<Change>,
    ) -> bool {
        self.flows.read_counts(now, counters, changes)
    }

    /// Reads what every UDP flow has moved, at the end.
    pub fn read_all_udp_flows(
        &mut self,
        now: ClockReading<'_>,
        counters: &mut dyn FlowCounters,
        changes: &mut Vec<Change>,
    ) {
        self.flows.read_all_counts(now, counters, changes);
    }

    /// Name of each table, its entries, and how many there may be.
    pub(crate) fn tables(&self) -> [(&'static str, (usize, usize)); 4] {
        [
            ("connections", self.connections.occupancy()),
            ("listeners", self.connections.listeners_occupancy()),
            ("udp_flows", self.flows.occupancy()),
            ("processes", self.enricher.occupancy()),
        ]
    }

    /// What listened at some time from `start` to `end`.
    pub(crate) fn listening(&mut self, start: Timestamp, end: Timestamp) -> Vec<ListeningSocket> {
        self.connections.listening(start, end)
    }

    /// Folder that a process works in; "" where it is not known, or the process has ended.
    pub(crate) fn working_directory(&self, process: &Process) -> String {
        self.enricher.working_directory(process)
    }

    /// The end: nothing waits any longer.
    pub(crate) fn finish(&mut self, changes: &mut Vec<Change>) {
        self.expire(u64::MAX, changes);
        self.stats.connections_abandoned.add(self.connections.len() as u64);
    }
}
