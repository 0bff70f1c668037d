//! `NatTracker`: looks up the NAT mapping of each connection.
//!
//! A TCP connection is reported as opened at once, by the ends of its socket. A thread has the worker
//! `nat` query the connection tracking of the socket's network namespace, and then that of the agent's
//! (where the traffic of containers is translated). Its further changes wait for the response, so that
//! rows and sums have the mapping from the first byte on. A UDP flow waits as a whole, because its
//! packets show the translated ends: see [`super::udp_flow`].
//!
//! Invariants. At most `CONNECTIONS_MAX` connections are remembered, the least recently used is evicted
//! first; at most `BATCHES_MAX` batches of lookups are queued; at most `HELD_MAX` changes wait, none
//! longer than `HOLD_NS` (all counted). No change is lost: what cannot wait is reported without a
//! mapping, and if the response comes later, the mapping as a separate change. A mapping is reported at
//! most once.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::connections::NatConnections;
use super::lookup_thread::{FinishedBatch, LookupThread};
use super::messages::{ConnectionKey, NatLookup, NatResponse, Translation};
use super::schedule::LookupSchedule;
use crate::base::collections::{FastMap, FastSet};
use crate::base::counters::Stats;
use crate::pipeline::aggregate::Change;
use crate::pipeline::capture::{Conntrack, ConntrackError, tracked_connections};
use crate::privsep::WorkerClient;

/// Maximum number of queued batches, and of queued responses.
const BATCHES_MAX: usize = 256;
/// Maximum number of lookups per batch, so that a message to the worker has some 300 KB at most.
const BATCH_MAX: usize = 4096;
/// Time limit of the last responses at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// State of the lookups, for the status report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NatState {
    /// Network namespaces whose connections were looked up.
    pub(crate) namespaces: usize,
    /// Those that track connections.
    pub(crate) tracking: usize,
    /// Connections whose lookup has no response yet.
    pub(crate) pending: usize,
}

/// Table of lookups, and the thread that waits for the worker.
#[derive(Debug)]
pub(crate) struct NatTracker {
    lookups: Option<SyncSender<Vec<NatLookup>>>,
    finished: Receiver<FinishedBatch>,
    /// The thread, until it is started.
    thread: Option<LookupThread>,
    schedule: LookupSchedule,
    connections: NatConnections,
    /// Number of batches without a response.
    pending_batches: usize,
    /// Buffer, reused to avoid allocations.
    incoming: Vec<Change>,
    stats: Arc<Stats>,
}

/// Why NAT mappings are unavailable at start; `None` if they are available.
pub(crate) fn unavailable_reason() -> Option<String> {
    match tracked_connections() {
        Ok(0) => Some(
            "no connection is tracked here now; each network namespace is checked with its connections"
                .to_owned(),
        ),
        Ok(_) => {
            let checked = Conntrack::open().and_then(|mut conntrack| conntrack.check());
            checked.err().map(|error| error.to_string())
        }
        Err(error @ ConntrackError::Absent) => {
            Some(format!("{error}; each network namespace is checked with its connections"))
        }
        Err(error) => Some(error.to_string()),
    }
}

impl NatTracker {
    /// A tracker whose lookups wait until [`Self::begin`].
    pub(crate) fn new(worker: Arc<WorkerClient>, stats: &Arc<Stats>) -> Self {
        let (lookups, lookups_in) = sync_channel(BATCHES_MAX);
        let (finished_out, finished) = sync_channel(BATCHES_MAX);
        let thread = LookupThread {
            lookups: lookups_in,
            finished: finished_out,
            worker,
            stats: Arc::clone(stats),
        };
        Self { thread: Some(thread), ..Self::with_channels(lookups, finished, stats) }
    }

    pub(super) fn with_channels(
        lookups: SyncSender<Vec<NatLookup>>,
        finished: Receiver<FinishedBatch>,
        stats: &Arc<Stats>,
    ) -> Self {
        Self {
            lookups: Some(lookups),
            finished,
            thread: None,
            schedule: LookupSchedule::new(Arc::clone(stats)),
            connections: NatConnections::new(Arc::clone(stats)),
            pending_batches: 0,
            incoming: Vec::new(),
            stats: Arc::clone(stats),
        }
    }

