//! One sink's task: takes batches from its two queues and sends them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::batch::{Batch, Content, Entry};
use super::format::Format;
use super::item::Item;
use super::outbox::{Pace, Waiting};
use super::parquet::Settled;
use super::transport::Transport;
use super::{DeliverError, Quiet, SinkConfig, SinkKind, Verdict, chain, readable};
use crate::clock::Clock;
use crate::dedup::Alert;
use crate::stats::Stats;

/// What a sink's task needs of the rest.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) pace: Pace,
    pub(super) stats: Arc<Stats>,
    pub(super) clock: Arc<dyn Clock>,
    /// Set when standard output has no reader any more.
    pub(super) stdout_closed: Arc<AtomicBool>,
    /// Turns true when no more items come.
    pub(super) closing: watch::Receiver<bool>,
    /// Items accepted and not yet settled.
    pub(super) waiting: Arc<Waiting>,
}

/// A sink and its task's state.
#[derive(Debug)]
pub(super) struct Sink {
    name: String,
    readable: bool,
    format: Format,
    batch: usize,
    transport: Transport,
    queues: Queues,
    backoff: Backoff,
    quiet: Quiet,
    with: Surroundings,
}

impl Sink {
    pub(super) fn new(
        config: &SinkConfig,
        alerts: mpsc::Receiver<Arc<Alert>>,
        rows: mpsc::Receiver<Item>,
        with: Surroundings,
    ) -> Result<Self, DeliverError> {
        Ok(Self {
            name: config.name.clone(),
            readable: config.kind == SinkKind::Readable,
            format: config.format,
            batch: config.batch.max(1),
            transport: Transport::new(&config.kind, &with.stats)?,
            queues: Queues::new(alerts, rows),
            backoff: Backoff::new(with.pace.retry_first, with.pace.retry_most),
            quiet: Quiet::new(),
            with,
        })
    }

