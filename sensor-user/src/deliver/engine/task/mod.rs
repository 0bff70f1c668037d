//! One sink's task: takes alerts out of the spool and rows out of its queue, and sees each batch
//! through, until it is delivered, set aside or discarded.
//!
//! Alerts and rows have a lane each (`lane.rs`): neither waits for the other's failures. Within a
//! lane up to `concurrency` requests are under way; with one, order is kept. An alert is settled in
//! the spool when it is delivered or set aside, and those before it are.

mod outcome;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ack_tracker::Place;
use super::outbox::{Pace, Waiting};
use super::retry_queue::Lane;
use super::row_queue::RowQueue;
use super::sink_status::SinkState;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::batch::{Batch, Content, Entry, Sent};
use crate::deliver::format::Format;
use crate::deliver::format::text::readable;
use crate::deliver::item::Item;
use crate::deliver::sinks::Transport;
use crate::deliver::sinks::parquet::Settled;
use crate::deliver::spool::{BatchLimit, DeadLetters, SpoolReader, StoredAlert};
use crate::deliver::{DeliverError, SinkConfig, SinkKind, chain};

/// When the agent ends, alerts that are on disk are left for its next start after so many tries.
const TRIES_AT_END: u32 = 3;

/// What a sink's task needs of the rest.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) pace: Pace,
    pub(crate) stats: Arc<Stats>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Set when standard output has no reader any more.
    pub(crate) stdout_closed: Arc<AtomicBool>,
    /// Turns true when no more items come.
    pub(crate) closing: watch::Receiver<bool>,
    /// Whether all alerts are on disk, known when no more come.
    pub(crate) kept: Arc<AtomicBool>,
    /// Rows accepted and not yet settled.
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) state: Arc<SinkState>,
    pub(crate) dead_letters: Arc<DeadLetters>,
}

/// A sink and its task's state.
#[derive(Debug)]
pub(crate) struct Sink {
    name: String,
    is_readable: bool,
    format: Format,
    limit: BatchLimit,
    transport: Arc<Transport>,
    /// `None` for a sink that takes no alerts.
    reader: Option<SpoolReader>,
    place: Place,
    rows: RowQueue,
    rows_ended: bool,
    alerts_lane: Lane,
    rows_lane: Lane,
    flight: JoinSet<Flown>,
    quiet: LogThrottle,
    is_closing: bool,
    /// Tries to send alerts that have failed in a row since the end began.
    failed_at_end: u32,
    /// So many did: the alerts are for the next start.
    leaves_alerts: bool,
    with: Surroundings,
}

/// A request that has ended.
#[derive(Debug)]
struct Flown {
    batch: Batch,
    result: Result<Sent, DeliverError>,
}

/// What a sink does next.
#[derive(Debug)]
enum Step {
    Landed(Result<Flown, tokio::task::JoinError>),
    Alerts(Vec<StoredAlert>),
    Rows(Option<Vec<Entry>>),
    /// A wait is over.
    Wake,
    /// The transport has something to do of its own.
    Due,
    Closing,
}

impl Sink {
    pub(crate) fn new(
        config: &SinkConfig,
        reader: Option<SpoolReader>,
        rows: mpsc::Receiver<Item>,
        with: Surroundings,
    ) -> Result<Self, DeliverError> {
        let limit = BatchLimit { alerts: config.batch.max(1), bytes: config.batch_bytes.max(1) };
        let most = (limit.alerts, limit.bytes);
        Ok(Self {
            name: config.name.clone(),
            is_readable: config.kind == SinkKind::Console,
            format: config.format,
            limit,
            transport: Arc::new(Transport::new(&config.kind, &with.stats)?),
            reader,
            place: Place::default(),
            rows: RowQueue::new(rows, config.batch_wait, most, config.format),
            rows_ended: false,
            alerts_lane: Lane::new(with.pace, config.concurrency),
            rows_lane: Lane::new(with.pace, config.concurrency),
            flight: JoinSet::new(),
            quiet: LogThrottle::new(),
            is_closing: false,
            failed_at_end: 0,
            leaves_alerts: false,
            with,
        })
    }

