//! Reload of the configuration while the agent runs (SIGHUP).
//!
//! The whole configuration is read and checked before any part is applied: an invalid configuration
//! changes nothing, and the agent is DEGRADED until a reload succeeds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::Context as _;
use jiff::SignedDuration;
use tokio::sync::oneshot;

use super::build;
use super::confinement::Confined;
use super::sd_notify::Notifier;
use super::signals::{SignalEvent, Signals};
use crate::base::clock::{Clock, signed};
use crate::config::{Config, ConfigSource};
use crate::deliver::{Deliverer, Outbox};
use crate::intel::Intel;
use crate::pipeline::history::HistoryConfig;
use crate::pipeline::matcher::AllowList;
use crate::privsep::Workers;
use crate::telemetry::control::{ReloadReport, Status};
use crate::telemetry::log::LogHandle;

/// Time that a removed sink has to send its queued items.
const REMOVED_SINK_DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Maximum duration of the shutdown, from the signal: sinks are drained, and the spool is closed.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// Settings that the pipeline thread takes from a new configuration.
#[derive(Debug)]
pub(super) struct NewSettings {
    /// Addresses that never alert.
    pub(super) allow: AllowList,
    /// Length of the dedup windows.
    pub(super) window: SignedDuration,
    /// Limits of the history.
    pub(super) history: Option<HistoryConfig>,
}

/// Applies new configurations.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) source: ConfigSource,
    /// The configuration in force.
    pub(super) config: Config,
    pub(super) intel: Arc<Intel>,
    pub(super) deliverer: Deliverer,
    /// Channel to the pipeline thread.
    pub(super) new_settings: SyncSender<NewSettings>,
    pub(super) status: Arc<Status>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) notifier: Arc<Notifier>,
    pub(super) log: Arc<LogHandle>,
    pub(super) workers: Arc<Workers>,
    pub(super) confined: Confined,
    /// Paths that the confined agent may write to.
    pub(super) written: Vec<PathBuf>,
    /// True if `VMComputer` rows are emitted.
    pub(super) has_inventory: bool,
}

impl Reloader {
    /// Handles reload requests until there is a reason to stop; returns the reason.
    pub(super) async fn until_end(
        &mut self,
        signals: &mut Signals,
        outbox: &Outbox,
        died: &mut oneshot::Receiver<()>,
    ) -> &'static str {
        self.notifier.ready(&self.brief());
        loop {
            let reason = match signals.next(outbox, &self.workers, died).await {
                // A reload can wait for the disk; a stop does not wait for it.
                SignalEvent::Reload => tokio::select! {
                    () = self.reload() => continue,
                    reason = signals.stopped() => reason,
                },
                SignalEvent::Stop(reason) => reason,
            };
            self.notifier.stopping(SHUTDOWN_LIMIT);
            return reason;
        }
    }

    /// Reads the configuration again, and applies it if it is valid.
    async fn reload(&mut self) {
        tracing::info!("reload begins");
        self.notifier.reloading();
        let time = self.clock.now();
        let (restart, error) = match self.apply().await {
            Ok(restart) => (restart, String::new()),
            Err(error) => (Vec::new(), format!("{error:#}")),
        };
        if !error.is_empty() {
            tracing::error!(error, "new configuration refused; the old one stays in force");
        } else if !restart.is_empty() {
            let sections = restart.join(", ");
            tracing::warn!(sections, "some sections of the new configuration need a restart");
        }
        self.status.record_reload(ReloadReport { time, error, waits_for_restart: restart });
        self.notifier.ready(&self.brief());
    }

    fn brief(&self) -> String {
        self.status.summary(self.intel.set().load().len())
    }

    /// Returns the sections that need a restart.
    async fn apply(&mut self) -> anyhow::Result<Vec<String>> {
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || -> anyhow::Result<(Config, AllowList)> {
            let config = source.read()?;
            let allow = build::allow_list(&config.allow)?;
            Ok((config, allow))
        });
        let (mut new, allow) = read.await.context("bug: reading it stopped; please report")??;
        let sinks = self.deliverer.reload(&new.sinks, REMOVED_SINK_DRAIN_LIMIT)?;
        let (intel, feeds) = (Arc::clone(&self.intel), new.feeds.clone());
        let count = feeds.len();
        let feeds = tokio::task::spawn_blocking(move || intel.reload(feeds));
        feeds.await.context("bug: reading the feeds stopped; please report")?;
        let window = signed(new.dedup.window);
        let settings = NewSettings { allow, window, history: new.history };
        self.new_settings.try_send(settings).context(
            "the pipeline thread does not take the new settings; is the host overloaded?",
        )?;
        self.log.set_filter(&new.agent.log)?;
        // An option of the command line, not of the file.
        new.capture.drops_per_million = self.config.capture.drops_per_million;
        let mut restart = self.config.needs_restart(&new);
        if !self.confined.may_write(&self.written, &new) {
            restart.push("sink (a new directory to write to)".to_owned());
        }
        // `VMComputer` rows start with the agent, if a sink takes rows then.
        if new.takes_rows() && !self.has_inventory {
            restart.push("VMComputer rows".to_owned());
        }
        tracing::info!(
            feeds = count,
            sinks = new.sinks.len(),
            sinks_added = sinks.added,
            sinks_changed = sinks.changed,
            sinks_removed = sinks.removed,
            "reloaded"
        );
        // Sections that need a restart keep their old values here, so that the next reload compares with the
        // values in force.
        self.config.feeds = new.feeds;
        self.config.sinks = new.sinks;
        self.config.allow = new.allow;
        self.config.agent.log = new.agent.log;
        Ok(restart)
    }
}
