//! `Deliverer`: runs the sinks, a task each, behind the spool.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::outbox::{Lane, Leftover, Outbox, Pace, Waiting};
use super::sink::{Sink, Surroundings};
use super::sink_state::SinkState;
use super::spool::{Recovered, Rejected, Spool, SpoolConfig, SpoolError};
use super::{DeliverError, Quiet, SinkConfig};
use crate::clock::Clock;
use crate::stats::Stats;

/// How long the last write of the spool may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// How delivery is set up.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'d> {
    /// Where alerts and rows go, with unique names.
    pub sinks: &'d [SinkConfig],
    /// Folder of the spool.
    pub folder: &'d Path,
    /// How much the spool holds.
    pub spool: &'d SpoolConfig,
    /// Waits.
    pub pace: Pace,
}

/// Runs the sinks: one task each.
#[derive(Debug)]
pub struct Deliverer {
    tasks: Vec<Running>,
    spool: Option<Spool>,
    closing: watch::Sender<bool>,
    /// Whether all alerts are on disk, said before `closing`.
    kept: Arc<AtomicBool>,
    stats: Arc<Stats>,
}

#[derive(Debug)]
struct Running {
    name: String,
    task: JoinHandle<()>,
    waiting: Arc<Waiting>,
}

/// Why delivery cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spool cannot be opened.
    #[error("open the spool")]
    Spool(#[source] SpoolError),
    /// A sink cannot be made.
    #[error("sink {name}")]
    Sink {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: DeliverError,
    },
}

impl Deliverer {
    /// Opens the spool and starts a task for each sink; must be called on a tokio runtime. Also gives
    /// what the spool has of an earlier run.
    ///
    /// A write to standard output that nobody reads blocks a thread of the runtime's: end the
    /// runtime with `shutdown_timeout` or `shutdown_background`, not by dropping it.
    pub fn start(
        delivery: Delivery<'_>,
        stats: &Arc<Stats>,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Outbox, Self, Recovered), StartError> {
        let (closing, closing_seen) = watch::channel(false);
        let stdout_closed = Arc::new(AtomicBool::new(false));
        let takers = delivery.sinks.iter().filter(|sink| sink.alerts);
        let takers: Vec<String> = takers.map(|sink| sink.name.clone()).collect();
        let (spool, recovered) = if takers.is_empty() {
            (None, Recovered::default())
        } else {
            let clock = Arc::clone(clock);
            let opened = Spool::open(delivery.folder, delivery.spool, &takers, clock, stats);
            let (spool, recovered) = opened.map_err(StartError::Spool)?;
            (Some(spool), recovered)
        };
        let rejected =
            Arc::new(Rejected::new(delivery.folder, Arc::clone(clock), Arc::clone(stats)));
        let kept = Arc::new(AtomicBool::new(false));
        let (mut lanes, mut ready) = (Vec::new(), Vec::new());
        for config in delivery.sinks {
            let (waiting, state) = (Arc::<Waiting>::default(), Arc::<SinkState>::default());
            let (rows, rows_out) = mpsc::channel(config.queue.max(1));
            let with = Surroundings {
                pace: delivery.pace,
                stats: Arc::clone(stats),
                clock: Arc::clone(clock),
                stdout_closed: Arc::clone(&stdout_closed),
                closing: closing_seen.clone(),
                kept: Arc::clone(&kept),
                waiting: Arc::clone(&waiting),
                state: Arc::clone(&state),
                rejected: Arc::clone(&rejected),
            };
            let reader = spool.as_ref().filter(|_| config.alerts);
            let reader = reader.and_then(|spool| spool.reader(&config.name));
            let sink = Sink::new(config, reader, rows_out, with);
            let name = config.name.clone();
            let sink = sink.map_err(|source| StartError::Sink { name: name.clone(), source })?;
            ready.push((name.clone(), sink, Arc::clone(&waiting)));
            lanes.push(Lane {
                name,
                takes_rows: config.rows,
                takes_notices: config.takes_notices(),
                rows: (config.rows || config.health).then_some(rows),
                waiting,
                state,
                quiet: Quiet::new(),
            });
        }
        let running = |(name, sink, waiting): (String, Sink, _)| Running {
            name,
            task: tokio::spawn(sink.run()),
            waiting,
        };
        let tasks = ready.into_iter().map(running).collect();
        let outbox = Outbox::new(lanes, spool.clone(), Arc::clone(stats), stdout_closed);
        Ok((outbox, Self { tasks, spool, closing, kept, stats: Arc::clone(stats) }, recovered))
    }

    /// Ends the sinks: what waits is still sent, for `limit` at most, and alerts until some tries
    /// have failed: those stay in the spool, for the next start. Rows that are left are dropped,
    /// counted and logged. What was left is returned (empty: nothing was). Rows put into the outbox
    /// after this call are refused and counted.
    pub async fn drain(self, limit: Duration) -> Vec<Leftover> {
        let deadline = Instant::now() + limit;
        if let Some(spool) = self.spool.clone() {
            // What was put last is on disk before anybody is told that no more comes.
            let flushed = tokio::task::spawn_blocking(move || spool.flush(limit)).await;
            self.kept.store(flushed.unwrap_or(false), Ordering::Release);
        }
        self.closing.send_replace(true);
        let mut left = Vec::new();
        for Running { name, mut task, waiting } in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
                // Until it has ended it may still settle items.
                let ended = task.await;
                tracing::debug!(cut = ended.is_err(), "sink {name}: ended");
            }
            let status = self.spool.as_ref().map(Spool::status);
            let its = status.iter().flat_map(|spool| &spool.sinks).find(|sink| sink.name == name);
            let (alerts, rows) = (its.map_or(0, |sink| sink.waiting), waiting.count());
            self.stats.rows_dropped_shutdown.add(rows);
            if rows > 0 {
                tracing::error!(rows, "sink {name}: not delivered before the end");
            }
            if alerts > 0 {
                tracing::warn!(alerts, "sink {name}: kept in the spool for the next start");
            }
            if alerts + rows > 0 {
                left.push(Leftover { sink: name, alerts, rows });
            }
        }
        if let Some(spool) = self.spool {
            // And with it how far each sink has come.
            let closed = tokio::task::spawn_blocking(move || spool.close(CLOSE_LIMIT)).await;
            tracing::debug!(?closed, "spool closed");
        }
        left
    }
}
