//! `Ingest`: the stages from kernel records to changes of connections.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::aggregate::{
    Change, ClockReading, ConnectionTable, FinishedScan, FlowCounters, LatencyReader,
    ListeningSocket, ScanKind, UdpTable,
};
use super::canary::CanaryDetector;
use super::capture::OpenSocket;
use super::decode::Record;
use super::enrich::{DnsAnswer, Enricher, Event, Process, SocketOwners};
use crate::base::clock::BootClock;
use crate::base::counters::Stats;

/// The stages decode, enrich and aggregate, up to the connection tables.
#[derive(Debug)]
pub struct Ingest {
    enricher: Enricher,
    connections: ConnectionTable,
    flows: UdpTable,
    drops_per_million: u32,
    /// DNS answers that were not taken yet.
    pub(crate) dns_answers: Vec<DnsAnswer>,
    /// Detector of the canary, if it is enabled.
    pub(crate) canary: Option<CanaryDetector>,
    stats: Arc<Stats>,
}

impl Ingest {
    /// Assembles the stages up to the tables.
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
            dns_answers: Vec::new(),
            canary: None,
            stats,
        }
    }

    /// Simulates losses: drops `per_million` of a million records on average, unread.
    #[must_use]
    pub fn with_drops(self, per_million: u32) -> Self {
        Self { drops_per_million: per_million, ..self }
    }

    /// Passes one record through decode, enrich and aggregate; appends its changes to `changes`.
    pub fn record(&mut self, bytes: &[u8], clock: &BootClock, changes: &mut Vec<Change>) {
        self.stats.records_received.increment();
        if self.drops_per_million > 0 && fastrand::u32(..1_000_000) < self.drops_per_million {
            self.stats.records_dropped_simulated.increment();
            return;
        }
        match Record::from_bytes(bytes) {
            Ok(record) => {
                if let Some(canary) = &mut self.canary {
                    canary.observe(&record);
                }
                self.process(record, clock, changes);
            }
            Err(error) => {
                self.stats.records_discarded_decode.increment();
                tracing::debug!(%error, "record discarded");
            }
        }
    }

    fn process(&mut self, record: Record, clock: &BootClock, changes: &mut Vec<Change>) {
        if let Record::Exec(exec) = record {
            let image = self.enricher.exec(exec);
            self.connections.image_replaced(&image);
            return;
        }
        match self.enricher.event(record, clock) {
            Some(Event::Tcp(event)) => self.connections.observe(event, changes),
            Some(Event::Latency(latency)) => self.connections.add_early_latency(&latency),
            Some(Event::Udp(event)) => self.flows.observe(event, clock, changes),
            Some(Event::Dns(answer)) => self.dns_answers.push(answer),
            None => {}
        }
    }

    /// Must be called before a socket scan begins. Returns the network namespaces to scan (`None`:
    /// all).
    pub fn begin_scan(&mut self) -> Option<HashSet<u32>> {
        self.connections.begin_scan();
        self.connections.namespaces()
    }

    /// True, once, if a socket scan is needed soon.
    pub fn take_scan_request(&mut self) -> bool {
        self.connections.take_scan_request()
    }

    /// Passes a finished scan through enrich and aggregate. The ring buffer must have been drained
    /// since the end of the scan. Returns the sockets to scan again, with their owners.
    pub fn apply_scan(
        &mut self,
        scan: FinishedScan<'_>,
        owners: &SocketOwners,
        latency: &mut dyn LatencyReader,
        changes: &mut Vec<Change>,
    ) -> Vec<OpenSocket> {
        let enricher = &mut self.enricher;
        let mut owner = |inode| owners.get(inode).and_then(|owner| enricher.of_socket_owner(owner));
        let unknown = self.connections.apply_scan(scan, &mut owner, latency, changes);
        if scan.kind == ScanKind::Initial {
            self.flows.apply_scan(scan.open, scan.time, &mut owner, changes);
        }
        unknown
    }

    /// Emits the changes of connections and flows whose hold has expired at `now_boot_ns`.
    pub fn expire(&mut self, now_boot_ns: u64, changes: &mut Vec<Change>) {
        self.connections.expire(now_boot_ns, changes);
        self.flows.expire(now_boot_ns, changes);
    }

    /// Reads the counts of UDP flows, up to a maximum number per call. True if some are unread.
    pub fn read_udp_flows(
        &mut self,
        now: ClockReading<'_>,
        counters: &mut dyn FlowCounters,
        changes: &mut Vec<Change>,
    ) -> bool {
        self.flows.read_counts(now, counters, changes)
    }

    /// Reads the counts of every UDP flow, when the agent stops.
    pub fn read_all_udp_flows(
        &mut self,
        now: ClockReading<'_>,
        counters: &mut dyn FlowCounters,
        changes: &mut Vec<Change>,
    ) {
        self.flows.read_all_counts(now, counters, changes);
    }

    /// Name of each table, its number of entries, and the maximum.
    pub(crate) fn tables(&self) -> [(&'static str, (usize, usize)); 4] {
        [
            ("connections", self.connections.occupancy()),
            ("listeners", self.connections.listeners_occupancy()),
            ("udp_flows", self.flows.occupancy()),
            ("processes", self.enricher.occupancy()),
        ]
    }

    /// Sockets that listened at any time from `start` to `end`.
    pub(crate) fn listening(&mut self, start: Timestamp, end: Timestamp) -> Vec<ListeningSocket> {
        self.connections.listening(start, end)
    }

    /// Working directory of a process; "" if unknown, or if the process has exited.
    pub(crate) fn working_directory(&self, process: &Process) -> String {
        self.enricher.working_directory(process)
    }

    /// Expires all holds, when the agent stops.
    pub(crate) fn finish(&mut self, changes: &mut Vec<Change>) {
        self.expire(u64::MAX, changes);
        self.stats.connections_abandoned.add(self.connections.len() as u64);
    }
}
