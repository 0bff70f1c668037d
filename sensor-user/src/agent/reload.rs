//! Reload: another configuration, taken while the agent runs (SIGHUP).
//!
//! All of it is read and checked before any of it is taken: a configuration that cannot be used
//! changes nothing, and the agent says so until one can.

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
use super::signals::{Signals, Told};
use crate::base::clock::{Clock, signed};
use crate::config::{Config, Source};
use crate::deliver::{Deliverer, Outbox};
use crate::intel::Intel;
use crate::pipeline::history::HistoryConfig;
use crate::pipeline::matcher::AllowList;
use crate::privsep::Workers;
use crate::telemetry::control::{ReloadReport, Status};
use crate::telemetry::log::Handle;

/// How long a sink that is not configured any more may take to send what waits.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// How long the end takes at most, from the signal on: sinks are drained, the spool is closed.
const END_LIMIT: Duration = Duration::from_secs(20);

/// What the path takes of another configuration.
#[derive(Debug)]
pub(super) struct Fresh {
    /// What never alerts.
    pub(super) allow: AllowList,
    /// Length of dedup's windows.
    pub(super) window: SignedDuration,
    /// How much the history holds.
    pub(super) history: Option<HistoryConfig>,
}

/// Takes other configurations.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) source: Source,
    /// The one that is in force.
    pub(super) config: Config,
    pub(super) intel: Arc<Intel>,
    pub(super) deliverer: Deliverer,
    /// To the path.
    pub(super) fresh: SyncSender<Fresh>,
    pub(super) status: Arc<Status>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) notifier: Arc<Notifier>,
    pub(super) log: Arc<Handle>,
    pub(super) workers: Arc<Workers>,
    /// How the agent is confined, and where it could write when it was.
    pub(super) confined: (Confined, Vec<PathBuf>),
    /// Whether it tells of the host itself, for sinks of rows.
    pub(super) has_inventory: bool,
}

impl Reloader {
    /// Reloads as often as it is told to, until there is a reason to end.
    pub(super) async fn until_end(
        &mut self,
        signals: &mut Signals,
        outbox: &Outbox,
        died: &mut oneshot::Receiver<()>,
    ) -> &'static str {
        self.notifier.ready(&self.brief());
        loop {
            match signals.next((outbox, &self.workers), died).await {
                Told::Reload => self.reload().await,
                Told::End(reason) => {
                    self.notifier.stopping(END_LIMIT);
                    return reason;
                }
            }
        }
    }

    /// Reads the configuration again, and takes it where it can be used.
    async fn reload(&mut self) {
        tracing::info!("reload begins");
        self.notifier.reloading();
        let time = self.clock.now();
        let (restart, error) = match self.take().await {
            Ok(restart) => (restart, String::new()),
            Err(error) => (Vec::new(), format!("{error:#}")),
        };
        if !error.is_empty() {
            tracing::error!(error, "new configuration refused; the old one stays");
        } else if !restart.is_empty() {
            let sections = restart.join(", ");
            tracing::warn!(sections, "some of the new configuration waits for a restart");
        }
        let waits_for_restart = restart.into_iter().map(str::to_owned).collect();
        self.status.reloaded(ReloadReport { time, error, waits_for_restart });
        self.notifier.ready(&self.brief());
    }

    fn brief(&self) -> String {
        self.status.brief(self.intel.set().load().len())
    }

    /// Gives what waits for a restart.
    async fn take(&mut self) -> anyhow::Result<Vec<&'static str>> {
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || -> anyhow::Result<(Config, AllowList)> {
            let config = source.read()?;
            let allow = build::allow_list(&config.allow)?;
            Ok((config, allow))
        });
        let (mut new, allow) = read.await.context("bug: reading it stopped; please report")??;
        let sinks = self.deliverer.reload(&new.sinks, LEAVE_LIMIT)?;
        let (intel, feeds) = (Arc::clone(&self.intel), new.feeds.clone());
        let count = feeds.len();
        let feeds = tokio::task::spawn_blocking(move || intel.reload(feeds));
        feeds.await.context("bug: reading the feeds stopped; please report")?;
        let window = signed(new.dedup.window);
        let fresh = Fresh { allow, window, history: new.history };
        self.fresh
            .try_send(fresh)
            .context("the pipeline takes nothing; is the host overloaded?")?;
        self.log.set_filter(&new.agent.log)?;
        // Of the command line, not of the file.
        new.capture.drops_per_million = self.config.capture.drops_per_million;
        let mut restart = self.config.needs_restart(&new);
        let (confined, written) = &self.confined;
        if !confined.may_write(written, &new) {
            restart.push("sink (a new folder to write to)");
        }
        // Of the host itself, where nobody took rows when the agent started.
        if new.takes_rows() && !self.has_inventory {
            restart.push("VMComputer rows");
        }
        tracing::info!(
            feeds = count,
            sinks = new.sinks.len(),
            sinks_added = sinks.added,
            sinks_changed = sinks.changed,
            sinks_removed = sinks.removed,
            "reloaded"
        );
        // What waits for a restart goes on waiting: the comparison is with what is in force.
        self.config.feeds = new.feeds;
        self.config.sinks = new.sinks;
        self.config.allow = new.allow;
        self.config.agent.log = new.agent.log;
        Ok(restart)
    }
}
