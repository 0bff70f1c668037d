//! Results of requests: items are delivered, retried, dead-lettered or discarded.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{CompletedRequest, DRAIN_ATTEMPTS, SinkPhase, SinkTask};
use crate::deliver::batch::{Batch, BatchItem, ItemKind, SendOutcome};
use crate::deliver::{DeliverError, FailureAction};

impl SinkTask {
    /// Processes the result of a request. Returns an error if the receiver has exited.
    pub(super) async fn completed(
        &mut self,
        CompletedRequest { batch, result }: CompletedRequest,
    ) -> Result<(), DeliverError> {
        let retries = self.retries(batch.kind);
        retries.in_flight = retries.in_flight.saturating_sub(1);
        let is_buffered = self.acknowledge_flushed().await;
        let error = match result {
            Ok(outcome) => {
                self.succeeded(batch.kind);
                if !is_buffered {
                    self.apply(batch, outcome).await;
                }
                return Ok(());
            }
            Err(error) => error,
        };
        match error.action() {
            FailureAction::Retry { after } => self.retry(batch, &error, after),
            // A search among rows would cost too many requests if each is refused; alerts are few.
            FailureAction::Isolate if batch.kind == ItemKind::Rows => {
                self.discard(batch.kind, &batch.items, &error.log_text()).await;
            }
            FailureAction::Split | FailureAction::Isolate => match batch.split() {
                Ok((first, second)) => {
                    let retries = &mut self.retries(first.kind).batches;
                    retries.push_front(second);
                    retries.push_front(first);
                }
                Err(single) => {
                    self.discard(single.kind, &single.items, &error.log_text()).await;
                }
            },
            FailureAction::Closed => {
                self.retries(batch.kind).batches.push_front(batch);
                return Err(error);
            }
        }
        Ok(())
    }

    fn succeeded(&mut self, kind: ItemKind) {
        self.retries(kind).succeeded();
        if kind == ItemKind::Alerts {
            self.drain_failures = 0;
        }
        self.health.record_success(self.context.clock.now());
    }

    /// Applies the outcome of each item.
    async fn apply(&mut self, batch: Batch, outcome: SendOutcome) {
        let kind = batch.kind;
        let (mut retry, mut rejected) =
            (outcome.retry.into_iter().peekable(), outcome.rejected.into_iter().peekable());
        let (mut retried, mut delivered, mut has_rejected) = (Vec::new(), Vec::new(), false);
        for (index, item) in batch.items.into_iter().enumerate() {
            if retry.next_if_eq(&index).is_some() {
                retried.push(item);
            } else if let Some((_, reason)) = rejected.next_if(|(at, _)| *at == index) {
                has_rejected = true;
                self.discard(kind, &[item], &reason).await;
            } else {
                delivered.push(item);
            }
        }
        self.acknowledge(kind, &delivered);
        self.report_already_stored(outcome.already_stored);
        match kind {
            ItemKind::Alerts => {
                self.stats().alerts_delivered.add(delivered.len() as u64);
                let now = self.context.clock.now();
                let latencies = delivered.iter().filter_map(|it| it.item.latency(now));
                self.health.record_latencies(latencies);
            }
            ItemKind::Rows => self.stats().rows_delivered.add(delivered.len() as u64),
        }
        if retried.is_empty() {
            return;
        }
        self.stats().deliveries_retried.increment();
        let has_progress = has_rejected || !delivered.is_empty();
        let retries = self.retries(kind);
        retries.batches.push_front(Batch::new(kind, retried));
        if !has_progress || outcome.retry_after.is_some() {
            retries.failed(outcome.retry_after, Instant::now());
        }
    }

    /// Counts and logs items that were accepted and not stored, since the receiver knew their ids: from
    /// an attempt without a response, or from before its data was deleted.
    fn report_already_stored(&self, items: u64) {
        if items == 0 {
            return;
        }
        self.health.record_already_stored(items);
        if let Some(count) = self.log_throttle.admit(items, Instant::now()) {
            tracing::warn!(
                sink = self.name,
                count,
                "receiver knew items already; not stored again"
            );
        }
    }

    fn retry(&mut self, batch: Batch, error: &DeliverError, retry_after: Option<Duration>) {
        self.stats().deliveries_retried.increment();
        let (items, kind, error) = (batch.len(), batch.kind, error.log_text());
        self.health.record_failure(error.clone());
        let retries = self.retries(kind);
        retries.batches.push_front(batch);
        let delay = retries.failed(retry_after, Instant::now());
        // Rows would be lost, and are retried until the deadline.
        if self.is_draining && kind == ItemKind::Alerts {
            self.drain_failures += 1;
            let durable = SinkPhase::Draining { alerts_durable: true };
            self.leaves_alerts |=
                *self.phase.borrow() == durable && self.drain_failures >= DRAIN_ATTEMPTS;
        }
        if let Some(count) = self.log_throttle.admit(1, Instant::now()) {
            let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            let retry_in = humantime::format_duration(Duration::from_millis(millis));
            tracing::warn!(
                sink = self.name,
                count,
                items,
                %retry_in,
                %error,
                "delivery failed; will be retried"
            );
        }
    }

    /// Discards items that are rejected permanently; alerts become dead letters.
    async fn discard(&mut self, kind: ItemKind, items: &[BatchItem], reason: &str) {
        self.retries(kind).succeeded();
        let discarded = items.len() as u64;
        if let Some(count) = self.log_throttle.admit(discarded, Instant::now()) {
            tracing::error!(sink = self.name, count, error = %reason, "items discarded");
        }
        match kind {
            ItemKind::Alerts => {
                self.dead_letter(items, reason).await;
                self.stats().alerts_discarded_rejected.add(discarded);
            }
            ItemKind::Rows => self.stats().rows_discarded_rejected.add(discarded),
        }
        self.acknowledge(kind, items);
    }

    /// Writes dead letters, on a thread that may block.
    async fn dead_letter(&self, items: &[BatchItem], reason: &str) {
        let dead_letters = Arc::clone(&self.context.dead_letters);
        let (name, reason) = (self.name.clone(), reason.to_owned());
        let lines: Vec<_> = items.iter().map(|it| (it.id.clone(), it.item.json())).collect();
        let written = tokio::task::spawn_blocking(move || {
            for (id, line) in &lines {
                dead_letters.add(&name, &reason, id, line);
            }
        });
        if let Err(error) = written.await {
            tracing::error!(sink = self.name, %error, "discarded items are not saved");
        }
    }

    fn acknowledge(&mut self, kind: ItemKind, items: &[BatchItem]) {
        if kind == ItemKind::Rows {
            self.health.rows_removed(items.len() as u64);
            return;
        }
        for item in items {
            self.acks.acknowledge(item.sequence);
        }
        self.health.set_oldest_waiting(self.acks.oldest());
        if let Some(reader) = &self.reader {
            reader.acknowledge(self.acks.acknowledged());
        }
    }
}
