//! `Status`: the agent's state for `netsensor status`, metrics and the service manager.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::delivery::DeliveryReport;
use super::feeds::FeedReport;
use super::snapshot::{
    ConntrackReport, HistoryReport, LedgerReport, LossReport, PipelineSnapshot, SetReport,
    TableReport,
};
use crate::base::counters::{KernelCounters, Stats};
use crate::intel::Intel;
use crate::pipeline::capture::{Capture, HookState};
use crate::schema::agent_event::AgentIdentity;
use crate::schema::health::{Component, HealthState, overall};
use crate::telemetry::loss_ledger::losses;

/// State of a kernel hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Probe {
    /// Attach point in the kernel.
    pub name: String,
    /// True if the hook was attached at start.
    pub on: bool,
    /// Reason why it was not attached, else "".
    pub reason: String,
}

/// Result of the last reload of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReloadReport {
    /// Time of the reload.
    pub time: Timestamp,
    /// Reason why the new configuration was refused and the old one stays in force, else "".
    pub error: String,
    /// Changed sections that take effect only after a restart.
    pub waits_for_restart: Vec<String>,
}

/// The response to the request `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatusReport {
    /// Always `NetsensorStatus`.
    pub r#type: String,
    /// State of the whole agent.
    pub state: HealthState,
    /// Version of the agent.
    pub version: String,
    /// Release of the kernel; "" if unknown.
    #[serde(default)]
    pub kernel: String,
    /// First digits of the SHA-256 of the BPF object.
    #[serde(default)]
    pub object: String,
    /// Process id of the agent.
    pub process_id: u32,
    /// UUID of the agent.
    pub agent_id: String,
    /// Full name of the host.
    pub computer: String,
    /// Start time of the agent.
    pub started: Timestamp,
    /// Confinement of the agent's process.
    #[serde(default)]
    pub confined: String,
    /// Components with a known state.
    pub components: Vec<Component>,
    /// Hooks, without those that are not needed.
    pub probes: Vec<Probe>,
    /// Time at which all hooks that the canary tests were last known to work.
    #[serde(default)]
    pub canary_seen: Option<Timestamp>,
    /// Balance of the kernel's records.
    #[serde(default)]
    pub ledger: LedgerReport,
    /// All counted losses, including those with count 0.
    #[serde(default)]
    pub losses: Vec<LossReport>,
    /// Occupancy of the tables.
    #[serde(default)]
    pub tables: Vec<TableReport>,
    /// Size of the history; `None` if it is disabled.
    #[serde(default)]
    pub history: Option<HistoryReport>,
    /// State of the NAT lookups.
    #[serde(default)]
    pub conntrack: ConntrackReport,
    /// Size of the indicator set.
    #[serde(default)]
    pub set: SetReport,
    /// State of each feed.
    #[serde(default)]
    pub feeds: Vec<FeedReport>,
    /// State of the spool and the sinks.
    #[serde(default)]
    pub delivery: DeliveryReport,
    /// Last reload of the configuration; `None` if there was none since the start.
    #[serde(default)]
    pub last_reload: Option<ReloadReport>,
    /// Every counter of the agent, and of its BPF programs (`kernel_…`).
    pub counters: BTreeMap<String, u64>,
}

/// Current state of the agent; the pipeline thread updates it.
#[derive(Debug)]
pub struct Status {
    identity: AgentIdentity,
    started: Timestamp,
    confined: String,
    probes: Vec<Probe>,
    kernel: String,
    object: String,
    stats: Arc<Stats>,
    live: Mutex<Live>,
}

#[derive(Debug, Clone, Default)]
struct Live {
    components: Vec<Component>,
    kernel: KernelCounters,
    ledger: LedgerReport,
    snapshot: PipelineSnapshot,
    delivery: DeliveryReport,
    last_reload: Option<ReloadReport>,
}

