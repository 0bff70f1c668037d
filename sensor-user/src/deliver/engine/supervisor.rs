//! `Deliverer`: supervises the sinks behind the spool, one task each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::backoff::RetryPolicy;
use super::context::DeliveryContext;
use super::outbox::Outbox;
use super::sink_handle::{DrainingSink, SinkHandle};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::sinks::create;
use crate::deliver::spool::{DeadLetters, RecoveredState, Spool, SpoolConfig, SpoolError};
use crate::deliver::{DeliverError, SinkConfig};

/// Time limit of the last write of the spool.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Configuration of delivery.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'d> {
    /// Sinks with unique names.
    pub sinks: &'d [SinkConfig],
    /// Directory of the spool.
    pub folder: &'d Path,
    /// Limits of the spool.
    pub spool: &'d SpoolConfig,
    /// Delays of retries.
    pub retry: RetryPolicy,
}

/// Supervisor of the sinks.
#[derive(Debug)]
pub struct Deliverer {
    sinks: Vec<SinkHandle>,
    /// Sinks that were removed from the configuration.
    draining: Vec<DrainingSink>,
    context: DeliveryContext,
    outbox: Outbox,
}

/// Changes of a reload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Number of new sinks.
    pub added: usize,
    /// Number of sinks with other settings.
    pub changed: usize,
    /// Number of removed sinks.
    pub removed: usize,
}

/// Undelivered items of a sink at shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Name of the sink.
    pub sink: String,
    /// Number of alerts: they stay in the spool for the next start.
    pub alerts: u64,
    /// Number of rows: they are dropped.
    pub rows: u64,
}

/// Error at the start of delivery, or at a reload.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spool cannot be opened.
    #[error("open the spool")]
    Spool(#[source] SpoolError),
    /// A sink receives alerts, and there is no spool.
    #[error(
        "sink {name}: takes alerts, and no sink did when the agent was started; restart the agent"
    )]
    NoSpool {
        /// Name of the sink.
        name: String,
    },
    /// A sink cannot be created.
    #[error("sink {name}")]
    Sink {
        /// Name of the sink.
        name: String,
        /// Error of the sink.
        #[source]
        source: DeliverError,
    },
}

impl Deliverer {
    /// Opens the spool and starts a task for each sink; must be called in a tokio runtime. Also
    /// returns the state in the spool of an earlier run.
    ///
    /// A write to standard output that is never read blocks a thread of the runtime: end the runtime
    /// with `shutdown_timeout` or `shutdown_background`, not by dropping it.
    pub fn start(
        delivery: Delivery<'_>,
        stats: &Arc<Stats>,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Outbox, Self, RecoveredState), StartError> {
        let names = delivery.sinks.iter().filter(|sink| sink.alerts).map(|sink| sink.name.clone());
        let names: Vec<String> = names.collect();
        let (spool, recovered) = if names.is_empty() {
            (None, RecoveredState::default())
        } else {
            let clock = Arc::clone(clock);
            let opened = Spool::open(delivery.folder, delivery.spool, &names, clock, stats);
            let (spool, recovered) = opened.map_err(StartError::Spool)?;
            (Some(spool), recovered)
        };
        let dead_letters = DeadLetters::new(delivery.folder, Arc::clone(clock), Arc::clone(stats));
        let context = DeliveryContext {
            retry: delivery.retry,
            stats: Arc::clone(stats),
            clock: Arc::clone(clock),
            stdout_closed: Arc::default(),
            dead_letters: Arc::new(dead_letters),
            spool,
        };
        let stdout_closed = Arc::clone(&context.stdout_closed);
        let outbox = Outbox::new(context.spool.clone(), Arc::clone(stats), stdout_closed);
        let (sinks, draining) = (Vec::new(), Vec::new());
        let mut deliverer = Self { sinks, draining, context, outbox: outbox.clone() };
        deliverer.reload(delivery.sinks, Duration::ZERO)?;
        Ok((outbox, deliverer, recovered))
    }

