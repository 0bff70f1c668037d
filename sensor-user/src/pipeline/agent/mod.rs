//! `netsensor run`: all stages, feeds and sinks, from start to drained end.
//!
//! First, on one thread, what takes privileges: the folder, the socket, the probes. Then the rest,
//! which takes none: every other thread is started then.

mod build;
mod path;
mod reload;
mod seat;
mod signals;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;

pub(super) use signals::{Held, Signals};

use super::vitals::{Parts, Vitals};
use super::{banner, computer};
use crate::aggregate::Identity;
use crate::config::{Config, Source};
use crate::confine::written;
use crate::control::{Status, Stream};
use crate::enrich::Places;
use crate::inventory::SharedAzure;
use crate::notice::Speaker;
use crate::service::Beat;
use path::{Path, spawn_path};
use reload::Reloader;
pub use seat::OnceRunning;
use seat::Seat;

/// How long the sinks may take to send what waits when the agent ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// New configurations that wait for the path at most.
const FRESH_MAX: usize = 16;

/// Runs the agent until SIGINT or SIGTERM, or until nobody reads its standard output any more. Where
/// `source` is a file, SIGHUP has it read again. `once_running` is a test's.
pub fn run(
    config: &Config,
    source: &Source,
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
    let result = runtime.block_on(agent(config, source, seat, held));
    // A write to standard output that nobody reads must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn agent(config: &Config, source: &Source, seat: Seat, held: Held) -> anyhow::Result<()> {
    let mut signals = held.listen()?;
    let Seat { agent_id, control, clock, stats, folder, helpers, mut watching, notifier, .. } =
        seat;
    let computer = computer(config);

    let intel = build::intel(config, folder, &helpers, (&clock, &stats));
    let set = intel.set();
    let (outbox, deliverer, recovered) = build::delivery(config, &stats, &clock)?;

    let speaker = Speaker { computer: computer.to_string(), agent_id: agent_id.clone() };
    let azure = SharedAzure::default();
    let identity = Identity { computer, agent_id: agent_id.clone(), azure };
    let places = config.geo.as_ref().map(|path| Arc::new(Places::at(path)));
    let mut detection = build::detection(config, set, &identity, (places.clone(), &stats))?;
    build::restore(&mut detection, recovered);

    say(&banner::lines(config, (&watching, &seat.confined), &intel.status(), &agent_id));

    build::canary(config, &helpers, &mut watching)?;
    let hooks = watching.capture().hooks();
    let status = Status::new(speaker.clone(), clock.now(), hooks, Arc::clone(&stats));
    let status = Arc::new(status.confined(&seat.confined.to_string()));
    let stream = Stream::new(speaker.clone(), Arc::clone(&stats));
    // They end with this function.
    let mut beside = JoinSet::new();
    beside.spawn(control.serve(Arc::clone(&status), Arc::clone(&intel), stream.clone()));
    beside.spawn(Arc::clone(&intel).run(std::future::pending()));
    if let Some(places) = places.clone() {
        beside.spawn(build::refresh_places(places));
    }
    if let Some(keep) = build::inventory(config, &identity, &outbox, (&clock, &stats))? {
        beside.spawn(keep);
    }
    let beat = Beat::default();
    beside.spawn(build::keeper(&notifier, &beat, &status, &intel));
    let feeds = Arc::clone(&intel);
    let parts =
        Parts { intel: feeds, outbox: outbox.clone(), places, helpers: Arc::clone(&helpers) };
    let vitals = Vitals::new(parts, Arc::clone(&status), Arc::clone(&clock), speaker.clone());

    let (fresh, fresh_out) = mpsc::sync_channel(FRESH_MAX);
    let mut reloader = Reloader {
        source: source.clone(),
        config: config.clone(),
        intel,
        deliverer,
        fresh,
        status,
        clock: Arc::clone(&clock),
        notifier,
        helpers: Arc::clone(&helpers),
        confined: (seat.confined, written(config)),
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
    let (ended, mut end) = spawn_path(path, Arc::clone(&stop))?;

    seat.once_running.into_iter().for_each(|call| call());

    let reason = reloader.until_end(&mut signals, &outbox, &mut end).await;
    stop.store(true, Ordering::Release);
    let ledger = ended.await.context("the pipeline's thread ended early; please report")??;
    beside.shutdown().await;
    let left = reloader.deliverer.drain(DRAIN_LIMIT).await;
    super::ledger::log_closed(&ledger, &stats);
    tracing::info!(left = left.len(), "ended: {reason}");
    helpers.all_there()
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
