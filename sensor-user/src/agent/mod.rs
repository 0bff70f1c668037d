//! `netsensor run`: the agent process, from start to shutdown.
//!
//! First the privileged part, on one thread: state directory, control socket, workers, probes
//! (`bootstrap`). Then everything else, without privileges: every other thread is started then.

pub mod agent_id;
pub mod banner;
mod computer_name;
pub mod confinement;
pub mod health_monitor;
pub mod record;
pub mod sd_notify;
pub mod self_test;
pub mod sensor;
pub mod watchdog;

mod bootstrap;
mod build;
mod pipeline_thread;
mod preflight;
mod reload;
mod signals;
mod state_disk;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use signals::{BlockedSignals, Signals};

use crate::base::counters::Stats;
use crate::config::{Config, ConfigSource};
use crate::deliver::Outbox;
use crate::inventory::SharedAzure;
use crate::pipeline::aggregate::RowIdentity;
use crate::pipeline::enrich::GeoIpDatabase;
use crate::privsep::Workers;
use crate::schema::agent_event::AgentIdentity;
use crate::telemetry::control::{Status, Stream};
use crate::telemetry::log::LogHandle;
use bootstrap::Bootstrap;
pub use bootstrap::OnRunning;
use computer_name::computer;
use confinement::written;
use health_monitor::{HealthMonitor, MonitoredParts};
use pipeline_thread::{PipelineResult, PipelineThread, spawn_pipeline_thread};
pub use preflight::{PreflightError, preflight, raise_descriptor_limit};
use reload::Reloader;
use state_disk::StateDisk;
use watchdog::Heartbeat;

/// Time that the sinks have to send queued items at shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Maximum number of new settings that wait for the pipeline thread.
const NEW_SETTINGS_MAX: usize = 16;

