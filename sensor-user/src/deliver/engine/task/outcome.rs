//! What came of a request: which items are delivered, tried again, or set aside.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Flown, Sink, TRIES_AT_END};
use crate::deliver::batch::{Batch, Content, Entry, Sent};
use crate::deliver::{DeliverError, Verdict, chain};

impl Sink {
    /// Takes in what came of a request; an error where nobody reads the sink any more.
    pub(super) async fn landed(
        &mut self,
        Flown { batch, result }: Flown,
    ) -> Result<(), DeliverError> {
        let lane = self.lane(batch.content);
        lane.in_flight = lane.in_flight.saturating_sub(1);
        let gathers = self.settle_written().await;
        let error = match result {
            Ok(_) if gathers => {
                self.succeeded(batch.content);
                return Ok(());
            }
            Ok(sent) => {
                self.answered(batch, sent).await;
                return Ok(());
            }
            Err(error) => error,
        };
        match error.verdict() {
            Verdict::Retry { after } => self.retry(batch, &error, after),
            // One by one would be a flood where every row is refused; alerts are few.
            Verdict::Isolate if batch.content == Content::Rows => {
                self.discard(batch, &chain(&error)).await;
            }
            Verdict::Split | Verdict::Isolate => match batch.split() {
                Ok((first, second)) => {
                    let lane = self.lane(first.content);
                    lane.put_back(second);
                    lane.put_back(first);
                }
                Err(single) => self.discard(single, &chain(&error)).await,
            },
            Verdict::Closed => {
                self.lane(batch.content).put_back(batch);
                return Err(error);
            }
        }
        Ok(())
    }

    fn succeeded(&mut self, content: Content) {
        self.lane(content).succeeded();
        if content == Content::Alerts {
            self.failed_at_end = 0;
        }
        self.with.state.delivered(self.with.clock.now());
    }

    /// The other side answered for each item.
    async fn answered(&mut self, batch: Batch, sent: Sent) {
        let content = batch.content;
        self.succeeded(content);
        let (mut again, mut rejected) =
            (sent.again.iter().peekable(), sent.rejected.into_iter().peekable());
        let (mut kept, mut taken, mut has_refused) = (Vec::new(), Vec::new(), false);
        for (index, entry) in batch.into_entries().into_iter().enumerate() {
            if again.next_if_eq(&&index).is_some() {
                kept.push(entry);
            } else if let Some((_, reason)) = rejected.next_if(|(at, _)| *at == index) {
                has_refused = true;
                self.discard(Batch::new(content, vec![entry]), &reason).await;
            } else {
                taken.push(entry);
            }
        }
        let progress = has_refused || !taken.is_empty();
        self.settle(content, &taken);
        match content {
            Content::Alerts => {
                self.with.stats.alerts_delivered.add(taken.len() as u64);
                let now = self.with.clock.now();
                self.with.state.delayed(taken.iter().filter_map(|it| it.item.delay(now)));
            }
            Content::Rows => self.with.stats.rows_delivered.add(taken.len() as u64),
        }
        if kept.is_empty() {
            return;
        }
        self.with.stats.deliveries_retried.increment();
        let lane = self.lane(content);
        lane.put_back(Batch::new(content, kept));
        if !progress || sent.after.is_some() {
            lane.failed(sent.after, Instant::now());
        }
    }

    fn retry(&mut self, batch: Batch, error: &DeliverError, after: Option<Duration>) {
        self.with.stats.deliveries_retried.increment();
        let (items, content, is_closing) = (batch.len(), batch.content, self.is_closing);
        let text = chain(error);
        self.with.state.failed(text.clone());
        let lane = self.lane(content);
        lane.put_back(batch);
        let wait = lane.failed(after, Instant::now());
        // Rows would be lost, and are tried until the time to end is up.
        if is_closing && content == Content::Alerts {
            self.failed_at_end += 1;
            let is_kept = self.with.kept.load(Ordering::Acquire);
            self.leaves_alerts |= is_kept && self.failed_at_end >= TRIES_AT_END;
        }
        if let Some(count) = self.quiet.admit(1, Instant::now()) {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let next = humantime::format_duration(Duration::from_millis(millis));
            tracing::warn!(
                sink = self.name,
                count,
                items,
                retry_in = %next,
                error = %text,
                "delivery failed; tried again"
            );
        }
    }

    /// Items that can never be taken: alerts are set aside with the reason.
    async fn discard(&mut self, batch: Batch, reason: &str) {
        let content = batch.content;
        self.lane(content).succeeded();
        let entries = batch.into_entries();
        if let Some(count) = self.quiet.admit(entries.len() as u64, Instant::now()) {
            tracing::error!(sink = self.name, count, error = %reason, "items discarded");
        }
        if content == Content::Alerts {
            self.put_aside(reason, &entries).await;
        }
        let stats = &self.with.stats;
        match content {
            Content::Alerts => stats.alerts_discarded_rejected.add(entries.len() as u64),
            Content::Rows => stats.rows_discarded_rejected.add(entries.len() as u64),
        }
        self.settle(content, &entries);
    }

    /// Writes them to a file, on a thread that may block.
    async fn put_aside(&self, reason: &str, entries: &[Entry]) {
        let rejected = Arc::clone(&self.with.dead_letters);
        let (name, reason) = (self.name.clone(), reason.to_owned());
        let lines = entries.iter().map(|entry| (entry.id.clone(), entry.item.json()));
        let lines: Vec<(String, String)> = lines.collect();
        let written = tokio::task::spawn_blocking(move || {
            for (id, line) in &lines {
                rejected.add(&name, &reason, id, line);
            }
        });
        if let Err(error) = written.await {
            tracing::error!(sink = self.name, %error, "discarded items are not saved");
        }
    }

    fn settle(&mut self, content: Content, entries: &[Entry]) {
        if content == Content::Rows {
            self.with.waiting.settle(entries.len() as u64);
            return;
        }
        for entry in entries {
            self.place.settle(entry.sequence);
        }
        self.with.state.holds(self.place.oldest());
        if let Some(reader) = &self.reader {
            reader.acknowledge(self.place.settled_before());
        }
    }
}
