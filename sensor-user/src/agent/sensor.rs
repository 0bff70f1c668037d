//! `Sensor`: the BPF programs and the stages up to the connection table, polled by the pipeline thread.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::clock;
use crate::base::clock::{BootClock, Clock};
use crate::base::counters::{KernelCounters, Stats};
use crate::config::Config;
use crate::pipeline::Ingest;
use crate::pipeline::aggregate::{
    Change, ClockReading, ConnectionTable, FinishedScan, FlowCounters, HostView, LatencyReader,
    ListeningSocket, ScanKind, UdpTable,
};
use crate::pipeline::canary::{CANARY_ADDRESS, CanaryDetector, CanaryVerdict};
use crate::pipeline::capture::{Capture, CaptureError, LatencyMap, UdpFlows};
use crate::pipeline::decode::{ConnectionLatency, FlowCounts, FlowKey};
use crate::pipeline::enrich::proc_worker::ProcWorker;
use crate::pipeline::enrich::{DnsAnswer, Enricher, Process};
use crate::pipeline::nat::{NatState, NatTracker, unavailable_reason};
use crate::pipeline::socket_scan::{Scan, ScanResult, SocketScanConfig, SocketScanner};
use crate::privsep::Workers;

/// Interval between drains of the ring buffer while there is traffic.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum number of records per poll: their changes pass the later stages before more are taken, so that
/// the contents of a full ring buffer are not held in memory a second time.
const RECORDS_PER_POLL: u32 = 2048;
/// Empty drains after which the reader sleeps until a record arrives.
const IDLE_DRAINS: u32 = 10;
/// Maximum sleep: minutes and dedup windows end in the meantime.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// Source of the connections of this host.
#[derive(Debug)]
pub(crate) struct Sensor {
    capture: Capture,
    ingest: Ingest,
    /// The NAT tracker, or the reason why it is off.
    nat: Result<NatTracker, String>,
    /// Reason why NAT mappings are unavailable although the tracker is on, if they are.
    nat_unavailable: Option<String>,
    scanner: SocketScanner,
    /// Result of a socket scan, until the ring buffer has been drained.
    scanned: Option<ScanResult>,
    /// Latency epoch that ended when the current socket scan began.
    ended_epoch: u32,
    clock: Arc<dyn Clock>,
    /// True if the last poll emptied the ring buffer.
    drained: bool,
    /// Empty drains in a row.
    idle_drains: u32,
}

impl Sensor {
    /// Loads and attaches the probes, then reads the running processes, and requests the initial socket
    /// scan, which starts with [`Self::begin`]. Starts no thread.
    pub(crate) fn open(
        config: &Config,
        computer: Arc<str>,
        clock: Arc<dyn Clock>,
        workers: &Workers,
        stats: &Arc<Stats>,
    ) -> Result<Self, CaptureError> {
        let capture = Capture::open(&config.capture)?;
        let (proc_root, passwd) = (Path::new("/proc"), Path::new("/etc/passwd"));
        let mut enricher =
            Enricher::new(proc_root, passwd, config.max_processes, Arc::clone(stats));
        let running = enricher.scan_running();
        tracing::debug!(running, "processes read");
        enricher.set_proc_source(Box::new(ProcWorker(Arc::clone(&workers.proc))));
        let connections =
            ConnectionTable::new(Arc::clone(&computer), config.max_connections, Arc::clone(stats));
        let (max_flows, idle) =
            (config.capture.udp_flows as usize, config.capture.udp_idle_timeout);
        let flows = UdpTable::new(computer, max_flows, idle, Arc::clone(stats));
        let mut ingest = Ingest::new(enricher, connections, flows, Arc::clone(stats))
            .with_drops(config.capture.drops_per_million);
        let nat = if config.capture.conntrack {
            Ok(NatTracker::new(Arc::clone(&workers.nat), stats))
        } else {
            Err("disabled by the configuration".to_owned())
        };
        let nat_unavailable = nat.is_ok().then(unavailable_reason).flatten();
        let scan = SocketScanConfig {
            sockets_max: config.max_connections,
            interval: config.capture.scan_interval,
        };
        let mut scanner =
            SocketScanner::new(scan, clock.now(), Arc::clone(&workers.socket_scan), stats);
        let _all = ingest.begin_scan();
        scanner.request(Scan::Initial);
        Ok(Self {
            capture,
            ingest,
            nat,
            nat_unavailable,
            scanner,
            scanned: None,
            ended_epoch: 0,
            clock,
            drained: true,
            idle_drains: 0,
        })
    }

