//! `NatTracker`: looks up the NAT mapping of each connection.
//!
//! A connection is reported as opened at once. A thread has the worker `nat` query the connection tracking
//! of the socket's network namespace, and then that of the agent's (where the traffic of containers is
//! translated). A mapping is reported as a separate change in a later iteration. So nothing waits for a
//! response, and each connection is looked up once.
//!
//! Invariants. At most `CONNECTIONS_MAX` connections are remembered, the least recently used is evicted
//! first; at most `BATCHES_MAX` batches of lookups are queued (both counted). A mapping is reported at most
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::messages::{ConnectionKey, NatLookup, NatResponse, NatResult};
use crate::base::clock::boot_ns;
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;
use crate::pipeline::aggregate::{Change, ChangeKind, Flow, NatMapping, Phase};
use crate::pipeline::capture::{Conntrack, ConntrackError, Tuple, tracked_connections};
use crate::privsep::WorkerClient;

/// Maximum number of remembered connections.
const CONNECTIONS_MAX: usize = 65_536;
/// Maximum number of queued batches, and of queued responses; a batch is that of one iteration.
const BATCHES_MAX: usize = 256;
/// Time after the last sign of connection tracking for which every connection is looked up, ns.
const TRACKING_NS: u64 = 60_000_000_000;
/// Interval of samples otherwise: the connections of one iteration are looked up. A namespace that begins to
/// track is detected, and a host without connection tracking has nearly no overhead.
const SAMPLE_INTERVAL_NS: u64 = 200_000_000;
/// Time limit of the last responses at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// State of a remembered connection.
#[derive(Debug)]
enum LookupState {
    /// No response yet; the connection as it was first reported, and whether it is closed.
    Pending { flow: Box<Flow>, netns: u32, is_closed: bool },
    /// The mapping; `None` if the connection has none.
    Resolved(Option<NatMapping>),
}

/// Table of lookups, and the thread that waits for the worker.
#[derive(Debug)]
pub(crate) struct NatTracker {
    lookups: Option<SyncSender<Vec<NatLookup>>>,
    results: Receiver<Vec<NatResult>>,
    /// The thread, until it is started.
    thread: Option<LookupThread>,
    /// Time of the last sign that a namespace tracks connections, ns since boot; 0 for none.
    tracked_boot_ns: Arc<AtomicU64>,
    next_sample_boot_ns: u64,
    connections: Table<ConnectionKey, LookupState>,
    /// Number of batches without a response.
    pending_batches: usize,
    stats: Arc<Stats>,
}

/// Why NAT mappings are unavailable at start; `None` if they are available.
pub(crate) fn unavailable_reason() -> Option<String> {
    match tracked_connections() {
        Ok(0) => Some("no connection is tracked here now; checked again with each".to_owned()),
        Ok(_) => {
            let checked = Conntrack::open().and_then(|mut conntrack| conntrack.check());
            checked.err().map(|error| error.to_string())
        }
        Err(error @ ConntrackError::Absent) => {
            Some(format!("{error}; checked again with each connection"))
        }
        Err(error) => Some(error.to_string()),
    }
}

impl NatTracker {
    /// Number of remembered connections, and the maximum.
    pub(crate) fn occupancy(&self) -> (usize, usize) {
        (self.connections.len(), self.connections.cap().get())
    }

    /// A tracker whose lookups wait until [`Self::begin`].
    pub(crate) fn new(worker: Arc<WorkerClient>, stats: &Arc<Stats>) -> Self {
        let (lookups, lookups_in) = sync_channel(BATCHES_MAX);
        let (results_out, results) = sync_channel(BATCHES_MAX);
        let tracked_boot_ns = Arc::new(AtomicU64::new(0));
        let thread = LookupThread {
            lookups: lookups_in,
            results: results_out,
            worker,
            tracked_boot_ns: Arc::clone(&tracked_boot_ns),
            stats: Arc::clone(stats),
        };
        Self {
            lookups: Some(lookups),
            results,
            thread: Some(thread),
            tracked_boot_ns,
            next_sample_boot_ns: 0,
            connections: collections::table(CONNECTIONS_MAX),
            pending_batches: 0,
            stats: Arc::clone(stats),
        }
    }

