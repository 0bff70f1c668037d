//! `Outbox`: the end of delivery that the pipeline holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::sink_status::{SinkReport, SinkState};
use crate::base::counters::{Counter, Stats};
use crate::base::log_throttle::LogThrottle;
use crate::deliver::item::Item;
use crate::deliver::spool::{Commit, Spool, SpoolStatus};
use crate::pipeline::dedup::{Alert, DedupState};
use crate::schema::TableRow;
use crate::schema::agent_event::AgentEvent;

/// The waits of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// First wait before a batch is tried again; it doubles.
    pub retry_first: Duration,
    /// Longest such wait.
    pub retry_most: Duration,
}

impl Pace {
    /// 250 ms to 60 s before trying again.
    pub const USUAL: Self =
        Self { retry_first: Duration::from_millis(250), retry_most: Duration::from_mins(1) };
}

/// Where the pipeline puts alerts and rows. Cheap to clone; no call waits or fails: what the spool
/// or a sink's queue cannot take is counted and logged.
#[derive(Debug, Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Replaced as a whole when the configuration is.
    lanes: ArcSwap<Vec<Arc<Lane>>>,
    /// `None` where no sink takes alerts.
    spool: Option<Spool>,
    /// Number of the last commit.
    last: AtomicU64,
    stats: Arc<Stats>,
    stdout_closed: Arc<AtomicBool>,
}

/// The sending end of one sink.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) name: String,
    /// Rows and notices: which of them this sink takes, and the queue for both.
    pub(crate) takes_rows: bool,
    pub(crate) takes_notices: bool,
    pub(crate) rows: Option<mpsc::Sender<Item>>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) state: Arc<SinkState>,
    pub(crate) quiet: LogThrottle,
}

impl Outbox {
    pub(crate) fn new(
        lanes: Vec<Arc<Lane>>,
        spool: Option<Spool>,
        stats: Arc<Stats>,
        stdout_closed: Arc<AtomicBool>,
    ) -> Self {
        let (lanes, last) = (ArcSwap::from_pointee(lanes), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { lanes, spool, last, stats, stdout_closed }) }
    }

    /// The sending ends, in the order of the configuration.
    pub(crate) fn lanes(&self) -> Arc<Vec<Arc<Lane>>> {
        self.shared.lanes.load_full()
    }

    /// From here on rows and notices go there.
    pub(crate) fn set_lanes(&self, lanes: Vec<Arc<Lane>>) {
        self.shared.lanes.store(Arc::new(lanes));
    }

    /// Puts alerts into the spool, for every sink that takes alerts, and with them the state that
    /// goes to the disk as one with them.
    pub fn alerts(&self, alerts: Vec<Alert>, state: Option<DedupState>) {
        let Some(spool) = &self.shared.spool else { return };
        let alerts = alerts.into_iter().map(Arc::new).collect();
        let number = spool.put(Commit { alerts, state });
        self.shared.last.store(number, Ordering::Release);
    }

    /// Whether all alerts and states so far are written: they survive the end of the agent.
    pub fn is_written(&self) -> bool {
        let last = self.shared.last.load(Ordering::Acquire);
        self.shared.spool.as_ref().is_none_or(|spool| spool.last_written() >= last)
    }

    /// Whether the next state is to be a snapshot.
    pub fn wants_snapshot(&self) -> bool {
        self.shared.spool.as_ref().is_some_and(Spool::wants_snapshot)
    }

    /// How the spool fares; `None` where no sink takes alerts.
    pub fn spool_status(&self) -> Option<SpoolStatus> {
        self.shared.spool.as_ref().map(Spool::status)
    }

    /// How each sink fares.
    pub fn sinks(&self) -> Vec<SinkReport> {
        let spool = self.spool_status();
        let waiting = |name: &str| {
            let all = spool.iter().flat_map(|spool| &spool.sinks);
            all.filter(|sink| sink.name == name).map(|sink| sink.waiting).sum()
        };
        let report = |lane: &Lane| SinkReport {
            alerts_waiting: waiting(&lane.name),
            rows_waiting: lane.waiting.count(),
            ..lane.state.report(&lane.name)
        };
        self.lanes().iter().map(|lane| report(lane)).collect()
    }

    /// Hands rows to every sink that takes rows.
    pub fn rows(&self, rows: Vec<TableRow>) {
        let lanes = self.lanes();
        if !lanes.iter().any(|lane| lane.takes_rows) {
            return;
        }
        for row in rows {
            let row = Arc::new(row);
            for lane in lanes.iter().filter(|lane| lane.takes_rows) {
                lane.put(Item::Row(Arc::clone(&row)), &self.shared.stats);
            }
        }
    }

    /// Hands a notice to every sink that takes rows or health.
    pub fn notice(&self, notice: AgentEvent) {
        self.shared.stats.agent_events_emitted.increment();
        let notice = Arc::new(notice);
        for lane in self.lanes().iter().filter(|lane| lane.takes_notices) {
            lane.put(Item::AgentEvent(Arc::clone(&notice)), &self.shared.stats);
        }
    }

    /// Whether the reader of standard output has gone: `netsensor run | head -1` is done then.
    pub fn stdout_closed(&self) -> bool {
        self.shared.stdout_closed.load(Ordering::Acquire)
    }
}

impl Lane {
    fn put(&self, item: Item, stats: &Stats) {
        let Some(queue) = &self.rows else { return };
        self.waiting.0.fetch_add(1, Ordering::AcqRel);
        let Err(refused) = queue.try_send(item) else { return };
        self.waiting.settle(1);
        self.refused(&refused, &stats.rows_dropped_queue_full, &stats.rows_dropped_sink_closed);
    }

    fn refused<T>(&self, refused: &TrySendError<T>, full: &Counter, closed: &Counter) {
        match refused {
            TrySendError::Full(_) => {
                full.increment();
                if let Some(count) = self.quiet.admit(1, Instant::now()) {
                    tracing::error!(sink = self.name, count, "queue full; items dropped");
                }
            }
            TrySendError::Closed(_) => closed.increment(),
        }
    }
}

/// Rows and notices that a sink's queue accepted and that are not yet delivered, discarded or
/// dropped.
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicU64);

impl Waiting {
    pub(crate) fn settle(&self, items: u64) {
        self.0.fetch_sub(items, Ordering::AcqRel);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What a sink had not delivered when the time was up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The sink's name.
    pub sink: String,
    /// Alerts not delivered: they are in the spool, for the next start.
    pub alerts: u64,
    /// Rows not delivered: they are dropped.
    pub rows: u64,
}
