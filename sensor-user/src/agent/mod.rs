//! `netsensor run`: all stages, feeds and sinks, from start to drained end.
//!
//! First, on one thread, what takes privileges: the folder, the socket, the probes. Then the rest,
//! which takes none: every other thread is started then.

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
mod reload;
mod signals;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use signals::{Held, Signals};

use crate::base::counters::Stats;
use crate::config::{Config, Source};
use crate::deliver::Outbox;
use crate::inventory::SharedAzure;
use crate::pipeline::aggregate::Identity;
use crate::pipeline::enrich::Places;
use crate::privsep::Workers;
use crate::schema::notice::Speaker;
use crate::telemetry::control::{Status, Stream};
use crate::telemetry::log::Handle;
pub use bootstrap::OnceRunning;
use bootstrap::Seat;
use computer_name::computer;
use confinement::written;
use health_monitor::{Parts, Vitals};
use pipeline_thread::{Ended, Path, spawn_path};
use reload::Reloader;
use watchdog::Beat;

/// How long the sinks may take to send what waits when the agent ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// New configurations that wait for the path at most.
const FRESH_MAX: usize = 16;

/// Runs the agent until SIGINT or SIGTERM, or until nobody reads its standard output any more. Where
/// `source` is a file, SIGHUP has it read again. `once_running` is a test's.
pub fn run(
    config: &Config,
    source: &Source,
    log: Handle,
    once_running: Option<OnceRunning>,
) -> anyhow::Result<()> {
    // From here on a signal ends the agent in order, however far its start has come.
    let held = Held::hold(source.path.is_some())?;
    let seat = Seat::take(config, source, once_running)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(async {
        let signals = held.listen()?;
        Box::pin(start(config, source, seat, Arc::new(log))?.until_end(signals)).await
    });
    // A write to standard output that nobody reads must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Starts all that takes no privileges; within the runtime.
fn start(
    config: &Config,
    source: &Source,
    seat: Seat,
    log: Arc<Handle>,
) -> anyhow::Result<Running> {
    let Seat { agent_id, control, exporter, clock, stats, folder, workers, .. } = seat;
    let (mut watching, notifier) = (seat.watching, seat.notifier);
    let computer = computer(config);

    let intel = build::intel(config, folder, &workers, (&clock, &stats));
    let (outbox, deliverer, recovered) = build::delivery(config, &stats, &clock)?;

    let speaker = Speaker { computer: computer.to_string(), agent_id: agent_id.clone() };
    let azure = SharedAzure::default();
    let identity = Identity { computer, agent_id: agent_id.clone(), azure };
    let places = config.geo.as_ref().map(|path| Arc::new(Places::at(path)));
    let mut detection = build::detection(config, intel.set(), &identity, (places.clone(), &stats))?;
    build::restore(&mut detection, recovered);

    say(&banner::lines(config, (&watching, &seat.confined), &intel.status(), &agent_id));

    build::canary(config, &workers, &mut watching)?;
    let capture = watching.capture();
    let status = Status::new(speaker.clone(), clock.now(), capture, Arc::clone(&stats));
    let status = Arc::new(status.confined(&seat.confined.to_string()));
    let stream = Stream::new(speaker.clone(), Arc::clone(&stats));
    // They end with the agent.
    let mut beside = JoinSet::new();
    beside.spawn(control.serve(Arc::clone(&status), Arc::clone(&intel), stream.clone()));
    beside.spawn(build::export(exporter, (&status, &intel), &stats));
    beside.spawn(Arc::clone(&intel).run(std::future::pending()));
    beside.spawn(build::refresh_places(places.clone()));
    if let Some(keep) = build::inventory(config, &identity, &outbox, (&clock, &stats))? {
        beside.spawn(keep);
    }
    let beat = Beat::default();
    beside.spawn(build::look_at_log(Arc::clone(&log), Arc::clone(&stats)));
    beside.spawn(build::keeper(&notifier, &beat, &status, &intel));
    let feeds = Arc::clone(&intel);
    let parts =
        Parts { intel: feeds, outbox: outbox.clone(), places, workers: Arc::clone(&workers) };
    let vitals = Vitals::new(parts, Arc::clone(&status), Arc::clone(&clock), speaker.clone());

    let (fresh, fresh_out) = mpsc::sync_channel(FRESH_MAX);
    let reloader = Reloader {
        source: source.clone(),
        config: config.clone(),
        intel,
        deliverer,
        fresh,
        status,
        clock: Arc::clone(&clock),
        notifier,
        log,
        workers: Arc::clone(&workers),
        confined: (seat.confined, written(config)),
        has_inventory: config.takes_rows(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let path = Path {
        watching,
        detection,
        outbox: outbox.clone(),
        clock,
        stats: Arc::clone(&stats),
        stream,
        vitals,
        speaker,
        beat,
        fresh: fresh_out,
    };
    let (ended, died) = spawn_path(path, Arc::clone(&stop))?;

    if let Some(once_running) = seat.once_running {
        once_running();
    }
    Ok(Running { reloader, beside, path: (stop, ended, died), outbox, workers, stats })
}

/// All of the agent.
struct Running {
    reloader: Reloader,
    /// What ends with it.
    beside: JoinSet<()>,
    /// What ends the pipeline's thread, what that gives, and what tells that it is gone.
    path: (Arc<AtomicBool>, Ended, oneshot::Receiver<()>),
    outbox: Outbox,
    workers: Arc<Workers>,
    stats: Arc<Stats>,
}

impl Running {
    /// Goes on until there is a reason to end; then all that waits is sent.
    async fn until_end(self, mut signals: Signals) -> anyhow::Result<()> {
        let Self { mut reloader, mut beside, path, outbox, workers, stats } = self;
        let (stop, ended, mut died) = path;
        let reason = reloader.until_end(&mut signals, &outbox, &mut died).await;
        stop.store(true, Ordering::Release);
        let ledger = ended.await.context("the pipeline's thread ended early; please report")??;
        beside.shutdown().await;
        let left = reloader.deliverer.drain(DRAIN_LIMIT).await;
        crate::telemetry::loss_ledger::log_closed(&ledger, &stats);
        tracing::info!(reason, left = left.len(), "ended");
        workers.check_spawners()
    }
}

/// To the person at the terminal, or the journal.
fn say(lines: &[String]) {
    let mut text = lines.join("\n");
    text.push('\n');
    // Nobody there to read is no failure.
    if let Err(error) = std::io::stderr().lock().write_all(text.as_bytes()) {
        tracing::debug!(%error, "standard error is closed");
    }
}