    /// Starts the threads.
    pub(crate) fn begin(&mut self) -> Result<(), CaptureError> {
        if let Ok(nat) = &mut self.nat {
            nat.begin().map_err(CaptureError::Thread)?;
        }
        self.scanner.begin().map_err(CaptureError::Thread)
    }

    /// The attached BPF programs and their maps.
    pub(crate) const fn capture(&self) -> &Capture {
        &self.capture
    }

    /// Has `canary` detect its own connections from now on, and remove them from the changes.
    pub(crate) fn set_canary(&mut self, canary: CanaryDetector) {
        self.ingest.canary = Some(canary);
    }

    /// Process id of the agent in the initial PID namespace, once known.
    pub(crate) fn own_pid(&self) -> Option<u32> {
        self.ingest.canary.as_ref().and_then(CanaryDetector::own_pid)
    }

    /// New verdicts of the canary about the hooks.
    pub(crate) fn take_verdicts(&mut self) -> Vec<CanaryVerdict> {
        self.ingest.canary.as_mut().map(CanaryDetector::take_verdicts).unwrap_or_default()
    }

    /// Time at which every hook that the canary tests last worked, ns since boot; `None` before the first
    /// canary.
    pub(crate) fn canary_seen(&self) -> Option<u64> {
        self.ingest.canary.as_ref().and_then(CanaryDetector::last_complete)
    }

    /// Name of each table, with its number of entries and its maximum.
    pub(crate) fn tables(&self) -> Vec<(&'static str, (usize, usize))> {
        let mut tables = self.ingest.tables().to_vec();
        if let Ok(nat) = &self.nat {
            tables.extend(nat.tables());
        }
        tables
    }

    /// Reason why NAT mappings are unavailable, if they are.
    pub(crate) fn nat_unavailable(&self) -> Option<String> {
        match &self.nat {
            Ok(_) => self.nat_unavailable.clone(),
            Err(reason) => Some(reason.clone()),
        }
    }

    /// State of the NAT lookups, or the reason why there are none.
    pub(crate) fn nat_state(&self) -> Result<NatState, &str> {
        match &self.nat {
            Ok(nat) => Ok(nat.state(clock::boot_ns())),
            Err(reason) => Err(reason),
        }
    }