    /// Sends until no more items come and all are settled, or nobody reads the sink any more.
    pub(crate) async fn run(mut self) {
        loop {
            self.send_again();
            if self.is_done() {
                break;
            }
            let step = self.step().await;
            match step {
                Step::Landed(Ok(flown)) => {
                    if let Err(error) = self.landed(flown).await {
                        return self.close(&error).await;
                    }
                }
                Step::Landed(Err(lost)) => {
                    let sink = &*self.name;
                    tracing::error!(sink, error = %lost, "a request ended early; please report");
                    return;
                }
                Step::Alerts(stored) => self.send_alerts(stored),
                Step::Rows(Some(entries)) => self.send(Batch::new(Content::Rows, entries)),
                Step::Rows(None) => self.rows_ended = true,
                Step::Wake => {}
                Step::Due => {
                    self.write_due(false).await;
                }
                Step::Closing => {
                    self.is_closing = true;
                    self.rows.close();
                    self.alerts_lane.hurry();
                    self.rows_lane.hurry();
                }
            }
        }
        // Until it is done, or the time to end is up.
        while !self.write_due(true).await {
            let wait = self.rows_lane.failed(None, Instant::now());
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits for what comes first. Nothing is lost where the others are dropped.
    async fn step(&mut self) -> Step {
        let now = Instant::now();
        let due = self.due().await;
        let wakes = [self.alerts_lane.wakes_at(now), self.rows_lane.wakes_at(now)];
        let wake = wakes.into_iter().flatten().min();
        let has_more = self.reader.as_ref().is_some_and(SpoolReader::has_more);
        let alerts = self.alerts_lane.has_room(now) && (!self.is_closing || has_more);
        let alerts = alerts && !self.leaves_alerts;
        let rows = self.rows_lane.has_room(now) && !self.rows_ended;
        let far = now + Duration::from_hours(1);
        tokio::select! {
            biased;
            Some(flown) = self.flight.join_next(), if !self.flight.is_empty() => Step::Landed(flown),
            stored = next_alerts(&mut self.reader, self.limit), if alerts => Step::Alerts(stored),
            rows = self.rows.next(), if rows => Step::Rows(rows),
            () = tokio::time::sleep_until(due.unwrap_or(far)), if due.is_some() => Step::Due,
            // True, or the deliverer is gone.
            _ = self.with.closing.wait_for(|closing| *closing), if !self.is_closing => Step::Closing,
            () = tokio::time::sleep_until(wake.unwrap_or(far)) => Step::Wake,
        }
    }

    fn is_done(&self) -> bool {
        let has_more = self.reader.as_ref().is_some_and(SpoolReader::has_more);
        self.is_closing
            && self.rows_ended
            && self.flight.is_empty()
            && !self.rows_lane.has_again()
            && (self.leaves_alerts || (self.place.is_settled() && !has_more))
    }

    /// What is tried again goes before what is new.
    fn send_again(&mut self) {
        let now = Instant::now();
        while !self.leaves_alerts
            && self.alerts_lane.has_room(now)
            && let Some(batch) = self.alerts_lane.next_again()
        {
            self.send(batch);
        }
        while self.rows_lane.has_room(now)
            && let Some(batch) = self.rows_lane.next_again()
        {
            self.send(batch);
        }
    }

    fn send_alerts(&mut self, stored: Vec<StoredAlert>) {
        let mut entries = Vec::with_capacity(stored.len());
        for StoredAlert { sequence, alert, .. } in stored {
            self.place.took(sequence, alert.vm_connection_time_generated);
            let item = Item::Alert(alert);
            let line = match &item {
                Item::Alert(alert) if self.is_readable => readable(alert),
                item => self.format.line(item),
            };
            entries.push(Entry::new(item, sequence, line));
        }
        self.with.state.holds(self.place.oldest());
        if !entries.is_empty() {
            self.send(Batch::new(Content::Alerts, entries));
        }
    }

    fn send(&mut self, batch: Batch) {
        self.lane(batch.content).in_flight += 1;
        self.with.state.attempted();
        let (transport, clock) = (Arc::clone(&self.transport), Arc::clone(&self.with.clock));
        self.flight.spawn(async move {
            let result = transport.send(&batch, &*clock).await;
            Flown { batch, result }
        });
    }

    const fn lane(&mut self, content: Content) -> &mut Lane {
        match content {
            Content::Alerts => &mut self.alerts_lane,
            Content::Rows => &mut self.rows_lane,
        }
    }

    /// When the transport has something to do of its own.
    async fn due(&self) -> Option<Instant> {
        match &*self.transport {
            Transport::Parquet(parquet) => parquet.lock().await.due(),
            _ => None,
        }
    }

    /// Writes what a transport has gathered and is due; at the end, all. Whether it is written.
    async fn write_due(&mut self, at_the_end: bool) -> bool {
        let Transport::Parquet(parquet) = &*self.transport else { return true };
        let written = parquet.lock().await.write_due(&*self.with.clock, at_the_end).await;
        self.settle_written().await;
        let Err(error) = written else { return true };
        self.with.stats.deliveries_retried.increment();
        let error = chain(&error);
        if let Some(count) = self.quiet.admit(1, Instant::now()) {
            tracing::warn!(sink = self.name, count, %error, "rows are not written; tried again");
        }
        self.with.state.failed(error);
        false
    }

    /// Settles the rows that a transport which gathers them has written meanwhile; whether it is
    /// such a one.
    async fn settle_written(&self) -> bool {
        let Transport::Parquet(parquet) = &*self.transport else { return false };
        let Settled { delivered, rejected } = parquet.lock().await.take_settled();
        self.with.stats.rows_delivered.add(delivered);
        self.with.stats.rows_discarded_rejected.add(rejected);
        self.with.waiting.settle(delivered.saturating_add(rejected));
        true
    }

    /// Nobody reads any more: what waits and what comes is dropped, and counted.
    async fn close(mut self, error: &DeliverError) {
        if matches!(&*self.transport, Transport::Stdout(_)) {
            self.with.stdout_closed.store(true, Ordering::Release);
        }
        let rows = self.rows.forget() + self.rows_lane.items_again();
        self.with.stats.rows_dropped_sink_closed.add(rows);
        self.with.waiting.settle(rows);
        tracing::info!(sink = self.name, error = %chain(error), "sink closed");
        let mut dropped = self.place.open();
        let Some(reader) = &mut self.reader else { return };
        loop {
            self.with.stats.alerts_dropped_sink_closed.add(dropped);
            reader.acknowledge(self.place.end());
            if *self.with.closing.borrow() && !reader.has_more() {
                return;
            }
            dropped = 0;
            tokio::select! {
                stored = reader.next_batch(self.limit) => {
                    dropped = stored.len() as u64;
                    for it in &stored {
                        self.place.took(it.sequence, it.alert.vm_connection_time_generated);
                    }
                }
                _ = self.with.closing.wait_for(|closing| *closing) => {}
            }
        }
    }
}

/// The next alerts of the spool; never where the sink takes none.
async fn next_alerts(reader: &mut Option<SpoolReader>, limit: BatchLimit) -> Vec<StoredAlert> {
    match reader {
        Some(reader) => reader.next_batch(limit).await,
        None => std::future::pending().await,
    }
}
