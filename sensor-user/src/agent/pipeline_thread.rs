//! The pipeline thread: its main loop (event loop) drains the ring buffer and calls every stage. No async
//! runtime runs on this thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::health_monitor::HealthMonitor;
use super::reload::NewSettings;
use super::sensor::Sensor;
use super::watchdog::Heartbeat;
use crate::base::clock::Clock;
use crate::base::counters::{KernelCounters, Stats};
use crate::deliver::Outbox;
use crate::pipeline::dedup::{Alert, DedupState};
use crate::pipeline::{Detection, PipelineOutput};
use crate::schema::TableRow;
use crate::schema::agent_event::{AgentEvent, AgentIdentity};
use crate::telemetry::control::Stream;
use crate::telemetry::loss_ledger::LossReporter;

/// Pause between two batches of the last rows at shutdown.
const FINISH_INTERVAL: Duration = Duration::from_millis(5);

impl PipelineOutput for Outbox {
    fn alerts(&mut self, alerts: Vec<Alert>, state: Option<DedupState>) {
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

/// State of the pipeline thread.
pub(super) struct PipelineThread {
    pub(super) sensor: Sensor,
    pub(super) detection: Detection,
    pub(super) outbox: Outbox,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stats: Arc<Stats>,
    pub(super) stream: Stream,
    pub(super) health_monitor: HealthMonitor,
    pub(super) identity: AgentIdentity,
    /// Advanced by each iteration.
    pub(super) heartbeat: Heartbeat,
    /// Settings of a reloaded configuration.
    pub(super) new_settings: Receiver<NewSettings>,
}

pub(super) type PipelineResult = oneshot::Receiver<anyhow::Result<KernelCounters>>;

/// Starts the pipeline thread. Returns its result, and a channel that is closed when it has exited.
pub(super) fn spawn_pipeline_thread(
    mut thread: PipelineThread,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<(PipelineResult, oneshot::Receiver<()>)> {
    let (result_out, result) = oneshot::channel();
    let (alive, died) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("pipeline".to_owned())
        .spawn(move || {
            let outcome = thread.run(&stop);
            drop(alive);
            if result_out.send(outcome).is_err() {
                tracing::debug!("the agent no longer waits for the pipeline thread");
            }
        })
        .context("start the pipeline thread")?;
    Ok((result, died))
}

impl PipelineThread {
    fn run(&mut self, stop: &AtomicBool) -> anyhow::Result<KernelCounters> {
        let mut changes = Vec::new();
        let mut losses = LossReporter::new(self.identity.clone(), self.clock.now());
        while !stop.load(Ordering::Acquire) {
            self.heartbeat.advance();
            if let Ok(settings) = self.new_settings.try_recv() {
                self.reconfigure(settings);
            }
            self.sensor.poll(&mut changes);
            if let Some(pid) = self.sensor.own_pid() {
                self.detection.matcher.set_own(pid);
            }
            let now: Timestamp = self.clock.now();
            self.detection.begin(&self.outbox);
            for dns_answer in self.sensor.dns_answers() {
                self.detection.add_answer(&dns_answer);
            }
            for change in changes.drain(..) {
                self.detection.observe(&change, &mut self.outbox);
                self.stream.send_change(&change, now);
            }
            self.detection.tick(now, &mut self.outbox);
            self.detection.tick_host(now, &mut self.sensor, &mut self.outbox);
            let kernel = || self.sensor.capture().counters().ok();
            let mut events = losses.poll(kernel, &self.stats, now);
            events.extend(self.health_monitor.check(&mut self.sensor, &self.detection, now));
            self.send_events(events, now);
            self.stream.tick();
            self.sensor.wait(self.detection.is_behind())?;
        }
        let kernel = self.sensor.finish(&mut changes)?;
        let now = self.clock.now();
        for dns_answer in self.sensor.dns_answers() {
            self.detection.add_answer(&dns_answer);
        }
        for change in changes.drain(..) {
            self.detection.observe(&change, &mut self.outbox);
            self.stream.send_change(&change, now);
        }
        self.detection.finish_host(now, &mut self.sensor, &mut self.outbox);
        while self.detection.finish(&mut self.outbox) {
            // The sinks take rows in the meantime: their queues do not hold all rows of a large minute.
            self.sensor.capture().wait(FINISH_INTERVAL);
        }
        self.send_events(losses.finish(&kernel, &self.stats, now), now);
        Ok(kernel)
    }

    /// Applies the settings that can change without a restart.
    fn reconfigure(&mut self, NewSettings { allow, history, window }: NewSettings) {
        self.detection.matcher.set_allowed(allow);
        if let (Some(known), Some(config)) = (&mut self.detection.history, history) {
            known.set_config(config);
        }
        self.detection.dedup.set_length(window);
    }

    fn send_events(&self, events: Vec<AgentEvent>, now: Timestamp) {
        for event in events {
            self.stream.send_event(&event, now);
            self.outbox.agent_event(event);
        }
    }
}
