//! `SinkTask`: reads alerts from the spool and rows from the queue of one sink, and sends each batch
//! until it is delivered, dead-lettered or discarded.
//!
//! Alerts and rows have separate retry queues (`retry_queue.rs`): neither waits for failures of the
//! other. Within a queue up to `concurrency` requests are in flight; with one, the order is kept. An
//! alert is acknowledged in the spool when it and all alerts before it are delivered or
//! dead-lettered.

mod outcome;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::ack_tracker::AckTracker;
use super::context::{DeliveryContext, SinkPhase};
use super::retry_queue::RetryQueue;
use super::row_queue::RowQueue;
use super::sink_health::SinkHealth;
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::batch::{Batch, BatchItem, ItemKind, SendOutcome};
use crate::deliver::item::Item;
use crate::deliver::sinks::{FlushedRows, Sink, create};
use crate::deliver::spool::{BatchLimit, SpoolReader, StoredAlert};
use crate::deliver::{DeliverError, Format, SinkConfig, SinkKind};

/// Failed attempts at shutdown after which durable alerts are left for the next start.
const DRAIN_ATTEMPTS: u32 = 3;

/// A sink and the state of its task.
#[derive(Debug)]
pub(super) struct SinkTask {
    name: String,
    is_stdout: bool,
    format: Format,
    limit: BatchLimit,
    sink: Arc<dyn Sink>,
    /// `None` for a sink without alerts.
    reader: Option<SpoolReader>,
    acks: AckTracker,
    rows: RowQueue,
    rows_ended: bool,
    alert_retries: RetryQueue,
    row_retries: RetryQueue,
    in_flight: JoinSet<CompletedRequest>,
    log_throttle: LogThrottle,
    is_draining: bool,
    /// Consecutive failures to send alerts while draining.
    drain_failures: u32,
    /// Alerts are left in the spool for the next start.
    leaves_alerts: bool,
    context: DeliveryContext,
    phase: watch::Receiver<SinkPhase>,
    health: Arc<SinkHealth>,
}

/// A batch with the result of its request.
#[derive(Debug)]
struct CompletedRequest {
    batch: Batch,
    result: Result<SendOutcome, DeliverError>,
}

/// Next step of the task.
#[derive(Debug)]
enum Step {
    Completed(Result<CompletedRequest, JoinError>),
    SendAlerts(Vec<StoredAlert>),
    SendRows(Option<Vec<BatchItem>>),
    Retry,
    Flush,
    Drain,
}

impl SinkTask {
    pub(super) fn new(
        config: &SinkConfig,
        rows: mpsc::Receiver<Item>,
        context: DeliveryContext,
        phase: watch::Receiver<SinkPhase>,
        health: Arc<SinkHealth>,
    ) -> Result<Self, DeliverError> {
        let DeliveryContext { retry, stats, clock, spool, .. } = &context;
        let reader = spool.as_ref().filter(|_| config.alerts);
        Ok(Self {
            name: config.name.clone(),
            is_stdout: config.kind == SinkKind::Stdout,
            format: config.format,
            limit: BatchLimit { alerts: config.batch.max(1), bytes: config.batch_bytes.max(1) },
            sink: create::sink(&config.kind, stats, clock)?,
            reader: reader.and_then(|spool| spool.reader(&config.name)),
            acks: AckTracker::default(),
            rows: RowQueue::new(rows, config),
            rows_ended: false,
            alert_retries: RetryQueue::new(*retry, config.concurrency),
            row_retries: RetryQueue::new(*retry, config.concurrency),
            in_flight: JoinSet::new(),
            log_throttle: LogThrottle::new(),
            is_draining: false,
            drain_failures: 0,
            leaves_alerts: false,
            context,
            phase,
            health,
        })
    }

    /// Sends until no more items are queued and all are acknowledged, or the receiver has exited.
    pub(super) async fn run(mut self) {
        loop {
            self.send_retries();
            if self.is_done() {
                break;
            }
            match self.next_step().await {
                Step::Completed(Ok(request)) => {
                    if let Err(error) = self.completed(request).await {
                        return self.close(&error).await;
                    }
                }
                Step::Completed(Err(error)) => {
                    let sink = &*self.name;
                    tracing::error!(sink, %error, "a request ended early; please report");
                    return;
                }
                Step::SendAlerts(alerts) => self.send_alerts(alerts),
                Step::SendRows(Some(items)) => self.send(Batch::new(ItemKind::Rows, items)),
                Step::SendRows(None) => self.rows_ended = true,
                Step::Retry => {}
                Step::Flush => {
                    self.flush(false).await;
                }
                Step::Drain => {
                    self.is_draining = true;
                    self.rows.close();
                    self.alert_retries.retry_now();
                    self.row_retries.retry_now();
                }
            }
        }
        // Until all rows are flushed, or the task is aborted at the deadline.
        while !self.flush(true).await {
            let delay = self.row_retries.failed(None, Instant::now());
            tokio::time::sleep(delay).await;
        }
    }

