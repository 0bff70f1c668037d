//! `HealthMonitor`: collects the state of each component, and emits an event when one changes.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::sensor::Sensor;
use crate::base::clock::{BootClock, Clock};
use crate::deliver::Outbox;
use crate::intel::Intel;
use crate::pipeline::Detection;
use crate::pipeline::canary::{CanaryFailure, CanaryVerdict};
use crate::pipeline::enrich::GeoIpDatabase;
use crate::pipeline::nat::NatState;
use crate::privsep::Workers;
use crate::schema::agent_event::{AgentEvent, AgentIdentity, HealthChange};
use crate::schema::health::{Component, Health, HealthState};
use crate::telemetry::control::{
    ConntrackReport, DeliveryReport, HistoryReport, PipelineSnapshot, Status, TableReport,
};

/// Interval between two checks.
const CHECK_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// Health of the agent, as the pipeline thread knows it.
#[derive(Debug)]
pub(crate) struct HealthMonitor {
    health: Health,
    parts: MonitoredParts,
    /// Copy for other threads.
    status: Arc<Status>,
    clock: Arc<dyn Clock>,
    identity: AgentIdentity,
    checked_at: Option<Timestamp>,
}

/// Components that are checked besides the hooks.
#[derive(Debug)]
pub(crate) struct MonitoredParts {
    pub(crate) intel: Arc<Intel>,
    pub(crate) outbox: Outbox,
    pub(crate) geoip: Option<Arc<GeoIpDatabase>>,
    pub(crate) workers: Arc<Workers>,
    /// Reason why the state is in memory only.
    pub(crate) state_error: Option<String>,
}

impl HealthMonitor {
    /// A monitor without any state yet.
    pub(crate) fn new(
        parts: MonitoredParts,
        status: Arc<Status>,
        clock: Arc<dyn Clock>,
        identity: AgentIdentity,
    ) -> Self {
        Self { health: Health::default(), parts, status, clock, identity, checked_at: None }
    }

    /// Checks all components if the interval has passed; returns the events to emit.
    pub(crate) fn check(
        &mut self,
        sensor: &mut Sensor,
        detection: &Detection,
        now: Timestamp,
    ) -> Vec<AgentEvent> {
        if self.checked_at.is_some_and(|checked| now.duration_since(checked).abs() < CHECK_INTERVAL)
        {
            return Vec::new();
        }
        self.checked_at = Some(now);
        let mut events = Vec::new();
        for CanaryVerdict { component, failure } in sensor.take_verdicts() {
            let reason = failure.map(|failure| self.text(component, failure));
            events.extend(self.set(component, reason, now));
        }
        for (component, reason) in self.parts.workers.check() {
            events.extend(self.set(component, reason, now));
        }
        if let Some(error) = self.parts.state_error.clone() {
            events.extend(self.set("state directory", Some(error), now));
        }
        let feeds = self.parts.intel.status();
        for feed in &feeds {
            if feed.last_pull.is_some() {
                events.extend(self.set(
                    &format!("feed {}", feed.name),
                    feed.degraded_reason(),
                    now,
                ));
            }
        }
        if let Some(error) = self.parts.geoip.as_ref().map(|database| database.error()) {
            events.extend(self.set("geo database", error, now));
        }
        let spool = self.parts.outbox.spool_status();
        if let Some(spool) = &spool {
            events.extend(self.set("spool", spool.error.clone(), now));
        }
        let sinks = self.parts.outbox.sinks();
        for sink in &sinks {
            let reason = Some(sink.error.clone()).filter(|error| !error.is_empty());
            events.extend(self.set(&format!("sink {}", sink.name), reason, now));
        }
        if let Some(reload) = self.status.last_reload() {
            let reason = Some(reload.error).filter(|error| !error.is_empty());
            events.extend(self.set("configuration", reason, now));
        }
        self.health.forget(|name| {
            let is_feed = |known: &str| feeds.iter().any(|feed| &*feed.name == known);
            let is_sink = |known: &str| sinks.iter().any(|sink| sink.name == known);
            name.strip_prefix("feed ").is_some_and(|known| !is_feed(known))
                || name.strip_prefix("sink ").is_some_and(|known| !is_sink(known))
        });
        let snapshot = self.snapshot(sensor, detection);
        self.status.update(self.health.components(), snapshot, DeliveryReport::new(spool, sinks));
        events
    }

    fn snapshot(&self, sensor: &Sensor, detection: &Detection) -> PipelineSnapshot {
        // Read before the kernel's counters: a received record has been attempted by then.
        let received = detection.stats.records_received.value();
        let kernel = sensor.capture().counters().ok();
        let tables = sensor.tables().into_iter().chain(detection.tables());
        let history = detection.history.as_ref().map(|history| {
            let (bytes, max_bytes) = history.bytes();
            HistoryReport { bytes, max_bytes }
        });
        let canary_seen = sensor.canary_seen().map(|at| BootClock::sample(&*self.clock).wall(at));
        let tables =
            tables.map(|(name, (entries, max))| TableReport::new(name, entries, max)).collect();
        let conntrack = conntrack(sensor);
        PipelineSnapshot { kernel, received, tables, history, conntrack, canary_seen }
    }

    fn text(&self, component: &str, failure: CanaryFailure) -> String {
        match failure {
            CanaryFailure::Silent(boot_ns) => {
                let since = BootClock::sample(&*self.clock).wall(boot_ns);
                let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
                format!("{component}: no event of the canary since {since}")
            }
            CanaryFailure::NotEmitted(reason) => reason,
        }
    }

    fn set(&mut self, name: &str, degraded: Option<String>, now: Timestamp) -> Option<AgentEvent> {
        let changed = self.health.set(name, degraded, now)?;
        let Component { name, state, reason, since } = changed;
        let overall = self.health.state();
        match state {
            HealthState::Degraded => {
                tracing::error!(component = name, %reason, "component is DEGRADED");
            }
            HealthState::Ok => {
                tracing::info!(component = name, agent = %overall, "component is OK again");
            }
        }
        Some(AgentEvent::Health(HealthChange {
            time_generated: since,
            computer: self.identity.computer.clone(),
            agent_id: self.identity.agent_id.clone(),
            component: name,
            state,
            reason,
            agent_state: overall,
        }))
    }
}

fn conntrack(sensor: &Sensor) -> ConntrackReport {
    match sensor.nat_state() {
        Ok(NatState { namespaces, tracking, pending }) => ConntrackReport {
            off: String::new(),
            namespaces: namespaces as u64,
            tracking: tracking as u64,
            pending: pending as u64,
        },
        Err(reason) => ConntrackReport { off: reason.to_owned(), ..ConntrackReport::default() },
    }
}
