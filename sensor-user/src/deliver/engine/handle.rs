//! A sink's task from outside: how it is started, told to end, and waited for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::outbox::{Lane, Pace, Waiting};
use super::sink_status::SinkState;
use super::task::{Sink, Surroundings};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::log_throttle::LogThrottle;
use crate::deliver::spool::{DeadLetters, Spool};
use crate::deliver::{SinkConfig, chain};

/// What every sink is given.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) pace: Pace,
    pub(crate) stats: Arc<Stats>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stdout_closed: Arc<AtomicBool>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    /// `None` where no sink took alerts when delivery began.
    pub(crate) spool: Option<Spool>,
}

/// A sink that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) config: SinkConfig,
    task: JoinHandle<()>,
    waiting: Arc<Waiting>,
    closing: watch::Sender<bool>,
    /// Whether all alerts are on disk, said before `closing`.
    kept: Arc<AtomicBool>,
}

impl Running {
    /// Starts the task, and gives the end that rows are put into. The end of one with the same name
    /// that ran `before` is waited for: neither sends what the other settles.
    pub(crate) fn start(
        config: &SinkConfig,
        common: &Common,
        before: Option<JoinHandle<()>>,
    ) -> (Self, Lane) {
        let (waiting, state) = (Arc::<Waiting>::default(), Arc::<SinkState>::default());
        let (rows, rows_out) = mpsc::channel(config.queue.max(1));
        let (closing, closing_seen) = watch::channel(false);
        let kept = Arc::new(AtomicBool::new(false));
        let with = Surroundings {
            pace: common.pace,
            stats: Arc::clone(&common.stats),
            clock: Arc::clone(&common.clock),
            stdout_closed: Arc::clone(&common.stdout_closed),
            closing: closing_seen,
            kept: Arc::clone(&kept),
            waiting: Arc::clone(&waiting),
            state: Arc::clone(&state),
            dead_letters: Arc::clone(&common.dead_letters),
        };
        let lane = Lane {
            name: config.name.clone(),
            takes_rows: config.rows,
            takes_notices: config.takes_notices(),
            rows: (config.rows || config.health).then_some(rows),
            waiting: Arc::clone(&waiting),
            state: Arc::clone(&state),
            quiet: LogThrottle::new(),
        };
        let (of_task, common) = (config.clone(), common.clone());
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let ended = before.await;
                tracing::debug!(sink = of_task.name, ?ended, "sink takes over");
            }
            // Its place is where the one before has come to.
            let spool = common.spool.as_ref().filter(|_| of_task.alerts);
            let reader = spool.and_then(|spool| spool.reader(&of_task.name));
            match Sink::new(&of_task, reader, rows_out, with) {
                Ok(sink) => sink.run().await,
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(sink = of_task.name, %error, "sink does not start");
                    state.failed(error);
                }
            }
        });
        (Self { config: config.clone(), task, waiting, closing, kept }, lane)
    }

    /// No more items come; `kept`: alerts that are left stay in the spool.
    pub(crate) fn close(&self, kept: bool) {
        self.kept.store(kept, Ordering::Release);
        self.closing.send_replace(true);
    }

    /// Ends it within the time, on a task of its own.
    pub(crate) fn end(self, deadline: Instant, stats: &Arc<Stats>) -> JoinHandle<()> {
        self.close(true);
        let stats = Arc::clone(stats);
        tokio::spawn(async move {
            self.ended(deadline, &stats).await;
        })
    }

    /// Waits until it has ended, and cuts it at `deadline`. Gives the number of rows that it has not
    /// delivered: they are dropped, counted and logged.
    pub(crate) async fn ended(mut self, deadline: Instant, stats: &Stats) -> u64 {
        let name = &self.config.name;
        if tokio::time::timeout_at(deadline, &mut self.task).await.is_err() {
            self.task.abort();
            // Until it has ended it may still settle items.
            let ended = self.task.await;
            tracing::debug!(sink = name, cut = ended.is_err(), "sink ended");
        }
        let rows = self.waiting.count();
        stats.rows_dropped_shutdown.add(rows);
        if rows > 0 {
            tracing::error!(sink = name, rows, "rows are not delivered before the end");
        }
        rows
    }
}

/// A sink that is configured no more, on its way out.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) name: String,
    pub(crate) task: JoinHandle<()>,
    /// It is configured again: what it has not taken is kept for it.
    returns: Arc<Mutex<bool>>,
}

impl Leaving {
    /// Lets `sink` send what waits until `deadline`; then the spool keeps nothing for it any more.
    pub(crate) fn start(sink: Running, deadline: Instant, common: &Common) -> Self {
        sink.close(true);
        let (name, common) = (sink.config.name.clone(), common.clone());
        let returns = Arc::<Mutex<bool>>::default();
        let seen = Arc::clone(&returns);
        let of_task = name.clone();
        let task = tokio::spawn(async move {
            sink.ended(deadline, &common.stats).await;
            let returns = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(spool) = common.spool.filter(|_| !*returns) else { return };
            let alerts = spool.remove_sink(&of_task);
            if alerts > 0 {
                let sink = of_task;
                tracing::warn!(sink, alerts, "sink removed with alerts that it has not taken");
            }
        });
        Self { name, task, returns }
    }

    /// Its name is configured again: what it has not taken is kept, unless it had left.
    pub(crate) fn returns(&self) {
        *self.returns.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}