/// Runs the agent until SIGINT or SIGTERM, or until its standard output is closed. If `source` is a file,
/// SIGHUP reloads it.
pub fn run(
    config: &Config,
    source: &ConfigSource,
    log: LogHandle,
    on_running: Option<OnRunning>,
) -> anyhow::Result<()> {
    // From here on a signal leads to an orderly shutdown, at any point of the start.
    let signals = BlockedSignals::block(source.path.is_some())?;
    let bootstrap = Bootstrap::run(config, source, on_running)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(async {
        let signals = signals.listen()?;
        Box::pin(start(config, source, bootstrap, Arc::new(log))?.until_end(signals)).await
    });
    // A blocked write to standard output must not delay the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Starts everything that needs no privileges; within the runtime.
fn start(
    config: &Config,
    source: &ConfigSource,
    bootstrap: Bootstrap,
    log: Arc<LogHandle>,
) -> anyhow::Result<Running> {
    let Bootstrap { state, exporter, clock, stats, workers, .. } = bootstrap;
    let StateDisk { agent_id, control, folder, directory, memory, error: state_error } = state;
    let Bootstrap { mut sensor, notifier, confined, on_running, .. } = bootstrap;
    let computer = computer(config);
    let agent = AgentIdentity { computer: computer.to_string(), agent_id: agent_id.clone() };
    let identity = RowIdentity { computer, agent_id, azure: SharedAzure::default() };

    let intel = build::intel(config, folder, &workers, &clock, &stats);
    let (outbox, deliverer, recovered) = build::delivery(config, &stats, &clock)?;
    let geoip = config.geoip.as_ref().map(|path| Arc::new(GeoIpDatabase::new(path)));
    let mut detection =
        build::detection(config, &directory, intel.set(), &identity, geoip.clone(), &stats)?;
    build::restore(&mut detection, recovered);
    print_lines(&banner::lines(config, &sensor, &confined, &intel.status(), &agent.agent_id));
    build::canary(config, &workers, &mut sensor)?;

    let status = Status::new(agent.clone(), clock.now(), sensor.capture(), Arc::clone(&stats));
    let status = Arc::new(status.with_confinement(&confined.to_string()));
    let stream = Stream::new(agent.clone(), Arc::clone(&stats));
    let heartbeat = Heartbeat::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(control.serve(Arc::clone(&status), Arc::clone(&intel), stream.clone()));
    tasks.spawn(build::export(exporter, &status, &intel, &stats));
    tasks.spawn(Arc::clone(&intel).run(std::future::pending()));
    tasks.spawn(build::refresh_geoip(geoip.clone()));
    if let Some(refresh) = build::inventory(config, &identity, &outbox, &clock, &stats)? {
        tasks.spawn(refresh);
    }
    tasks.spawn(build::flush_log(Arc::clone(&log), Arc::clone(&stats)));
    tasks.spawn(build::watchdog(&notifier, &heartbeat, &status, &intel));

    let (new_settings, new_settings_in) = mpsc::sync_channel(NEW_SETTINGS_MAX);
    let parts = MonitoredParts {
        intel: Arc::clone(&intel),
        outbox: outbox.clone(),
        geoip,
        workers: Arc::clone(&workers),
        state_error,
    };
    let health_monitor =
        HealthMonitor::new(parts, Arc::clone(&status), Arc::clone(&clock), agent.clone());
    let thread = PipelineThread {
        sensor,
        detection,
        outbox: outbox.clone(),
        clock: Arc::clone(&clock),
        stats: Arc::clone(&stats),
        stream,
        health_monitor,
        identity: agent,
        heartbeat,
        new_settings: new_settings_in,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (result, died) = spawn_pipeline_thread(thread, Arc::clone(&stop))?;

    let reloader = Reloader {
        source: source.clone(),
        config: config.clone(),
        intel,
        deliverer,
        new_settings,
        status,
        clock,
        notifier,
        log,
        workers: Arc::clone(&workers),
        confined,
        written: written(config),
        has_inventory: config.takes_rows(),
    };
    report_running(on_running);
    Ok(Running { reloader, tasks, stop, result, died, outbox, workers, stats, memory })
}

fn report_running(on_running: Option<OnRunning>) {
    if let Some(on_running) = on_running {
        on_running();
    }
}

/// The running agent.
struct Running {
    reloader: Reloader,
    /// Tasks that are cancelled at shutdown.
    tasks: JoinSet<()>,
    /// Stops the pipeline thread.
    stop: Arc<AtomicBool>,
    /// Result of the pipeline thread.
    result: PipelineResult,
    /// Closed when the pipeline thread has exited.
    died: oneshot::Receiver<()>,
    outbox: Outbox,
    workers: Arc<Workers>,
    stats: Arc<Stats>,
    /// Removed at the end.
    memory: Option<TempDir>,
}

impl Running {
    /// Runs until there is a reason to stop; then drains the queues.
    async fn until_end(self, mut signals: Signals) -> anyhow::Result<()> {
        let Self {
            mut reloader,
            mut tasks,
            stop,
            result,
            mut died,
            outbox,
            workers,
            stats,
            memory,
        } = self;
        let reason = reloader.until_end(&mut signals, &outbox, &mut died).await;
        stop.store(true, Ordering::Release);
        let ledger = result.await.context("the pipeline thread exited early; please report")??;
        tasks.shutdown().await;
        let left = reloader.deliverer.drain(DRAIN_LIMIT).await;
        crate::telemetry::loss_ledger::log_final(&ledger, &stats);
        tracing::info!(reason, left = left.len(), "stopped");
        drop(memory);
        workers.check_spawners()
    }
}

/// Prints the banner to standard error: a terminal, or the journal.
fn print_lines(lines: &[String]) {
    let mut text = lines.join("\n");
    text.push('\n');
    // A closed standard error is no failure.
    if let Err(error) = std::io::stderr().lock().write_all(text.as_bytes()) {
        tracing::debug!(%error, "standard error is closed");
    }
}
