//! `Keeper`: signs of life for the service manager, fed by the pipeline's own progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::sd_notify::Notifier;

/// How often the pipeline is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// The pipeline's progress: it moves with each turn of the path.
#[derive(Debug, Clone, Default)]
pub struct Beat(Arc<AtomicU64>);

impl Beat {
    /// One turn more.
    pub fn turn(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn turns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Says that the agent lives while the pipeline turns, and how it is.
#[derive(Debug)]
pub struct Keeper<S> {
    notifier: Arc<Notifier>,
    beat: Beat,
    status: S,
}

impl<S: Fn() -> String + Send> Keeper<S> {
    /// `status` is what people are told.
    pub const fn new(notifier: Arc<Notifier>, beat: Beat, status: S) -> Self {
        Self { notifier, beat, status }
    }

    /// Does so until it is dropped: in three times the interval that the manager asks for, so that
    /// one look that is late does no harm.
    pub async fn keep(self) {
        let every = self.notifier.watchdog().map_or(LOOK, |limit| (limit / 3).min(LOOK));
        let mut look = interval(every.max(Duration::from_millis(10)));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // No sign before the first turn.
        let (mut seen, mut moved, mut said) = (0, Instant::now(), String::new());
        let mut is_stalled = false;
        loop {
            look.tick().await;
            let turns = self.beat.turns();
            if std::mem::replace(&mut seen, turns) == turns {
                let still = moved.elapsed();
                if still > STALL && !std::mem::replace(&mut is_stalled, true) {
                    let seconds = still.as_secs();
                    tracing::error!(seconds, "the pipeline does not move; please report");
                }
            } else {
                (moved, is_stalled) = (Instant::now(), false);
                if self.notifier.watchdog().is_some() {
                    self.notifier.alive();
                }
            }
            let status = (self.status)();
            if status != said {
                self.notifier.status(&status);
                said = status;
            }
        }
    }
}

/// After so long without a turn the pipeline has stalled: it sleeps half a second at most.
const STALL: Duration = Duration::from_secs(10);
