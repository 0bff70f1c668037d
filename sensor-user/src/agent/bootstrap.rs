//! `Seat`: what the agent has before it gives its privileges up. All of it is taken on one thread.

use std::sync::Arc;

use anyhow::Context as _;
use nix::sys::stat::Mode;

use super::agent_id;
use super::computer_name::computer;
use super::confinement::{Confined, confine_agent};
use super::sd_notify::Notifier;
use super::sensor::Watch;
use crate::base::clock::{Clock, SystemClock};
use crate::base::counters::Stats;
use crate::config::{Config, Source};
use crate::intel::FeedFolder;
use crate::privsep::Workers;
use crate::telemetry::control::Server;
use crate::telemetry::metrics::Exporter;

/// Called once, when all of the agent runs: a test's.
pub type OnceRunning = Box<dyn FnOnce() + Send>;

/// The folder, the socket, the workers, the probes.
pub(super) struct Seat {
    pub(super) agent_id: String,
    pub(super) control: Server,
    pub(super) exporter: Option<Exporter>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stats: Arc<Stats>,
    pub(super) folder: FeedFolder,
    pub(super) workers: Arc<Workers>,
    pub(super) watching: Watch,
    pub(super) notifier: Arc<Notifier>,
    pub(super) confined: Confined,
    pub(super) once_running: Option<OnceRunning>,
}

impl Seat {
    /// Takes what takes privileges, then gives them up: every other thread is started after that.
    pub(super) fn take(
        config: &Config,
        source: &Source,
        once_running: Option<OnceRunning>,
    ) -> anyhow::Result<Self> {
        // Whatever is made is for the agent's user alone.
        nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
        let agent_id = agent_id::agent_id(&config.agent.state_dir)?.to_string();
        // Held before anything is loaded: one agent a state directory.
        let control = Server::bind(&config.agent.control_socket())?;
        let exporter = config.metrics.as_ref().map(Exporter::bind).transpose()?;
        let folder =
            FeedFolder::open(&config.agent.state_dir).context("make the folder of the feeds")?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stats = Arc::new(Stats::default());
        // Started before anything is loaded, which they would have open otherwise.
        let workers = Workers::start(&config.agent.log, Some(folder.path()), &stats);
        let workers = Arc::new(workers.context("start the workers")?);
        let parts = (&*workers, &stats);
        let mut watching = Watch::open(config, computer(config), Arc::clone(&clock), parts)?;
        let notifier = Arc::new(Notifier::new(&source.environment));
        let confined = confine_agent(config, || watching.capture().ledger().is_ok())?;
        if confined.is_whole() {
            tracing::info!("agent confined");
        } else {
            tracing::warn!(confined = %confined, "the agent is not confined, or not in all");
        }
        watching.begin()?;
        Ok(Self {
            agent_id,
            control,
            exporter,
            clock,
            stats,
            folder,
            workers,
            watching,
            notifier,
            confined,
            once_running,
        })
    }
}