    /// Starts the thread that waits for the worker.
    pub(crate) fn begin(&mut self) -> std::io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let builder = std::thread::Builder::new().name("nat".to_owned());
        builder.spawn(move || thread.run()).map(drop)
    }

    /// Adds known mappings to `changes` from `first` on, looks up new connections, and appends the changes of
    /// received responses.
    pub(crate) fn observe(&mut self, changes: &mut Vec<Change>, first: usize, now_boot_ns: u64) {
        let sample = now_boot_ns >= self.next_sample_boot_ns;
        let tracked = self.tracked_boot_ns.load(Ordering::Acquire);
        let tracking = tracked != 0 && now_boot_ns < tracked.saturating_add(TRACKING_NS);
        if changes.len() > first && (tracking || sample) {
            self.next_sample_boot_ns = now_boot_ns.saturating_add(SAMPLE_INTERVAL_NS);
            let mut batch = Vec::new();
            for change in changes.iter_mut().skip(first) {
                batch.extend(self.lookup(change));
            }
            self.send(batch);
        }
        while let Ok(results) = self.results.try_recv() {
            self.apply(results, changes);
        }
    }

    /// Waits for pending responses, at shutdown.
    pub(crate) fn finish(&mut self, changes: &mut Vec<Change>) {
        self.lookups = None;
        while self.pending_batches > 0 {
            let Ok(results) = self.results.recv_timeout(SHUTDOWN_TIMEOUT) else { return };
            self.apply(results, changes);
        }
    }

    /// The lookup of a connection, if `change` is its first with both addresses and ports.
    fn lookup(&mut self, change: &mut Change) -> Option<NatLookup> {
        let key = (change.flow.protocol, change.number);
        let is_closing = matches!(change.kind, ChangeKind::Closed | ChangeKind::Failed);
        match self.connections.get_mut(&key) {
            Some(LookupState::Resolved(mapping)) => {
                change.flow.translated = change.flow.translated.or(*mapping);
                if is_closing {
                    self.connections.pop(&key);
                }
                return None;
            }
            Some(LookupState::Pending { is_closed, .. }) => {
                *is_closed = is_closing;
                return None;
            }
            None if change.flow.translated.is_some() => return None,
            None => {}
        }
        let flow = &change.flow;
        let tuple = Tuple {
            protocol: flow.protocol,
            source: (flow.local, flow.local_port?).into(),
            destination: (flow.remote, flow.remote_port?).into(),
        };
        let lookup = NatLookup {
            key,
            netns: change.netns,
            pids: [flow.process.pid, flow.process.parent_pid],
            tuple,
        };
        let flow = Box::new(Flow { bytes_sent: 0, bytes_received: 0, ..flow.clone() });
        let state = LookupState::Pending { flow, netns: change.netns, is_closed: is_closing };
        if let Some((evicted, _)) = self.connections.push(key, state)
            && evicted != key
        {
            self.stats.nat_lookups_evicted.increment();
        }
        Some(lookup)
    }

    fn send(&mut self, batch: Vec<NatLookup>) {
        if batch.is_empty() {
            return;
        }
        let Some(lookups) = &self.lookups else { return };
        match lookups.try_send(batch) {
            Ok(()) => self.pending_batches += 1,
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                self.stats.nat_lookups_dropped_queue_full.add(batch.len() as u64);
                for lookup in batch {
                    self.connections.pop(&lookup.key);
                }
            }
        }
    }

    fn apply(&mut self, results: Vec<NatResult>, changes: &mut Vec<Change>) {
        self.pending_batches = self.pending_batches.saturating_sub(1);
        for (key, mapping) in results {
            let Some(LookupState::Pending { flow, netns, is_closed }) = self.connections.pop(&key)
            else {
                continue;
            };
            if !is_closed {
                self.connections.push(key, LookupState::Resolved(mapping));
            }
            if mapping.is_some() {
                self.stats.nat_mappings_found.increment();
                let flow = Flow { phase: Phase::Translated, translated: mapping, ..*flow };
                changes.push(Change::new(ChangeKind::Translated, flow, key.1, netns));
            }
        }
    }
}

/// The thread that waits for the worker.
#[derive(Debug)]
struct LookupThread {
    lookups: Receiver<Vec<NatLookup>>,
    results: SyncSender<Vec<NatResult>>,
    worker: Arc<WorkerClient>,
    tracked_boot_ns: Arc<AtomicU64>,
    stats: Arc<Stats>,
}

impl LookupThread {
    fn run(self) {
        while let Ok(batch) = self.lookups.recv() {
            let results = match self.worker.request::<_, NatResponse>(&batch) {
                Ok(NatResponse { results, is_tracking, counters }) => {
                    self.stats.add_all(&counters);
                    if is_tracking {
                        self.tracked_boot_ns.store(boot_ns(), Ordering::Release);
                    }
                    results
                }
                Err(error) => {
                    tracing::debug!(%error, "worker nat");
                    self.stats.nat_lookups_failed.add(batch.len() as u64);
                    batch.into_iter().map(|lookup| (lookup.key, None)).collect()
                }
            };
            if self.results.send(results).is_err() {
                return;
            }
        }
    }
}