    /// Applies another configuration. Unchanged sinks continue. A changed sink is drained for at most
    /// `limit`, and continues at its position. A new sink begins at the oldest retained alert. For a
    /// removed sink nothing is retained. If a sink cannot be created, nothing is changed.
    pub fn reload(
        &mut self,
        configs: &[SinkConfig],
        limit: Duration,
    ) -> Result<Reloaded, StartError> {
        for config in configs {
            self.check(config)?;
        }
        self.draining.retain(|sink| !sink.task.is_finished());
        for config in configs {
            if let Some(sink) = self.draining.iter().find(|sink| sink.name == config.name) {
                sink.retain_alerts();
            }
            self.update_cursor(config)?;
        }
        let deadline = Instant::now() + limit;
        let old = std::mem::take(&mut self.sinks).into_iter();
        let mut old: BTreeMap<_, _> = old.map(|sink| (sink.config.name.clone(), sink)).collect();
        let mut reloaded = Reloaded::default();
        for config in configs {
            let sink = match old.remove(&config.name) {
                Some(sink) if sink.config == *config => sink,
                Some(sink) => {
                    reloaded.changed += 1;
                    let predecessor = sink.stop(deadline, &self.context.stats);
                    SinkHandle::start(config, &self.context, Some(predecessor))
                }
                None => {
                    reloaded.added += 1;
                    let predecessor = self.take_draining(&config.name);
                    SinkHandle::start(config, &self.context, predecessor)
                }
            };
            self.sinks.push(sink);
        }
        let channels = self.sinks.iter().map(|sink| Arc::clone(&sink.channel)).collect();
        self.outbox.set_channels(channels);
        reloaded.removed = old.len();
        let drain = |sink| DrainingSink::start(sink, deadline, &self.context);
        self.draining.extend(old.into_values().map(drain));
        Ok(reloaded)
    }

    /// Task of a draining sink with this name.
    fn take_draining(&mut self, name: &str) -> Option<JoinHandle<()>> {
        let index = self.draining.iter().position(|sink| sink.name == name)?;
        Some(self.draining.swap_remove(index).task)
    }

    /// Checks that a sink can be created.
    fn check(&self, config: &SinkConfig) -> Result<(), StartError> {
        let name = || config.name.clone();
        let DeliveryContext { stats, clock, spool, .. } = &self.context;
        if config.alerts && spool.is_none() {
            return Err(StartError::NoSpool { name: name() });
        }
        let checked = create::check(&config.kind, stats, clock);
        checked.map_err(|source| StartError::Sink { name: name(), source })
    }

    /// Adds or removes the cursor of the sink in the spool.
    fn update_cursor(&self, config: &SinkConfig) -> Result<(), StartError> {
        let Some(spool) = &self.context.spool else { return Ok(()) };
        if !config.alerts {
            spool.remove_sink(&config.name);
            return Ok(());
        }
        spool.add_sink(&config.name).map_err(StartError::Spool)
    }

    /// Drains and stops the sinks within `limit`. Sending of alerts ends earlier after a few failed
    /// attempts: they stay in the spool for the next start. Undelivered rows are dropped, counted and
    /// logged. Returns the undelivered items. Rows put into the outbox after this call are refused
    /// and counted.
    pub async fn drain(mut self, limit: Duration) -> Vec<Leftover> {
        let deadline = Instant::now() + limit;
        let spool = self.context.spool.take();
        let mut alerts_durable = false;
        if let Some(spool) = spool.clone() {
            // The last alerts are on disk before the sinks drain.
            let flushed = tokio::task::spawn_blocking(move || spool.flush(limit)).await;
            alerts_durable = flushed.unwrap_or(false);
        }
        self.sinks.iter().for_each(|sink| sink.drain(alerts_durable));
        let mut left = Vec::new();
        for handle in self.sinks {
            let sink = handle.config.name.clone();
            let rows = handle.join(deadline, &self.context.stats).await;
            let cursors = spool.as_ref().map(Spool::status).into_iter().flat_map(|it| it.sinks);
            let alerts = cursors.filter(|it| it.name == sink).map(|it| it.waiting).sum();
            if alerts > 0 {
                tracing::warn!(sink, alerts, "alerts are kept in the spool for the next start");
            }
            if alerts + rows > 0 {
                left.push(Leftover { sink, alerts, rows });
            }
        }
        for DrainingSink { name, task, .. } in self.draining {
            let ended = tokio::time::timeout_at(deadline, task).await;
            tracing::debug!(sink = name, ?ended, "sink removed");
        }
        if let Some(spool) = spool {
            // Also saves the position of each sink.
            let closed = tokio::task::spawn_blocking(move || spool.close(CLOSE_LIMIT)).await;
            tracing::debug!(?closed, "spool closed");
        }
        left
    }
}
