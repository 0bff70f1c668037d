//! `Status`: what `netsensor status` shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::delivery::DeliveryReport;
use super::feeds::FeedReport;
use super::snapshot::{Figures, HistoryReport, LedgerReport, LossReport, SetReport, TableReport};
use crate::base::counters::Stats;
use crate::intel::Intel;
use crate::pipeline::capture::{Capture, HookState, KernelLedger};
use crate::schema::health::{Component, State, overall};
use crate::schema::notice::Speaker;
use crate::telemetry::loss_ledger::losses;

/// A hook, and whether it is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Probe {
    /// What it is attached to.
    pub name: String,
    /// Whether it was attached at start.
    pub on: bool,
    /// Why not; "" when it was.
    pub reason: String,
}

/// The last time that the agent was told to read its configuration again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReloadReport {
    /// When.
    pub time: Timestamp,
    /// Why the new configuration was refused and the old one stays; "" where it was taken.
    pub error: String,
    /// What of it waits for a restart.
    pub waits_for_restart: Vec<String>,
}

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatusReport {
    /// Always `NetsensorStatus`.
    pub r#type: String,
    /// How the agent is as a whole.
    pub state: State,
    /// The agent's version.
    pub version: String,
    /// Release of the kernel; "" where it is not known.
    #[serde(default)]
    pub kernel: String,
    /// The first digits of the SHA-256 of its BPF object.
    #[serde(default)]
    pub object: String,
    /// Its process.
    pub process_id: u32,
    /// Its UUID.
    pub agent_id: String,
    /// Full name of the host.
    pub computer: String,
    /// When it started.
    pub started: Timestamp,
    /// What the agent may not do any more.
    #[serde(default)]
    pub confined: String,
    /// What is known of its parts.
    pub components: Vec<Component>,
    /// Its hooks, those that are not needed left out.
    pub probes: Vec<Probe>,
    /// When every hook that the canary tries was last known to work.
    #[serde(default)]
    pub canary_seen: Option<Timestamp>,
    /// What became of the kernel's records.
    #[serde(default)]
    pub ledger: LedgerReport,
    /// Everything that is known to be lost, also what is not.
    #[serde(default)]
    pub losses: Vec<LossReport>,
    /// How full the tables are.
    #[serde(default)]
    pub tables: Vec<TableReport>,
    /// `None` where there is no history.
    #[serde(default)]
    pub history: Option<HistoryReport>,
    /// What connections are matched with.
    #[serde(default)]
    pub set: SetReport,
    /// Where indicators come from.
    #[serde(default)]
    pub feeds: Vec<FeedReport>,
    /// Where alerts and rows wait.
    #[serde(default)]
    pub delivery: DeliveryReport,
    /// `None` where the agent was not told to since it started.
    #[serde(default)]
    pub last_reload: Option<ReloadReport>,
    /// Every counter of the agent, and those of the kernel half (`kernel_…`).
    pub counters: BTreeMap<String, u64>,
}

/// What is shown, kept up by the pipeline's thread.
#[derive(Debug)]
pub struct Status {
    speaker: Speaker,
    started: Timestamp,
    confined: String,
    probes: Vec<Probe>,
    kernel: String,
    object: String,
    stats: Arc<Stats>,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    components: Vec<Component>,
    kernel: KernelLedger,
    ledger: LedgerReport,
    figures: Figures,
    delivery: DeliveryReport,
    last_reload: Option<ReloadReport>,
}

