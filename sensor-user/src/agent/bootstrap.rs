//! `Bootstrap`: the privileged part of the start, on one thread.

use std::sync::Arc;

use anyhow::Context as _;
use nix::sys::stat::Mode;
use tempfile::TempDir;

use super::computer_name::computer;
use super::confinement::{Confined, confine_agent};
use super::sd_notify::Notifier;
use super::sensor::Sensor;
use super::state_disk::StateDisk;
use crate::base::clock::{Clock, SystemClock};
use crate::base::counters::Stats;
use crate::base::memory_limit::memory_limit;
use crate::config::{Config, ConfigSource};
use crate::privsep::Workers;
use crate::telemetry::metrics::Exporter;

/// Callback of tests, called once when the agent is fully running.
pub type OnRunning = Box<dyn FnOnce() + Send>;

/// State directory, control socket, workers and probes of the agent.
pub(super) struct Bootstrap {
    pub(super) state: StateDisk,
    pub(super) exporter: Option<Exporter>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stats: Arc<Stats>,
    pub(super) workers: Arc<Workers>,
    pub(super) sensor: Sensor,
    pub(super) notifier: Arc<Notifier>,
    pub(super) confined: Confined,
    pub(super) on_running: Option<OnRunning>,
}

impl Bootstrap {
    /// Does everything that needs privileges, then drops them. Every other thread is started after that,
    /// since threads inherit the confinement.
    pub(super) fn run(
        config: &Config,
        source: &ConfigSource,
        on_running: Option<OnRunning>,
    ) -> anyhow::Result<Self> {
        // Files that the agent creates are readable by its user only.
        nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
        // Read now, and remembered: the confined agent cannot read its files.
        memory_limit();
        let state = StateDisk::open(config)?;
        let exporter = config.metrics.as_ref().map(Exporter::bind).transpose()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stats = Arc::new(Stats::default());
        // Started before any program is loaded, so that workers inherit none of its descriptors.
        let workers = Workers::start(&config.agent.log, Some(state.folder.path()), &stats);
        let workers = Arc::new(workers.context("start the workers")?);
        let mut sensor =
            Sensor::open(config, computer(config), Arc::clone(&clock), &workers, &stats)?;
        let notifier = Arc::new(Notifier::new(&source.environment));
        let memory = state.memory.as_ref().map(TempDir::path);
        let confined = confine_agent(config, memory, || sensor.capture().counters().is_ok())?;
        if confined.is_whole() {
            tracing::info!("agent confined");
        } else {
            tracing::warn!(confined = %confined, "agent is not confined, or only in part");
        }
        sensor.begin()?;
        Ok(Self { state, exporter, clock, stats, workers, sensor, notifier, confined, on_running })
    }
}
