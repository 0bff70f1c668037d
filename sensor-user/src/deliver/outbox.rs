//! `Outbox`, the end that the pipeline holds, and `Deliverer`, which runs the sinks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::batch::Content;
use super::item::Item;
use super::sink::{Sink, Surroundings};
use super::{DeliverError, Quiet, SinkConfig};
use crate::aggregate::TableRow;
use crate::clock::Clock;
use crate::dedup::Alert;
use crate::notice::Notice;
use crate::stats::{Counter, Stats};

/// The waits of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long a row waits for others to fill its batch.
    pub row_wait: Duration,
    /// First wait before a batch is tried again; it doubles.
    pub retry_first: Duration,
    /// Longest such wait.
    pub retry_most: Duration,
}

impl Pace {
    /// 200 ms for rows; 250 ms to 60 s before trying again.
    pub const USUAL: Self = Self {
        row_wait: Duration::from_millis(200),
        retry_first: Duration::from_millis(250),
        retry_most: Duration::from_mins(1),
    };
}

/// Where the pipeline puts alerts and rows. Cheap to clone; no call waits or fails: what a sink's
/// queue cannot take is counted and logged.
#[derive(Debug, Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lanes: Vec<Lane>,
    stats: Arc<Stats>,
    stdout_closed: Arc<AtomicBool>,
}

/// The sending end of one sink.
#[derive(Debug)]
struct Lane {
    name: String,
    alerts: Option<mpsc::Sender<Arc<Alert>>>,
    /// Rows and notices: which of them this sink takes, and the queue for both.
    takes_rows: bool,
    takes_notices: bool,
    rows: Option<mpsc::Sender<Item>>,
    waiting: Arc<Waiting>,
    quiet: Quiet,
}

impl Outbox {
    /// Hands one alert to every sink that takes alerts.
    pub fn alerts(&self, alert: Alert) {
        let alert = Arc::new(alert);
        let stats = &self.shared.stats;
        for lane in &self.shared.lanes {
            let Some(queue) = &lane.alerts else { continue };
            lane.waiting.alerts.fetch_add(1, Ordering::AcqRel);
            let Err(refused) = queue.try_send(Arc::clone(&alert)) else { continue };
            lane.waiting.settle(Content::Alerts, 1);
            let full = &stats.alerts_dropped_queue_full;
            lane.refused(&refused, full, &stats.alerts_dropped_sink_closed);
        }
    }

    /// Hands rows to every sink that takes rows.
    pub fn rows(&self, rows: Vec<TableRow>) {
        if !self.shared.lanes.iter().any(|lane| lane.takes_rows) {
            return;
        }
        for row in rows {
            let row = Arc::new(row);
            for lane in self.shared.lanes.iter().filter(|lane| lane.takes_rows) {
                lane.put(Item::Row(Arc::clone(&row)), &self.shared.stats);
            }
        }
    }

    /// Hands a notice to every sink that takes rows or health.
    pub fn notice(&self, notice: Notice) {
        self.shared.stats.notices_made.increment();
        let notice = Arc::new(notice);
        for lane in self.shared.lanes.iter().filter(|lane| lane.takes_notices) {
            lane.put(Item::Notice(Arc::clone(&notice)), &self.shared.stats);
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
        self.waiting.rows.fetch_add(1, Ordering::AcqRel);
        let Err(refused) = queue.try_send(item) else { return };
        self.waiting.settle(Content::Rows, 1);
        self.refused(&refused, &stats.rows_dropped_queue_full, &stats.rows_dropped_sink_closed);
    }

    fn refused<T>(&self, refused: &TrySendError<T>, full: &Counter, closed: &Counter) {
        match refused {
            TrySendError::Full(_) => {
                full.increment();
                if let Some(count) = self.quiet.admit(1, Instant::now()) {
                    tracing::error!(count, "sink {}: queue full, items dropped", self.name);
                }
            }
            TrySendError::Closed(_) => closed.increment(),
        }
    }
}

/// Items that a sink's queues accepted and that are not yet delivered, discarded or dropped.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    alerts: AtomicU64,
    rows: AtomicU64,
}

