//! `SinkHandle`: starts, drains and stops the task of a sink.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::context::{DeliveryContext, SinkPhase};
use super::outbox::SinkChannel;
use super::sink_health::SinkHealth;
use super::sink_task::SinkTask;
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::SinkConfig;

/// A running sink.
#[derive(Debug)]
pub(super) struct SinkHandle {
    pub(super) config: SinkConfig,
    pub(super) channel: Arc<SinkChannel>,
    task: JoinHandle<()>,
    phase: watch::Sender<SinkPhase>,
}

impl SinkHandle {
    /// Starts the task once `predecessor`, the task of a sink with the same name, has ended: neither
    /// sends alerts that the other acknowledges.
    pub(super) fn start(
        config: &SinkConfig,
        context: &DeliveryContext,
        predecessor: Option<JoinHandle<()>>,
    ) -> Self {
        let health = Arc::new(SinkHealth::new(config.name.clone()));
        let (rows, queued_rows) = mpsc::channel(config.queue.max(1));
        let (phase, phase_receiver) = watch::channel(SinkPhase::Running);
        let channel = SinkChannel {
            name: config.name.clone(),
            takes_rows: config.rows,
            takes_agent_events: config.takes_agent_events(),
            rows: (config.rows || config.health).then_some(rows),
            health: Arc::clone(&health),
            log_throttle: LogThrottle::new(),
        };
        let (task_config, context) = (config.clone(), context.clone());
        let task = tokio::spawn(async move {
            if let Some(predecessor) = predecessor {
                let ended = predecessor.await;
                tracing::debug!(sink = task_config.name, ?ended, "sink takes over");
            }
            let task_health = Arc::clone(&health);
            match SinkTask::new(&task_config, queued_rows, context, phase_receiver, task_health) {
                Ok(task) => task.run().await,
                Err(error) => {
                    let error = error.log_text();
                    tracing::error!(sink = task_config.name, %error, "sink does not start");
                    health.record_failure(error);
                }
            }
        });
        Self { config: config.clone(), channel: Arc::new(channel), task, phase }
    }

    /// Starts to drain: no more items are queued. With `alerts_durable`, undelivered alerts stay in
    /// the spool.
    pub(super) fn drain(&self, alerts_durable: bool) {
        self.phase.send_replace(SinkPhase::Draining { alerts_durable });
    }

    /// Drains and stops the task by `deadline`, in the background.
    pub(super) fn stop(self, deadline: Instant, stats: &Arc<Stats>) -> JoinHandle<()> {
        self.drain(true);
        let stats = Arc::clone(stats);
        tokio::spawn(async move {
            self.join(deadline, &stats).await;
        })
    }

    /// Waits for the end of the task, and aborts it at `deadline`. Returns the number of undelivered
    /// rows: they are dropped, counted and logged.
    pub(super) async fn join(mut self, deadline: Instant, stats: &Stats) -> u64 {
        let name = &self.config.name;
        if tokio::time::timeout_at(deadline, &mut self.task).await.is_err() {
            self.task.abort();
            // It may still acknowledge items until it has ended.
            let ended = self.task.await;
            tracing::debug!(sink = name, aborted = ended.is_err(), "sink ended");
        }
        let rows = self.channel.health.rows_waiting();
        stats.rows_dropped_shutdown.add(rows);
        if rows > 0 {
            tracing::error!(sink = name, rows, "undelivered rows dropped");
        }
        rows
    }
}

/// A sink that was removed from the configuration, and is draining.
#[derive(Debug)]
pub(super) struct DrainingSink {
    pub(super) name: String,
    pub(super) task: JoinHandle<()>,
    is_configured_again: Arc<Mutex<bool>>,
}

impl DrainingSink {
    /// Drains `sink` until `deadline`. The spool retains no alerts for it afterwards.
    pub(super) fn start(sink: SinkHandle, deadline: Instant, context: &DeliveryContext) -> Self {
        sink.drain(true);
        let name = sink.config.name.clone();
        let is_configured_again = Arc::<Mutex<bool>>::default();
        let (task_name, flag) = (name.clone(), Arc::clone(&is_configured_again));
        let (stats, spool) = (Arc::clone(&context.stats), context.spool.clone());
        let task = tokio::spawn(async move {
            sink.join(deadline, &stats).await;
            let is_configured_again = flag.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(spool) = spool.filter(|_| !*is_configured_again) else { return };
            let alerts = spool.remove_sink(&task_name);
            if alerts > 0 {
                tracing::warn!(sink = task_name, alerts, "sink removed with undelivered alerts");
            }
        });
        Self { name, task, is_configured_again }
    }

    /// Retains the undelivered alerts for a new sink of this name, unless they are gone already.
    pub(super) fn retain_alerts(&self) {
        *self.is_configured_again.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}
