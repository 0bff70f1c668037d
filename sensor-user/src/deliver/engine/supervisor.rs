//! `Deliverer`: runs the sinks, a task each, behind the spool.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::handle::{Common, Leaving, Running};
use super::outbox::{Leftover, Outbox, Pace};
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::sinks::Transport;
use crate::deliver::spool::{DeadLetters, RecoveredState, Spool, SpoolConfig, SpoolError};
use crate::deliver::{DeliverError, SinkConfig};

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
    sinks: Vec<Running>,
    /// Sinks that are not configured any more, on their way out.
    leaving: Vec<Leaving>,
    common: Common,
    outbox: Outbox,
}

/// What another configuration came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Sinks that are new.
    pub added: usize,
    /// Sinks that are configured otherwise.
    pub changed: usize,
    /// Sinks that are there no more.
    pub removed: usize,
}

/// Why delivery cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spool cannot be opened.
    #[error("open the spool")]
    Spool(#[source] SpoolError),
    /// A sink takes alerts, and there is no spool.
    #[error(
        "sink {name}: takes alerts, and no sink did when the agent was started; restart the agent"
    )]
    NoSpool {
        /// Which.
        name: String,
    },
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
    ) -> Result<(Outbox, Self, RecoveredState), StartError> {
        let takers = delivery.sinks.iter().filter(|sink| sink.alerts);
        let takers: Vec<String> = takers.map(|sink| sink.name.clone()).collect();
        let (spool, recovered) = if takers.is_empty() {
            (None, RecoveredState::default())
        } else {
            let clock = Arc::clone(clock);
            let opened = Spool::open(delivery.folder, delivery.spool, &takers, clock, stats);
            let (spool, recovered) = opened.map_err(StartError::Spool)?;
            (Some(spool), recovered)
        };
        let stdout_closed = Arc::new(AtomicBool::new(false));
        let outbox =
            Outbox::new(Vec::new(), spool.clone(), Arc::clone(stats), Arc::clone(&stdout_closed));
        let common = Common {
            pace: delivery.pace,
            stats: Arc::clone(stats),
            clock: Arc::clone(clock),
            stdout_closed,
            dead_letters: Arc::new(DeadLetters::new(
                delivery.folder,
                Arc::clone(clock),
                Arc::clone(stats),
            )),
            spool,
        };
        let leaving = Vec::new();
        let mut deliverer = Self { sinks: Vec::new(), leaving, common, outbox: outbox.clone() };
        deliverer.reload(delivery.sinks, Duration::ZERO)?;
        Ok((outbox, deliverer, recovered))
    }

    /// Goes on with other sinks. What is configured as before runs on; what is configured otherwise
    /// ends, for `limit` at most, and begins again where it was; a new sink begins at the oldest
    /// alert that is retained. Of a sink that is there no more, nothing is kept. Where one cannot be
    /// made, nothing is changed.
    pub fn reload(
        &mut self,
        sinks: &[SinkConfig],
        limit: Duration,
    ) -> Result<Reloaded, StartError> {
        for config in sinks {
            self.check(config)?;
        }
        self.leaving.retain(|gone| !gone.task.is_finished());
        for config in sinks {
            if let Some(gone) = self.leaving.iter().find(|gone| gone.name == config.name) {
                gone.returns();
            }
            self.take_alerts(config)?;
        }
        let deadline = Instant::now() + limit;
        let (mut before, mut now) = (std::mem::take(&mut self.sinks), Vec::new());
        let (old_lanes, mut lanes) = (self.outbox.lanes(), Vec::new());
        let mut reloaded = Reloaded::default();
        for config in sinks {
            let old = before.iter().position(|sink| sink.config.name == config.name);
            let old = old.map(|at| before.swap_remove(at));
            let lane = old_lanes.iter().find(|lane| lane.name == config.name);
            match (old, lane) {
                (Some(same), Some(lane)) if same.config == *config => {
                    now.push(same);
                    lanes.push(Arc::clone(lane));
                }
                (old, _) => {
                    let count =
                        if old.is_some() { &mut reloaded.changed } else { &mut reloaded.added };
                    *count += 1;
                    let before = match old {
                        Some(old) => Some(old.end(deadline, &self.common.stats)),
                        None => self.returning(&config.name),
                    };
                    let (running, lane) = Running::start(config, &self.common, before);
                    now.push(running);
                    lanes.push(Arc::new(lane));
                }
            }
        }
        self.outbox.set_lanes(lanes);
        reloaded.removed = before.len();
        let leave = |gone| Leaving::start(gone, deadline, &self.common);
        self.leaving.extend(before.into_iter().map(leave));
        self.sinks = now;
        Ok(reloaded)
    }

    /// The end of a sink of that name that was on its way out.
    fn returning(&mut self, name: &str) -> Option<JoinHandle<()>> {
        let at = self.leaving.iter().position(|gone| gone.name == name)?;
        Some(self.leaving.swap_remove(at).task)
    }

    /// Whether a sink can be made.
    fn check(&self, config: &SinkConfig) -> Result<(), StartError> {
        let name = || config.name.clone();
        if config.alerts && self.common.spool.is_none() {
            return Err(StartError::NoSpool { name: name() });
        }
        let checked = Transport::check(&config.kind, &self.common.stats);
        checked.map_err(|source| StartError::Sink { name: name(), source })
    }

    /// Gives the sink a cursor where it has none, or takes it away.
    fn take_alerts(&self, config: &SinkConfig) -> Result<(), StartError> {
        let Some(spool) = &self.common.spool else { return Ok(()) };
        if !config.alerts {
            spool.remove_sink(&config.name);
            return Ok(());
        }
        spool.add_sink(&config.name).map_err(StartError::Spool)
    }

    /// Ends the sinks: what waits is still sent, for `limit` at most, and alerts until some tries
    /// have failed: those stay in the spool, for the next start. Rows that are left are dropped,
    /// counted and logged. What was left is returned (empty: nothing was). Rows put into the outbox
    /// after this call are refused and counted.
    pub async fn drain(mut self, limit: Duration) -> Vec<Leftover> {
        let deadline = Instant::now() + limit;
        let mut is_kept = false;
        let spool = self.common.spool.take();
        if let Some(spool) = spool.clone() {
            // What was put last is on disk before anybody is told that no more comes.
            let flushed = tokio::task::spawn_blocking(move || spool.flush(limit)).await;
            is_kept = flushed.unwrap_or(false);
        }
        self.sinks.iter().for_each(|sink| sink.close(is_kept));
        let mut left = Vec::new();
        for sink in self.sinks {
            let name = sink.config.name.clone();
            let rows = sink.ended(deadline, &self.common.stats).await;
            let status = spool.as_ref().map(Spool::status);
            let its = status.iter().flat_map(|spool| &spool.sinks).find(|sink| sink.name == name);
            let alerts = its.map_or(0, |sink| sink.waiting);
            if alerts > 0 {
                tracing::warn!(
                    sink = name,
                    alerts,
                    "alerts are kept in the spool for the next start"
                );
            }
            if alerts + rows > 0 {
                left.push(Leftover { sink: name, alerts, rows });
            }
        }
        for Leaving { name, task, .. } in self.leaving {
            let left = tokio::time::timeout_at(deadline, task).await;
            tracing::debug!(sink = name, ?left, "sink removed");
        }
        if let Some(spool) = spool {
            // And with it how far each sink has come.
            let closed = tokio::task::spawn_blocking(move || spool.close(CLOSE_LIMIT)).await;
            tracing::debug!(?closed, "spool closed");
        }
        left
    }
}
