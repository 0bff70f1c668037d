//! The path: the ring is drained and every stage called, on one thread with no runtime in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::health_monitor::Vitals;
use super::reload::Fresh;
use super::sensor::Watch;
use super::watchdog::Beat;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::deliver::Outbox;
use crate::pipeline::capture::KernelLedger;
use crate::pipeline::dedup::{Alert, State};
use crate::pipeline::{Detection, Outlet};
use crate::schema::TableRow;
use crate::schema::notice::{Notice, Speaker};
use crate::telemetry::control::Stream;
use crate::telemetry::loss_ledger::LossLog;

/// Between two portions of the last rows.
const FINISH_PACE: Duration = Duration::from_millis(5);

impl Outlet for Outbox {
    fn alerts(&mut self, alerts: Vec<Alert>, state: Option<State>) {
        Self::alerts(self, alerts, state);
    }

    fn is_written(&self) -> bool {
        Self::is_written(self)
    }

    fn wants_snapshot(&self) -> bool {
        Self::wants_snapshot(self)
    }

    fn rows(&mut self, rows: Vec<TableRow>) {
        Self::rows(self, rows);
    }
}

/// What the pipeline's thread owns.
pub(super) struct Path {
    pub(super) watching: Watch,
    pub(super) detection: Detection,
    pub(super) outbox: Outbox,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stats: Arc<Stats>,
    pub(super) stream: Stream,
    pub(super) vitals: Vitals,
    pub(super) speaker: Speaker,
    /// Moves with each turn.
    pub(super) beat: Beat,
    /// Other configurations.
    pub(super) fresh: Receiver<Fresh>,
}

pub(super) type Ended = oneshot::Receiver<anyhow::Result<KernelLedger>>;

/// Starts the pipeline's thread: the ring is drained there, and the path has no runtime in it.
pub(super) fn spawn_path(
    mut path: Path,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<(Ended, oneshot::Receiver<()>)> {
    let (result, ended) = oneshot::channel();
    let (alive, died) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("pipeline".to_owned())
        .spawn(move || {
            let outcome = path.run(&stop);
            drop(alive);
            if result.send(outcome).is_err() {
                tracing::debug!("nobody waits for the pipeline any more");
            }
        })
        .context("start the pipeline's thread")?;
    Ok((ended, died))
}

impl Path {
    fn run(&mut self, stop: &AtomicBool) -> anyhow::Result<KernelLedger> {
        let mut changes = Vec::new();
        let mut losses = LossLog::new(self.speaker.clone(), self.clock.now());
        while !stop.load(Ordering::Acquire) {
            self.beat.turn();
            if let Ok(fresh) = self.fresh.try_recv() {
                self.reconfigure(fresh);
            }
            self.watching.turn(&mut changes);
            if let Some(pid) = self.watching.own_pid() {
                self.detection.matcher.set_own(pid);
            }
            let now: Timestamp = self.clock.now();
            self.detection.begin(&self.outbox);
            for answer in self.watching.answers() {
                self.detection.resolved(&answer);
            }
            for change in changes.drain(..) {
                self.detection.observe(&change, &mut self.outbox);
                self.stream.change(&change, now);
            }
            self.detection.tick(now, &mut self.outbox);
            self.detection.tick_host(now, &mut self.watching, &mut self.outbox);
            let ledger = || self.watching.capture().ledger().ok();
            let mut notices = losses.look(ledger, &self.stats, now);
            notices.extend(self.vitals.look(&mut self.watching, &self.detection, now));
            self.notify(notices, now);
            self.stream.tick();
            self.watching.wait(self.detection.is_behind())?;
        }
        let ledger = self.watching.finish(&mut changes)?;
        let now = self.clock.now();
        for answer in self.watching.answers() {
            self.detection.resolved(&answer);
        }
        for change in changes.drain(..) {
            self.detection.observe(&change, &mut self.outbox);
            self.stream.change(&change, now);
        }
        self.detection.finish_host(now, &mut self.watching, &mut self.outbox);
        while self.detection.finish(&mut self.outbox) {
            // The sinks take rows meanwhile; their queues do not hold all of a large minute.
            self.watching.capture().wait(FINISH_PACE);
        }
        self.notify(losses.finish(&ledger, &self.stats, now), now);
        Ok(ledger)
    }

    /// Goes on with what an operator may set while the agent runs.
    fn reconfigure(&mut self, Fresh { allow, history, window }: Fresh) {
        self.detection.matcher.set_allowed(allow);
        if let (Some(known), Some(config)) = (&mut self.detection.history, history) {
            known.set_config(config);
        }
        self.detection.dedup.set_length(window);
    }

    fn notify(&self, notices: Vec<Notice>, now: Timestamp) {
        for notice in notices {
            self.stream.notice(&notice, now);
            self.outbox.notice(notice);
        }
    }
}
