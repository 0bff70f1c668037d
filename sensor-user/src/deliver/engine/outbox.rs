//! `Outbox`: the sending end of delivery, for the pipeline. There is no backpressure: when the queue of a
//! slow sink is full, further rows are dropped and counted; alerts wait in the spool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::sink_health::{SinkHealth, SinkReport};
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::item::Item;
use crate::deliver::spool::{Commit, Spool, SpoolStatus};
use crate::pipeline::dedup::{Alert, DedupState};
use crate::schema::TableRow;
use crate::schema::agent_event::AgentEvent;

/// Queue for alerts and rows, cheap to clone. No call waits or fails: items that the spool or the
/// queue of a sink cannot accept are counted and logged.
#[derive(Debug, Clone)]
pub struct Outbox {
    shared: Arc<OutboxShared>,
}

#[derive(Debug)]
struct OutboxShared {
    /// Replaced at a reload.
    channels: ArcSwap<Vec<Arc<SinkChannel>>>,
    /// `None` if no sink receives alerts.
    spool: Option<Spool>,
    /// Number of the last commit.
    last_commit: AtomicU64,
    stats: Arc<Stats>,
    stdout_closed: Arc<AtomicBool>,
}

/// Sending end of the row queue of one sink.
#[derive(Debug)]
pub(super) struct SinkChannel {
    pub(super) name: String,
    pub(super) takes_rows: bool,
    pub(super) takes_agent_events: bool,
    pub(super) rows: Option<mpsc::Sender<Item>>,
    pub(super) health: Arc<SinkHealth>,
    pub(super) log_throttle: LogThrottle,
}

impl Outbox {
    pub(super) fn new(
        spool: Option<Spool>,
        stats: Arc<Stats>,
        stdout_closed: Arc<AtomicBool>,
    ) -> Self {
        let (channels, last_commit) = (ArcSwap::default(), AtomicU64::new(0));
        Self {
            shared: Arc::new(OutboxShared { channels, spool, last_commit, stats, stdout_closed }),
        }
    }

    /// Replaces the channels; they are in the order of the configuration.
    pub(super) fn set_channels(&self, channels: Vec<Arc<SinkChannel>>) {
        self.shared.channels.store(Arc::new(channels));
    }

    /// Puts alerts into the spool, for every sink that receives alerts, together with the state of
    /// dedup that belongs to them.
    pub fn alerts(&self, alerts: Vec<Alert>, state: Option<DedupState>) {
        let Some(spool) = &self.shared.spool else { return };
        let alerts = alerts.into_iter().map(Arc::new).collect();
        let number = spool.put(Commit { alerts, state });
        self.shared.last_commit.store(number, Ordering::Release);
    }

    /// True if all alerts and states so far are written, so that they survive a kill of the agent.
    pub fn is_written(&self) -> bool {
        let last = self.shared.last_commit.load(Ordering::Acquire);
        self.shared.spool.as_ref().is_none_or(|spool| spool.last_written() >= last)
    }

    /// True if the next state should be a snapshot.
    pub fn wants_snapshot(&self) -> bool {
        self.shared.spool.as_ref().is_some_and(Spool::wants_snapshot)
    }

    /// Status of the spool; `None` if no sink receives alerts.
    pub fn spool_status(&self) -> Option<SpoolStatus> {
        self.shared.spool.as_ref().map(Spool::status)
    }

    /// Status of each sink.
    pub fn sinks(&self) -> Vec<SinkReport> {
        let spool = self.spool_status();
        let report = |channel: &Arc<SinkChannel>| {
            let cursors = spool.iter().flat_map(|spool| &spool.sinks);
            let own = cursors.filter(|cursor| cursor.name == channel.name);
            let alerts_waiting = own.map(|cursor| cursor.waiting).sum();
            SinkReport { alerts_waiting, ..channel.health.report() }
        };
        self.shared.channels.load().iter().map(report).collect()
    }

    /// Queues rows for every sink that receives rows.
    pub fn rows(&self, rows: Vec<TableRow>) {
        let channels = self.shared.channels.load();
        let receivers: Vec<_> = channels.iter().filter(|channel| channel.takes_rows).collect();
        if receivers.is_empty() {
            return;
        }
        for row in rows.into_iter().map(Arc::new) {
            for channel in &receivers {
                channel.send(Item::Row(Arc::clone(&row)), &self.shared.stats);
            }
        }
    }

    /// Queues an agent event for every sink that receives rows or health.
    pub fn agent_event(&self, event: AgentEvent) {
        self.shared.stats.agent_events_emitted.increment();
        let event = Arc::new(event);
        let channels = self.shared.channels.load();
        for channel in channels.iter().filter(|channel| channel.takes_agent_events) {
            channel.send(Item::AgentEvent(Arc::clone(&event)), &self.shared.stats);
        }
    }

    /// True if the reader of standard output has exited: `netsensor run | head -1` ends then.
    pub fn stdout_closed(&self) -> bool {
        self.shared.stdout_closed.load(Ordering::Acquire)
    }
}

impl SinkChannel {
    fn send(&self, item: Item, stats: &Stats) {
        let Some(rows) = &self.rows else { return };
        self.health.rows_added(1);
        let Err(error) = rows.try_send(item) else { return };
        self.health.rows_removed(1);
        match error {
            TrySendError::Closed(_) => stats.rows_dropped_sink_closed.increment(),
            TrySendError::Full(_) => {
                stats.rows_dropped_queue_full.increment();
                if let Some(count) = self.log_throttle.admit(1, Instant::now()) {
                    tracing::error!(sink = self.name, count, "queue full; items dropped");
                }
            }
        }
    }
}