impl Status {
    /// Status of an agent that started at `started` with the hooks of `capture`.
    pub fn new(
        identity: AgentIdentity,
        started: Timestamp,
        capture: &Capture,
        stats: Arc<Stats>,
    ) -> Self {
        let probes = capture.hooks().iter().filter_map(|hook| {
            let (on, reason) = match &hook.state {
                HookState::On => (true, String::new()),
                HookState::Off(reason) => (false, reason.clone()),
                HookState::NotNeeded => return None,
            };
            Some(Probe { name: hook.attach.to_owned(), on, reason })
        });
        let probes = probes.collect();
        let kernel = nix::sys::utsname::uname();
        let kernel = kernel.map(|it| it.release().to_string_lossy().into_owned());
        let (kernel, object) = (kernel.unwrap_or_default(), capture.object().to_owned());
        let (confined, live) = (String::new(), Mutex::default());
        Self { identity, started, confined, probes, kernel, object, stats, live }
    }

    pub(super) const fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Sets the description of the agent's confinement.
    #[must_use]
    pub fn with_confinement(self, description: &str) -> Self {
        Self { confined: description.to_owned(), ..self }
    }

    /// Replaces the state of the components, the pipeline and the sinks. If the kernel's counters
    /// could not be read, the previous ones stay.
    pub fn update(
        &self,
        components: &[Component],
        snapshot: PipelineSnapshot,
        delivery: DeliveryReport,
    ) {
        let mut live = self.live();
        components.clone_into(&mut live.components);
        if let Some(kernel) = snapshot.kernel {
            live.kernel = kernel;
            live.ledger = LedgerReport::new(&kernel, snapshot.received);
        }
        live.snapshot = snapshot;
        live.delivery = delivery;
    }

    /// Records the result of a reload.
    pub fn record_reload(&self, report: ReloadReport) {
        self.live().last_reload = Some(report);
    }

    /// Returns the result of the last reload, if there was one.
    pub fn last_reload(&self) -> Option<ReloadReport> {
        self.live().last_reload.clone()
    }

    /// Returns a summary of one line, for the service manager.
    pub fn summary(&self, indicators: usize) -> String {
        let live = self.live();
        let mut degraded =
            live.components.iter().filter(|part| part.state == HealthState::Degraded);
        let sinks = live.delivery.sinks.iter().map(|sink| sink.alerts_waiting);
        let waiting = sinks.max().unwrap_or(0);
        match (degraded.next(), degraded.count()) {
            (None, _) => format!("OK: {indicators} indicators, {waiting} alerts wait"),
            (Some(part), 0) => format!("DEGRADED: {}: {}", part.name, part.reason),
            (Some(part), more) => {
                format!("DEGRADED (and {more} more): {}: {}", part.name, part.reason)
            }
        }
    }

    /// Returns the full report, with the feeds and indicators of `intel`.
    pub fn report(&self, intel: &Intel) -> StatusReport {
        let Live { components, kernel, ledger, snapshot, delivery, last_reload } =
            self.live().clone();
        let counters = kernel.snapshot().chain(self.stats.snapshot());
        StatusReport {
            r#type: "NetsensorStatus".to_owned(),
            state: overall(&components),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: self.kernel.clone(),
            object: self.object.clone(),
            process_id: std::process::id(),
            agent_id: self.identity.agent_id.clone(),
            computer: self.identity.computer.clone(),
            started: self.started,
            confined: self.confined.clone(),
            components,
            probes: self.probes.clone(),
            canary_seen: snapshot.canary_seen,
            ledger,
            losses: losses(&kernel, &self.stats).into_iter().map(LossReport::from).collect(),
            tables: snapshot.tables,
            history: snapshot.history,
            conntrack: snapshot.conntrack,
            set: SetReport::from(&**intel.set().load()),
            feeds: intel.status().iter().map(|feed| FeedReport::new(feed, false)).collect(),
            delivery,
            last_reload,
            counters: counters.map(|(counter, value)| (counter.name.to_owned(), value)).collect(),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