impl Status {
    /// Of an agent that started at `started` with these hooks.
    pub fn new(speaker: Speaker, started: Timestamp, capture: &Capture, stats: Arc<Stats>) -> Self {
        let hooks = capture.hooks();
        let probes = hooks.iter().filter_map(|hook| {
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
        Self { speaker, started, confined, probes, kernel, object, stats, live }
    }

    /// Says how the agent is confined.
    #[must_use]
    pub fn confined(self, how: &str) -> Self {
        Self { confined: how.to_owned(), ..self }
    }

    /// Replaces what changes; what the kernel counts stays where it could not be read.
    pub fn update(&self, components: &[Component], figures: Figures, delivery: DeliveryReport) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        components.clone_into(&mut live.components);
        if let Some(kernel) = figures.kernel {
            live.kernel = kernel;
            live.ledger = LedgerReport::new(&kernel, figures.received);
        }
        live.figures = figures;
        live.delivery = delivery;
    }

    /// Notes how a reload went.
    pub fn reloaded(&self, report: ReloadReport) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.last_reload = Some(report);
    }

    /// The last reload, if there was one.
    pub fn last_reload(&self) -> Option<ReloadReport> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).last_reload.clone()
    }

    /// One line of it, for the service manager.
    pub fn brief(&self, indicators: usize) -> String {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bad = live.components.iter().filter(|part| part.state == State::Degraded);
        let sinks = live.delivery.sinks.iter().map(|sink| sink.alerts_waiting);
        let waiting = sinks.max().unwrap_or(0);
        match (bad.next(), bad.count()) {
            (None, _) => format!("OK: {indicators} indicators, {waiting} alerts wait"),
            (Some(part), 0) => format!("DEGRADED: {}: {}", part.name, part.reason),
            (Some(part), more) => {
                format!("DEGRADED (and {more} more): {}: {}", part.name, part.reason)
            }
        }
    }

    /// All of it, with what `intel` says of its feeds.
    pub fn report(&self, intel: &Intel) -> StatusReport {
        let (components, kernel, ledger, figures, delivery, last_reload) = {
            let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            (
                live.components.clone(),
                live.kernel,
                live.ledger,
                live.figures.clone(),
                live.delivery.clone(),
                live.last_reload.clone(),
            )
        };
        let counters = self.stats.snapshot().into_iter().chain(kernel_counters(&kernel));
        StatusReport {
            r#type: "NetsensorStatus".to_owned(),
            state: overall(&components),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: self.kernel.clone(),
            object: self.object.clone(),
            process_id: std::process::id(),
            agent_id: self.speaker.agent_id.clone(),
            computer: self.speaker.computer.clone(),
            started: self.started,
            confined: self.confined.clone(),
            components,
            probes: self.probes.clone(),
            canary_seen: figures.canary_seen,
            ledger,
            losses: losses(&kernel, &self.stats).into_iter().map(LossReport::new).collect(),
            tables: figures.tables,
            history: figures.history,
            set: SetReport::of(&intel.set().load()),
            feeds: intel.status().iter().map(|feed| FeedReport::of(feed, false)).collect(),
            delivery,
            last_reload,
            counters: counters.map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

/// What the kernel half counted, by name.
fn kernel_counters(kernel: &KernelLedger) -> [(&'static str, u64); 15] {
    [
        ("kernel_tcp_attempted", kernel.tcp_attempted),
        ("kernel_tcp_ring_full", kernel.tcp_ring_full),
        ("kernel_tcp_missed", kernel.missed.tcp),
        ("kernel_process_attempted", kernel.process_attempted),
        ("kernel_process_ring_full", kernel.process_ring_full),
        ("kernel_process_missed", kernel.missed.process),
        ("kernel_udp_attempted", kernel.udp_attempted),
        ("kernel_udp_ring_full", kernel.udp_ring_full),
        ("kernel_udp_missed", kernel.missed.udp),
        ("kernel_udp_uncounted", kernel.udp_uncounted),
        ("kernel_dns_attempted", kernel.dns_attempted),
        ("kernel_dns_ring_full", kernel.dns_ring_full),
        ("kernel_dns_over_rate", kernel.dns_over_rate),
        ("kernel_accept_pending_evicted", kernel.accept_pending_evicted),
        ("kernel_read_failed", kernel.read_failed),
    ]
}