    /// Waits for the next step. The futures that are dropped lose no items.
    async fn next_step(&mut self) -> Step {
        let now = Instant::now();
        let flush_at = self.sink.flush_at().await;
        let retries = [self.alert_retries.retry_at(now), self.row_retries.retry_at(now)];
        let retry_at = retries.into_iter().flatten().min();
        let reads_alerts = self.alert_retries.has_capacity(now)
            && (!self.is_draining || self.has_more_alerts())
            && !self.leaves_alerts;
        let reads_rows = self.row_retries.has_capacity(now) && !self.rows_ended;
        let far = now + Duration::from_hours(1);
        tokio::select! {
            biased;
            Some(request) = self.in_flight.join_next(), if !self.in_flight.is_empty() => {
                Step::Completed(request)
            }
            alerts = next_alerts(&mut self.reader, self.limit), if reads_alerts => {
                Step::SendAlerts(alerts)
            }
            rows = self.rows.next(), if reads_rows => Step::SendRows(rows),
            () = sleep_until(flush_at.unwrap_or(far)), if flush_at.is_some() => Step::Flush,
            // Also if the handle was dropped.
            _ = self.phase.wait_for(|phase| *phase != SinkPhase::Running),
                if !self.is_draining => Step::Drain,
            () = sleep_until(retry_at.unwrap_or(far)) => Step::Retry,
        }
    }

    fn has_more_alerts(&self) -> bool {
        self.reader.as_ref().is_some_and(SpoolReader::has_more)
    }

    fn is_done(&self) -> bool {
        self.is_draining
            && self.rows_ended
            && self.in_flight.is_empty()
            && self.row_retries.batches.is_empty()
            && (self.leaves_alerts || (self.acks.is_empty() && !self.has_more_alerts()))
    }

    /// Sends the batches to retry, before new ones.
    fn send_retries(&mut self) {
        let now = Instant::now();
        while !self.leaves_alerts
            && let Some(batch) = self.alert_retries.pop(now)
        {
            self.send(batch);
        }
        while let Some(batch) = self.row_retries.pop(now) {
            self.send(batch);
        }
    }

    fn send_alerts(&mut self, alerts: Vec<StoredAlert>) {
        let mut items = Vec::with_capacity(alerts.len());
        for StoredAlert { sequence, alert, .. } in alerts {
            self.acks.add(sequence, alert.vm_connection_time_generated);
            let item = Item::Alert(alert);
            let line = self.sink.line(self.format, &item);
            items.push(BatchItem::new(item, sequence, line));
        }
        self.health.set_oldest_waiting(self.acks.oldest());
        if !items.is_empty() {
            self.send(Batch::new(ItemKind::Alerts, items));
        }
    }

    fn send(&mut self, batch: Batch) {
        self.retries(batch.kind).in_flight += 1;
        self.health.record_attempt();
        let sink = Arc::clone(&self.sink);
        self.in_flight.spawn(async move {
            let result = sink.send(&batch).await;
            CompletedRequest { batch, result }
        });
    }

    const fn retries(&mut self, kind: ItemKind) -> &mut RetryQueue {
        match kind {
            ItemKind::Alerts => &mut self.alert_retries,
            ItemKind::Rows => &mut self.row_retries,
        }
    }

    fn stats(&self) -> &Stats {
        &self.context.stats
    }

    /// Flushes the sink. Returns false if that failed.
    async fn flush(&self, all: bool) -> bool {
        let flushed = self.sink.flush(all).await;
        self.acknowledge_flushed().await;
        let Err(error) = flushed else { return true };
        self.stats().deliveries_retried.increment();
        let error = error.log_text();
        if let Some(count) = self.log_throttle.admit(1, Instant::now()) {
            tracing::warn!(sink = self.name, count, %error, "rows not written; will be retried");
        }
        self.health.record_failure(error);
        false
    }

    /// Acknowledges rows that a buffered sink has written. Returns false for other sinks.
    async fn acknowledge_flushed(&self) -> bool {
        let Some(FlushedRows { delivered, rejected }) = self.sink.take_flushed().await else {
            return false;
        };
        self.stats().rows_delivered.add(delivered);
        self.stats().rows_discarded_rejected.add(rejected);
        self.health.rows_removed(delivered.saturating_add(rejected));
        true
    }

    /// Drops and counts all items, because the receiver has exited.
    async fn close(mut self, error: &DeliverError) {
        if self.is_stdout {
            self.context.stdout_closed.store(true, Ordering::Release);
        }
        let retries = self.row_retries.batches.iter().map(|batch| batch.len() as u64);
        let rows = self.rows.clear() + retries.sum::<u64>();
        self.stats().rows_dropped_sink_closed.add(rows);
        self.health.rows_removed(rows);
        tracing::info!(sink = self.name, error = %error.log_text(), "sink closed");
        let mut dropped = self.acks.len();
        let Some(mut reader) = self.reader.take() else { return };
        loop {
            self.stats().alerts_dropped_sink_closed.add(dropped);
            reader.acknowledge(self.acks.end());
            if *self.phase.borrow() != SinkPhase::Running && !reader.has_more() {
                return;
            }
            dropped = 0;
            tokio::select! {
                alerts = reader.next_batch(self.limit) => {
                    dropped = alerts.len() as u64;
                    for it in &alerts {
                        self.acks.add(it.sequence, it.alert.vm_connection_time_generated);
                    }
                }
                _ = self.phase.wait_for(|phase| *phase != SinkPhase::Running) => {}
            }
        }
    }
}

/// Next alerts of the spool; waits forever for a sink without alerts.
async fn next_alerts(reader: &mut Option<SpoolReader>, limit: BatchLimit) -> Vec<StoredAlert> {
    match reader {
        Some(reader) => reader.next_batch(limit).await,
        None => std::future::pending().await,
    }
}