    /// Sends until both queues are closed and empty, or nobody reads the sink any more.
    pub(super) async fn run(mut self) {
        loop {
            let due = self.due().await;
            let batch = tokio::select! {
                batch = self.next() => batch,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.write_due(false).await;
                    continue;
                }
            };
            let Some(batch) = batch else { break };
            let sent = self.transport.send(&batch, &*self.with.clock).await;
            let gathers = self.settle_written().await;
            let Err(error) = sent else {
                self.backoff.reset();
                if !gathers {
                    let stats = &self.with.stats;
                    self.settle(&batch, &stats.alerts_delivered, &stats.rows_delivered);
                }
                continue;
            };
            let verdict = error.verdict();
            if !matches!(verdict, Verdict::Retry { .. }) {
                self.backoff.reset();
            }
            match verdict {
                Verdict::Retry { after } => self.retry(batch, &error, after).await,
                // One by one would be a flood where every row is refused; alerts are few.
                Verdict::Isolate if batch.content == Content::Rows => self.discard(&batch, &error),
                Verdict::Split | Verdict::Isolate => match batch.split() {
                    Ok((first, second)) => {
                        self.queues.put_back(second);
                        self.queues.put_back(first);
                    }
                    Err(single) => self.discard(&single, &error),
                },
                Verdict::Discard => self.discard(&batch, &error),
                Verdict::Closed => {
                    self.queues.put_back(batch);
                    return self.close(&error);
                }
            }
        }
        // Until it is done, or the time to end is up.
        while !self.write_due(true).await {
            tokio::time::sleep(self.backoff.next(None)).await;
        }
    }

    /// Writes what a transport has gathered and is due; at the end, all. Whether it is written.
    async fn write_due(&mut self, at_the_end: bool) -> bool {
        let Transport::Parquet(parquet) = &self.transport else { return true };
        let written = parquet.lock().await.write_due(&*self.with.clock, at_the_end).await;
        self.settle_written().await;
        let Err(error) = written else { return true };
        self.with.stats.deliveries_retried.increment();
        if let Some(count) = self.quiet.admit(1, Instant::now()) {
            tracing::warn!(count, "sink {}: {}", self.name, chain(&error));
        }
        false
    }

    /// Settles the rows that a transport which gathers them has written meanwhile; whether it is
    /// such a one.
    async fn settle_written(&self) -> bool {
        let Transport::Parquet(parquet) = &self.transport else { return false };
        let Settled { delivered, rejected } = parquet.lock().await.take_settled();
        self.with.stats.rows_delivered.add(delivered);
        self.with.stats.rows_discarded_rejected.add(rejected);
        self.with.waiting.settle(Content::Rows, delivered.saturating_add(rejected));
        true
    }

    /// Alerts before rows, and what is tried again before what is new.
    async fn next(&mut self) -> Option<Batch> {
        let wait = self.with.pace.row_wait;
        let taken = self.queues.next(self.batch, wait, &mut self.with.closing).await?;
        let (content, items): (_, Vec<Item>) = match taken {
            Taken::Again(batch) => return Some(batch),
            Taken::Alerts(alerts) => {
                (Content::Alerts, alerts.into_iter().map(Item::Alert).collect())
            }
            Taken::Rows(rows) => (Content::Rows, rows),
        };
        let entries = items.into_iter().map(|item| self.entry(item)).collect();
        Some(Batch::new(content, entries))
    }

    fn entry(&self, item: Item) -> Entry {
        let line = match &item {
            Item::Alert(alert) if self.readable => readable(alert),
            item => self.format.line(item),
        };
        Entry::new(item, 0, line)
    }

    /// When the transport has something to do of its own.
    async fn due(&self) -> Option<Instant> {
        match &self.transport {
            Transport::Parquet(parquet) => parquet.lock().await.due(),
            _ => None,
        }
    }

    async fn retry(
        &mut self,
        batch: Batch,
        error: &DeliverError,
        after: Option<std::time::Duration>,
    ) {
        self.with.stats.deliveries_retried.increment();
        let wait = self.backoff.next(after);
        if let Some(count) = self.quiet.admit(1, Instant::now()) {
            let items = batch.len();
            let next = humantime::format_duration(std::time::Duration::from_millis(
                u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            ));
            tracing::warn!(count, items, retry_in = %next, "sink {}: {}", self.name, chain(error));
        }
        self.queues.put_back(batch);
        // The end of the agent cuts one wait short: what can be delivered is tried once more.
        let closing_now = *self.with.closing.borrow();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = self.with.closing.wait_for(|closing| *closing), if !closing_now => {}
        }
    }

    fn discard(&self, batch: &Batch, error: &DeliverError) {
        let stats = &self.with.stats;
        self.settle(batch, &stats.alerts_discarded_rejected, &stats.rows_discarded_rejected);
        if let Some(count) = self.quiet.admit(batch.len() as u64, Instant::now()) {
            tracing::error!(count, "sink {}: discarded: {}", self.name, chain(error));
        }
    }

    fn settle(&self, batch: &Batch, alerts: &crate::stats::Counter, rows: &crate::stats::Counter) {
        let items = batch.len() as u64;
        match batch.content {
            Content::Alerts => alerts.add(items),
            Content::Rows => rows.add(items),
        }
        self.with.waiting.settle(batch.content, items);
    }

    /// Nobody reads any more: what waits is dropped, and the queues refuse what comes.
    fn close(mut self, error: &DeliverError) {
        if matches!(self.transport, Transport::Stdout(_)) {
            self.with.stdout_closed.store(true, Ordering::Release);
        }
        let (alerts, rows) = self.queues.close();
        self.with.stats.alerts_dropped_sink_closed.add(alerts);
        self.with.stats.rows_dropped_sink_closed.add(rows);
        self.with.waiting.settle(Content::Alerts, alerts);
        self.with.waiting.settle(Content::Rows, rows);
        tracing::info!(alerts, rows, "sink {}: closed: {}", self.name, chain(error));
    }
}

