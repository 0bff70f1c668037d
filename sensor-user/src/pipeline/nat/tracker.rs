//! `NatTracker`: looks up the NAT mapping of each connection.
//!
//! A TCP connection is reported as opened at once, by the ends of its socket. A thread has the worker
//! `nat` query the connection tracking of the socket's network namespace, and then that of the agent's
//! (where the traffic of containers is translated). In a namespace that tracks connections, further
//! changes wait for the response, so that sums have the mapping from the first byte on. A UDP flow waits
//! as a whole, because its packets show the translated ends: see [`super::udp_flow`]. While a namespace is
//! checked for the first time, all its further changes wait in their order; in one that tracks nothing, none
//! waits.
//!
//! Invariants. At most `CONNECTIONS_MAX` connections are remembered, the least recently used is evicted
//! first; at most `BATCHES_MAX` batches of lookups are queued; some `HELD_MAX` changes wait, none longer than
//! `HOLD_NS` (all counted). No change is lost: what cannot wait is reported without a mapping, and if
//! the response comes later, the mapping as a separate change. A mapping is reported at most once.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::connections::{HELD_MAX, HOLD_NS, NatConnections};
use super::lookup_thread::{FinishedBatch, LookupThread};
use super::messages::{ConnectionKey, NatLookup, NatResponse, Translation};
use super::schedule::{LookupSchedule, Tracking};
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

/// Changes of one namespace that wait for its check.
#[derive(Debug)]
struct NamespaceQueue {
    deadline_boot_ns: u64,
    changes: Vec<Change>,
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
    /// Changes of namespaces that are checked for the first time, in their order.
    queues: FastMap<u32, NamespaceQueue>,
    /// Number of changes in `queues`.
    queued: usize,
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
            queues: FastMap::default(),
            queued: 0,
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
            ("nat_held", (self.connections.held() + self.queued, HELD_MAX)),
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
            self.accept(change, changes, now_boot_ns);
        }
        self.incoming = incoming;
        self.connections.release_overdue(changes, now_boot_ns);
        self.release_queues(changes, now_boot_ns);
        let due = self.schedule.take_due(now_boot_ns);
        self.send(due, changes);
    }

    /// Waits for pending responses, at shutdown, and reports what waits.
    pub(crate) fn finish(&mut self, changes: &mut Vec<Change>) {
        self.connections.release_overdue(changes, u64::MAX);
        self.release_queues(changes, u64::MAX);
        let rest = self.schedule.take_all();
        self.send(rest, changes);
        self.lookups = None;
        while self.pending_batches > 0 {
            let Ok((batch, response)) = self.finished.recv_timeout(SHUTDOWN_TIMEOUT) else { break };
            self.apply(batch, response, changes, u64::MAX);
        }
        self.connections.release_overdue(changes, u64::MAX);
    }

    /// Takes a change in the order of its namespace.
    fn accept(&mut self, change: Change, changes: &mut Vec<Change>, now_boot_ns: u64) {
        let netns = change.netns;
        if let Some(queue) = self.queues.get_mut(&netns) {
            queue.changes.push(change);
            self.queued += 1;
            return;
        }
        let tracking = self.schedule.tracking_of(netns, now_boot_ns);
        let is_new = self.route(change, tracking, changes, now_boot_ns);
        if is_new && tracking == Tracking::Unknown {
            let deadline_boot_ns = now_boot_ns.saturating_add(HOLD_NS);
            let queue = NamespaceQueue { deadline_boot_ns, changes: Vec::new() };
            self.queues.insert(netns, queue);
        }
    }

    /// Passes a change on, or holds it, and schedules its lookup. True if there is one.
    fn route(
        &mut self,
        change: Change,
        tracking: Tracking,
        changes: &mut Vec<Change>,
        now_boot_ns: u64,
    ) -> bool {
        let lookup = self.connections.route(change, tracking, changes, now_boot_ns);
        let Some(lookup) = lookup else { return false };
        let key = lookup.key;
        let is_scheduled = self.schedule.add(lookup, now_boot_ns);
        if !is_scheduled {
            self.stats.nat_lookups_dropped_queue_full.increment();
            self.connections.resolve(key, None, changes);
            self.connections.release_resolved(changes);
        }
        is_scheduled
    }

    /// Releases the changes of a namespace that has been checked.
    fn release_queue(&mut self, netns: u32, changes: &mut Vec<Change>, now_boot_ns: u64) {
        for change in self.take_queue(netns) {
            self.accept(change, changes, now_boot_ns);
        }
    }

    /// Releases the queues that have waited too long, or all if they are too long.
    fn release_queues(&mut self, changes: &mut Vec<Change>, now_boot_ns: u64) {
        let is_full = self.queued > HELD_MAX;
        let is_over = |queue: &NamespaceQueue| queue.deadline_boot_ns <= now_boot_ns || is_full;
        let over = self.queues.iter().filter(|(_, queue)| is_over(queue));
        let over: Vec<u32> = over.map(|(netns, _)| *netns).collect();
        for netns in over {
            for change in self.take_queue(netns) {
                self.route(change, Tracking::Idle, changes, now_boot_ns);
            }
        }
    }

    /// Removes the queue of a namespace, and returns its changes.
    fn take_queue(&mut self, netns: u32) -> Vec<Change> {
        let changes = self.queues.remove(&netns).map(|queue| queue.changes).unwrap_or_default();
        self.queued = self.queued.saturating_sub(changes.len());
        changes
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
        let failed = || {
            let namespaces = batch.iter().map(|lookup| (lookup.netns, false)).collect();
            NatResponse { namespaces, ..NatResponse::default() }
        };
        let has_failed = response.is_none();
        let NatResponse { translations, missing, namespaces, is_own_tracking, .. } =
            response.unwrap_or_else(failed);
        if is_own_tracking {
            self.schedule.set_own_tracking(now_boot_ns);
        }
        let mut idle: FastSet<u32> = FastSet::default();
        for (netns, is_tracking) in &namespaces {
            self.schedule.set_tracking(*netns, *is_tracking, now_boot_ns);
            idle.extend((!is_tracking && !is_own_tracking).then_some(*netns));
        }
        let mut translations: FastMap<ConnectionKey, Translation> =
            translations.into_iter().collect();
        let missing: FastSet<ConnectionKey> = missing.into_iter().collect();
        for lookup in batch {
            let key = lookup.key;
            let translation = translations.remove(&key);
            let is_idle = idle.contains(&lookup.netns);
            let is_missing = translation.is_none() && (missing.contains(&key) || is_idle);
            let is_repeated =
                is_missing && !lookup.is_last && !has_failed && self.lookups.is_some();
            if is_repeated && self.schedule.retry(lookup, now_boot_ns) {
                if is_idle {
                    self.connections.release(key, changes);
                }
                continue;
            }
            self.connections.resolve(key, translation.as_ref(), changes);
        }
        self.connections.release_resolved(changes);
        for (netns, _) in namespaces {
            self.release_queue(netns, changes, now_boot_ns);
        }
    }
}