    /// DNS answers since the last call. Must be taken after each poll, before its changes, since a process
    /// resolves a name before it connects.
    pub(crate) fn dns_answers(&mut self) -> std::vec::Drain<'_, DnsAnswer> {
        self.ingest.dns_answers.drain(..)
    }

    /// Drains the ring buffer, up to the maximum number of records; appends the changes of connections to
    /// `changes`.
    pub(crate) fn poll(&mut self, changes: &mut Vec<Change>) {
        let first = changes.len();
        // Sampled before the drain: a deadline that has passed by now has its next record in the ring buffer.
        let now_boot_ns = clock::boot_ns();
        let boot_clock = BootClock::sample(&*self.clock);
        // Taken before the drain as well: a scan is applied after every record that is older than it.
        if self.scanned.is_none() {
            self.scanned = self.scanner.take_result();
        }
        let ingest = &mut self.ingest;
        let each = |bytes: &[u8]| ingest.record(bytes, &boot_clock, changes);
        let records = self.capture.drain(RECORDS_PER_POLL, each);
        self.drained = records < RECORDS_PER_POLL;
        if !self.drained {
            self.idle_drains = 0;
            self.annotate(changes, first, now_boot_ns);
            return;
        }
        if let Some(result) = self.scanned.take() {
            self.apply_scan(result, &boot_clock, changes);
        }
        if self.scanner.is_idle() && self.ingest.take_scan_request() {
            self.scanner.bring_forward(self.clock.now());
        }
        if self.scanner.is_scheduled(self.clock.now()) {
            let namespaces = self.ingest.begin_scan();
            self.ended_epoch = self.capture.latency().begin_epoch();
            self.scanner.request(Scan::Periodic(namespaces));
        }
        self.ingest.expire(now_boot_ns, changes);
        let now = moment(now_boot_ns, &boot_clock);
        let more = self.ingest.read_udp_flows(now, self.capture.udp_flows(), changes);
        self.idle_drains =
            if records == 0 && !more { self.idle_drains.saturating_add(1) } else { 0 };
        self.annotate(changes, first, now_boot_ns);
    }

    /// Removes the canary's connections from the new changes, and adds NAT mappings.
    fn annotate(&mut self, changes: &mut Vec<Change>, first: usize, now_boot_ns: u64) {
        if let Some(canary) = &mut self.ingest.canary {
            canary.remove_from(changes, first);
        }
        if let Ok(nat) = &mut self.nat {
            nat.observe(changes, first, now_boot_ns);
        }
    }

    /// Applies the result of a socket scan, and requests the owners of sockets that are still unknown.
    fn apply_scan(
        &mut self,
        result: ScanResult,
        boot_clock: &BootClock,
        changes: &mut Vec<Change>,
    ) {
        let ScanResult { kind, open, owners } = result;
        let (before, time) = (changes.len(), boot_clock.wall(open.began_boot_ns));
        let mut latency = ScanLatency { map: self.capture.latency(), ended: self.ended_epoch };
        let scan = FinishedScan { kind, time, open: &open };
        let unknown = self.ingest.apply_scan(scan, &owners, &mut latency, changes);
        if kind == ScanKind::Initial {
            tracing::info!(
                connections = open.connections.len(),
                listeners = open.listeners.len(),
                udp_sockets = open.udp.len(),
                namespaces = open.namespaces.len(),
                changes = changes.len().saturating_sub(before),
                "open sockets read"
            );
        }
        if !unknown.is_empty() {
            self.scanner
                .request(Scan::Owners { sockets: unknown, began_boot_ns: open.began_boot_ns });
        }
    }

    /// Sleeps until the next drain, or until the ring buffer fills up. After some empty drains it sleeps until
    /// a record arrives, unless `busy`. (Deadlines of connections pass long before that.)
    pub(crate) fn wait(&mut self, busy: bool) -> Result<(), CaptureError> {
        if !self.drained {
            return Ok(());
        }
        let has_lookups = self.nat.as_ref().is_ok_and(NatTracker::is_waiting);
        if busy || has_lookups || self.idle_drains < IDLE_DRAINS {
            self.capture.wait(DRAIN_INTERVAL);
            return Ok(());
        }
        self.capture.sleep(SLEEP_MAX)
    }

    /// Detaches the probes, reads the rest of the ring buffer, and returns the closed ledger.
    pub(crate) fn finish(
        &mut self,
        changes: &mut Vec<Change>,
    ) -> Result<KernelCounters, CaptureError> {
        self.capture.detach();
        // A program that is still running on another CPU ends in this time.
        self.capture.wait(DRAIN_INTERVAL);
        loop {
            self.poll(changes);
            if self.drained {
                break;
            }
        }
        let first = changes.len();
        self.ingest.finish(changes);
        let boot_clock = BootClock::sample(&*self.clock);
        let now_boot_ns = clock::boot_ns();
        let now = moment(now_boot_ns, &boot_clock);
        self.ingest.read_all_udp_flows(now, self.capture.udp_flows(), changes);
        self.annotate(changes, first, now_boot_ns);
        if let Ok(nat) = &mut self.nat {
            nat.finish(changes);
        }
        self.capture.counters()
    }
}

fn moment(boot_ns: u64, clock: &BootClock) -> ClockReading<'_> {
    ClockReading { boot_ns, monotonic_ns: clock::monotonic_ns(), clock }
}

/// Reader of response latencies for a socket scan.
struct ScanLatency<'a> {
    map: &'a LatencyMap,
    ended: u32,
}

impl LatencyReader for ScanLatency<'_> {
    fn read(&mut self, cookie: u64) -> Option<ConnectionLatency> {
        ConnectionLatency::from_bytes(&self.map.read(cookie)?).ok()
    }

    fn ended_epoch(&self) -> u32 {
        self.ended
    }
}

impl HostView for Sensor {
    fn listening(&mut self, start: Timestamp, end: Timestamp) -> Vec<ListeningSocket> {
        let mut listening = self.ingest.listening(start, end);
        // Those of canaries; that of the own one is the only one of this process.
        listening.retain(|socket| socket.address != CANARY_ADDRESS);
        listening
    }

    fn wall(&self, boot_ns: u64) -> Timestamp {
        BootClock::sample(&*self.clock).wall(boot_ns)
    }

    fn working_directory(&self, process: &Process) -> String {
        self.ingest.working_directory(process)
    }
}

impl FlowCounters for UdpFlows {
    fn read(&mut self, key: &FlowKey) -> Option<FlowCounts> {
        FlowCounts::from_bytes(&Self::read(self, &key.to_bytes())?).ok()
    }

    fn forget(&mut self, key: &FlowKey) {
        self.remove(&key.to_bytes());
    }
}