    /// Starts the thread that waits for the worker.
    pub(crate) fn begin(&mut self) -> std::io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let builder = std::thread::Builder::new().name("nat".to_owned());
        builder.spawn(move || thread.run()).map(drop)
    }

    /// Name of each table, its number of entries, and the maximum.
    pub(crate) fn tables(&self) -> [(&'static str, (usize, usize)); 3] {
        [
            ("nat_lookups", self.connections.occupancy()),
            ("nat_namespaces", self.schedule.occupancy()),
            ("nat_held", self.connections.held()),
        ]
    }

    /// State of the lookups.
    pub(crate) fn state(&self, now_boot_ns: u64) -> NatState {
        NatState {
            namespaces: self.schedule.occupancy().0,
            tracking: self.schedule.tracking(now_boot_ns),
            pending: self.connections.pending(),
        }
    }

    /// True if a response is pending, so that the pipeline must not sleep for long.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.connections.pending() > 0
    }

    /// Replaces `changes` from `first` on: holds those that need a response, adds known mappings to the
    /// others, and appends those whose response has arrived. Looks up new connections.
    pub(crate) fn observe(&mut self, changes: &mut Vec<Change>, first: usize, now_boot_ns: u64) {
        let mut incoming = std::mem::take(&mut self.incoming);
        incoming.extend(changes.drain(first..));
        self.receive(changes, now_boot_ns);
        for change in incoming.drain(..) {
            let Some(lookup) = self.connections.route(change, changes, now_boot_ns) else {
                continue;
            };
            let key = lookup.key;
            if !self.schedule.add(lookup, now_boot_ns) {
                self.stats.nat_lookups_dropped_queue_full.increment();
                self.connections.resolve(key, None, changes);
                self.connections.release_resolved(changes);
            }
        }
        self.incoming = incoming;
        self.connections.release_overdue(changes, now_boot_ns);
        let due = self.schedule.take_due(now_boot_ns);
        self.send(due, changes);
    }

    /// Waits for pending responses, at shutdown, and reports what waits.
    pub(crate) fn finish(&mut self, changes: &mut Vec<Change>) {
        let rest = self.schedule.take_all();
        self.send(rest, changes);
        self.lookups = None;
        while self.pending_batches > 0 {
            let Ok((batch, response)) = self.finished.recv_timeout(SHUTDOWN_TIMEOUT) else { break };
            self.apply(batch, response, changes, u64::MAX);
        }
        self.connections.release_overdue(changes, u64::MAX);
    }

    fn send(&mut self, mut due: Vec<NatLookup>, changes: &mut Vec<Change>) {
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(BATCH_MAX));
            let batch = std::mem::replace(&mut due, rest);
            let sent = match &self.lookups {
                Some(lookups) => lookups.try_send(batch),
                None => Err(TrySendError::Disconnected(batch)),
            };
            match sent {
                Ok(()) => self.pending_batches += 1,
                Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                    self.stats.nat_lookups_dropped_queue_full.add(batch.len() as u64);
                    for lookup in batch {
                        self.connections.resolve(lookup.key, None, changes);
                    }
                    self.connections.release_resolved(changes);
                }
            }
        }
    }

    /// Applies the responses that have arrived.
    fn receive(&mut self, changes: &mut Vec<Change>, now_boot_ns: u64) {
        while let Ok((batch, response)) = self.finished.try_recv() {
            self.apply(batch, response, changes, now_boot_ns);
        }
    }

    fn apply(
        &mut self,
        batch: Vec<NatLookup>,
        response: Option<NatResponse>,
        changes: &mut Vec<Change>,
        now_boot_ns: u64,
    ) {
        self.pending_batches = self.pending_batches.saturating_sub(1);
        let NatResponse { translations, missing, namespaces, is_own_tracking, .. } =
            response.unwrap_or_default();
        if is_own_tracking {
            self.schedule.set_own_tracking(now_boot_ns);
        }
        let mut idle: FastSet<u32> = FastSet::default();
        for (netns, is_tracking) in namespaces {
            self.schedule.set_tracking(netns, is_tracking, now_boot_ns);
            idle.extend((!is_tracking && !is_own_tracking).then_some(netns));
        }
        let mut translations: FastMap<ConnectionKey, Translation> =
            translations.into_iter().collect();
        let missing: FastSet<ConnectionKey> = missing.into_iter().collect();
        for lookup in batch {
            let key = lookup.key;
            let translation = translations.remove(&key);
            let is_missing = missing.contains(&key) || idle.contains(&lookup.netns);
            let is_repeated = translation.is_none() && is_missing && !lookup.is_last;
            if is_repeated && self.lookups.is_some() && self.schedule.retry(lookup, now_boot_ns) {
                continue;
            }
            self.connections.resolve(key, translation.as_ref(), changes);
        }
        self.connections.release_resolved(changes);
    }
}