/// What `Queues::next` found.
#[derive(Debug)]
enum Taken {
    Again(Batch),
    Alerts(Vec<Arc<Alert>>),
    Rows(Vec<Item>),
}

/// The two queues, the rows gathered for the next batch, and the batches to send again.
#[derive(Debug)]
struct Queues {
    alerts: mpsc::Receiver<Arc<Alert>>,
    rows: mpsc::Receiver<Item>,
    /// At most one batch.
    gathered: Vec<Item>,
    /// When `gathered` goes out even if it is not full; set while it is not empty.
    due: Option<Instant>,
    /// Batches of alerts to send again; together no more than one batch.
    alerts_again: VecDeque<Batch>,
    /// Batches of rows to send again; together no more than one batch.
    rows_again: VecDeque<Batch>,
    /// No more items come.
    closed: bool,
}

impl Queues {
    const fn new(alerts: mpsc::Receiver<Arc<Alert>>, rows: mpsc::Receiver<Item>) -> Self {
        Self {
            alerts,
            rows,
            gathered: Vec::new(),
            due: None,
            alerts_again: VecDeque::new(),
            rows_again: VecDeque::new(),
            closed: false,
        }
    }

    /// Refuses what comes and forgets what waits; how many of each (alerts, rows).
    fn close(&mut self) -> (u64, u64) {
        self.alerts.close();
        self.rows.close();
        let again = |batches: &VecDeque<Batch>| batches.iter().map(Batch::len).sum::<usize>();
        let mut alerts = again(&self.alerts_again);
        let mut rows = again(&self.rows_again) + self.gathered.len();
        while self.alerts.try_recv().is_ok() {
            alerts += 1;
        }
        while self.rows.try_recv().is_ok() {
            rows += 1;
        }
        (alerts as u64, rows as u64)
    }

    fn put_back(&mut self, batch: Batch) {
        match batch.content {
            Content::Alerts => self.alerts_again.push_front(batch),
            Content::Rows => self.rows_again.push_front(batch),
        }
    }

    /// Waits for the next batch; `None` when both queues are closed and nothing is left.
    async fn next(
        &mut self,
        most: usize,
        row_wait: std::time::Duration,
        closing: &mut watch::Receiver<bool>,
    ) -> Option<Taken> {
        loop {
            if let Some(batch) = self.alerts_again.pop_front() {
                return Some(Taken::Again(batch));
            }
            if let Ok(alert) = self.alerts.try_recv() {
                return Some(self.more_alerts(alert, most));
            }
            if let Some(batch) = self.rows_again.pop_front() {
                return Some(Taken::Again(batch));
            }
            if self.gathered.len() >= most {
                return Some(self.take_rows());
            }
            let due = self.due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                Some(alert) = self.alerts.recv() => return Some(self.more_alerts(alert, most)),
                Some(row) = self.rows.recv() => {
                    self.gathered.push(row);
                    self.due.get_or_insert_with(|| Instant::now() + row_wait);
                }
                () = tokio::time::sleep_until(due), if self.due.is_some() => {
                    return Some(self.take_rows());
                }
                // True, or the deliverer is gone.
                _ = closing.wait_for(|closing| *closing), if !self.closed => {
                    self.closed = true;
                    self.alerts.close();
                    self.rows.close();
                }
                else => return (!self.gathered.is_empty()).then(|| self.take_rows()),
            }
        }
    }

    /// `first` and whatever waits behind it; an alert never waits for others to come.
    fn more_alerts(&mut self, first: Arc<Alert>, most: usize) -> Taken {
        let mut alerts = vec![first];
        while alerts.len() < most {
            let Ok(alert) = self.alerts.try_recv() else { break };
            alerts.push(alert);
        }
        Taken::Alerts(alerts)
    }

    fn take_rows(&mut self) -> Taken {
        self.due = None;
        Taken::Rows(std::mem::take(&mut self.gathered))
    }
}
