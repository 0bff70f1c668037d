//! `Watchdog`: keep-alive notifications to the service manager, fed by the progress of the pipeline thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::sd_notify::Notifier;

/// Maximum interval between two checks of the heartbeat.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Progress of the pipeline thread: it advances with each iteration.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat(Arc<AtomicU64>);

impl Heartbeat {
    /// Counts one iteration.
    pub fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn iterations(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Notifies the service manager that the agent is alive, as long as the pipeline thread makes progress, and
/// of its status.
#[derive(Debug)]
pub struct Watchdog<S> {
    notifier: Arc<Notifier>,
    heartbeat: Heartbeat,
    status: S,
}

impl<S: Fn() -> String + Send> Watchdog<S> {
    /// `status` returns the status text for operators.
    pub const fn new(notifier: Arc<Notifier>, heartbeat: Heartbeat, status: S) -> Self {
        Self { notifier, heartbeat, status }
    }

    /// Runs until it is dropped. It checks at a third of the manager's timeout, so that one late check
    /// does not trigger it.
    pub async fn run(self) {
        let every = self
            .notifier
            .watchdog()
            .map_or(CHECK_INTERVAL, |limit| (limit / 3).min(CHECK_INTERVAL));
        let mut ticks = interval(every.max(Duration::from_millis(10)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // No notification before the first iteration.
        let (mut seen, mut progressed, mut reported) = (0, Instant::now(), String::new());
        let mut is_stalled = false;
        loop {
            ticks.tick().await;
            let iterations = self.heartbeat.iterations();
            if std::mem::replace(&mut seen, iterations) == iterations {
                let stalled_for = progressed.elapsed();
                if stalled_for > STALL_AFTER && !std::mem::replace(&mut is_stalled, true) {
                    let seconds = stalled_for.as_secs();
                    tracing::error!(seconds, "the pipeline thread has stalled; please report");
                }
            } else {
                (progressed, is_stalled) = (Instant::now(), false);
                if self.notifier.watchdog().is_some() {
                    self.notifier.alive();
                }
            }
            let status = (self.status)();
            if status != reported {
                self.notifier.status(&status);
                reported = status;
            }
        }
    }
}

/// Time without an iteration after which the pipeline thread counts as stalled; it sleeps at most half a
/// second.
const STALL_AFTER: Duration = Duration::from_secs(10);