impl Waiting {
    pub(super) fn settle(&self, content: Content, items: u64) {
        match content {
            Content::Alerts => self.alerts.fetch_sub(items, Ordering::AcqRel),
            Content::Rows => self.rows.fetch_sub(items, Ordering::AcqRel),
        };
    }

    /// Alerts and rows that wait.
    fn count(&self) -> (u64, u64) {
        (self.alerts.load(Ordering::Acquire), self.rows.load(Ordering::Acquire))
    }
}

/// What a sink had not delivered when the time was up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The sink's name.
    pub sink: String,
    /// Alerts not delivered.
    pub alerts: u64,
    /// Rows not delivered.
    pub rows: u64,
}

/// Runs the sinks: one task each.
#[derive(Debug)]
pub struct Deliverer {
    tasks: Vec<(String, JoinHandle<()>, Arc<Waiting>)>,
    closing: watch::Sender<bool>,
    stats: Arc<Stats>,
}

impl Deliverer {
    /// Starts a task for each of `sinks`; must be called on a tokio runtime.
    ///
    /// A write to standard output that nobody reads blocks a thread of the runtime's: end the
    /// runtime with `shutdown_timeout` or `shutdown_background`, not by dropping it.
    pub fn start(
        sinks: &[SinkConfig],
        pace: Pace,
        stats: &Arc<Stats>,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Outbox, Self), DeliverError> {
        let (closing, closing_seen) = watch::channel(false);
        let stdout_closed = Arc::new(AtomicBool::new(false));
        let mut lanes = Vec::new();
        let mut ready = Vec::new();
        for config in sinks {
            let waiting = Arc::<Waiting>::default();
            let (alerts, alerts_out) = mpsc::channel(config.queue.max(1));
            let (rows, rows_out) = mpsc::channel(config.queue.max(1));
            let with = Surroundings {
                pace,
                stats: Arc::clone(stats),
                clock: Arc::clone(clock),
                stdout_closed: Arc::clone(&stdout_closed),
                closing: closing_seen.clone(),
                waiting: Arc::clone(&waiting),
            };
            ready.push((Sink::new(config, alerts_out, rows_out, with)?, Arc::clone(&waiting)));
            lanes.push(Lane {
                name: config.name.clone(),
                alerts: config.alerts.then_some(alerts),
                takes_rows: config.rows,
                takes_notices: config.takes_notices(),
                rows: (config.rows || config.health).then_some(rows),
                waiting,
                quiet: Quiet::new(),
            });
        }
        let tasks = ready
            .into_iter()
            .zip(sinks)
            .map(|((sink, waiting), config)| {
                (config.name.clone(), tokio::spawn(sink.run()), waiting)
            })
            .collect();
        let shared = Shared { lanes, stats: Arc::clone(stats), stdout_closed };
        let deliverer = Self { tasks, closing, stats: Arc::clone(stats) };
        Ok((Outbox { shared: Arc::new(shared) }, deliverer))
    }

    /// Ends the sinks: what waits is still sent, for `limit` at most, then the rest is dropped,
    /// counted, logged and returned (empty: nothing was left). Items put into the outbox after
    /// this call are refused and counted.
    pub async fn drain(self, limit: Duration) -> Vec<Leftover> {
        self.closing.send_replace(true);
        let deadline = Instant::now() + limit;
        let mut left = Vec::new();
        for (name, mut task, waiting) in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
                // Until it has ended it may still settle items.
                let ended = task.await;
                tracing::debug!(cut = ended.is_err(), "sink {name}: ended");
            }
            let (alerts, rows) = waiting.count();
            self.stats.alerts_dropped_shutdown.add(alerts);
            self.stats.rows_dropped_shutdown.add(rows);
            if alerts + rows > 0 {
                tracing::error!(alerts, rows, "sink {name}: not delivered before the end");
                left.push(Leftover { sink: name, alerts, rows });
            }
        }
        left
    }
}
