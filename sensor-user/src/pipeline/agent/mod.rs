//! `netsensor run`: all stages, feeds and sinks, from start to drained end.
//!
//! First, on one thread, what takes privileges: the folder, the socket, the probes. Then the rest,
//! which takes none: every other thread is started then.

mod build;
mod path;
mod signals;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::stat::Mode;
use tokio::sync::oneshot;

pub(super) use signals::{Held, Signals};

use super::vitals::{Parts, Vitals};
use super::watch::Watch;
use super::{banner, computer};
use crate::aggregate::Identity;
use crate::canary::Canary;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::confine::{Confined, confine_agent};
use crate::control::{Server, Status, Stream};
use crate::deliver::{Deliverer, Delivery, Pace};
use crate::enrich::Places;
use crate::helpers::Helpers;
use crate::intel::{FeedFolder, Intel, Reading};
use crate::inventory::SharedAzure;
use crate::notice::Speaker;
use crate::state;
use crate::stats::Stats;
use path::{Path, spawn_path};

/// How long the sinks may take to send what waits when the agent ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Runs the agent until SIGINT or SIGTERM, or until nobody reads its standard output any more.
pub fn run(config: &Config, once_running: Option<OnceRunning>) -> anyhow::Result<()> {
    // From here on a signal ends the agent in order, however far its start has come.
    let held = Held::hold()?;
    // Whatever is made is for the agent's user alone.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    let agent_id = state::agent_id(&config.agent.state_dir)?.to_string();
    // Held before anything is loaded: one agent a state directory.
    let control = Server::bind(&config.agent.control_socket())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stats = Arc::new(Stats::default());
    let folder =
        FeedFolder::open(&config.agent.state_dir).context("make the folder of the feeds")?;
    // Started before anything is loaded, which they would have open otherwise.
    let helpers = Helpers::start(&config.agent.log, Some(folder.path()), &stats);
    let helpers = Arc::new(helpers.context("start the helpers")?);
    let parts = (&*helpers, &stats);
    let mut watching = Watch::open(config, computer(config), Arc::clone(&clock), parts)?;
    let is_readable = || watching.capture().ledger().is_ok();
    let confined = confine_agent(config, is_readable)?;
    tracing::info!(confined = %confined, "the agent is confined as far as it says");
    watching.begin()?;
    let seat =
        Seat { agent_id, control, clock, stats, folder, helpers, watching, confined, once_running };

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(agent(config, seat, held));
    // A write to standard output that nobody reads must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// What the agent has before it gives its privileges up.
struct Seat {
    agent_id: String,
    control: Server,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    folder: FeedFolder,
    helpers: Arc<Helpers>,
    watching: Watch,
    confined: Confined,
    once_running: Option<OnceRunning>,
}

/// Called once, when all of the agent runs: a test's.
pub type OnceRunning = Box<dyn FnOnce() + Send>;

async fn agent(config: &Config, seat: Seat, held: Held) -> anyhow::Result<()> {
    let signals = held.listen()?;
    let Seat { agent_id, control, clock, stats, folder, helpers, mut watching, .. } = seat;
    let computer = computer(config);

    let shared = (Arc::clone(&clock), Arc::clone(&stats));
    let intel = Intel::new(
        config.feeds.clone(),
        folder,
        Reading::Launcher(Arc::clone(&helpers.launcher)),
        shared,
    );
    intel.load_saved();
    intel.load_local();
    let set = intel.set();
    let spool = config.agent.state_dir.join("spool");
    let delivery =
        Delivery { sinks: &config.sinks, folder: &spool, spool: &config.spool, pace: Pace::USUAL };
    let (outbox, deliverer, recovered) = Deliverer::start(delivery, &stats, &clock)?;

    let speaker = Speaker { computer: computer.to_string(), agent_id: agent_id.clone() };
    let azure = SharedAzure::default();
    let identity = Identity { computer, agent_id: agent_id.clone(), azure };
    let places = config.geo.as_ref().map(|path| Arc::new(Places::at(path)));
    let mut detection = build::detection(config, set, &identity, (places.clone(), &stats))?;
    build::restore(&mut detection, recovered);

    say(&banner::lines(config, (&watching, &seat.confined), &intel.status(), &agent_id));

    let (closing, closing_seen) = oneshot::channel::<()>();
    let canary = Canary::start(
        config.health.canary_every,
        watching.capture().hooks(),
        Arc::clone(&helpers.launcher),
    );
    watching.look_for(canary.context("start the canary's thread")?);
    let hooks = watching.capture().hooks();
    let status = Status::new(speaker.clone(), clock.now(), hooks, Arc::clone(&stats))
        .confined(&seat.confined.to_string());
    let status = Arc::new(status);
    let stream = Stream::new(speaker.clone(), Arc::clone(&stats));
    let control =
        tokio::spawn(control.serve(Arc::clone(&status), Arc::clone(&intel), stream.clone()));
    let places_task = places.clone().map(|places| tokio::spawn(build::refresh_places(places)));
    let feeds = Arc::clone(&intel);
    let parts =
        Parts { intel: feeds, outbox: outbox.clone(), places, helpers: Arc::clone(&helpers) };
    let vitals = Vitals::new(parts, status, Arc::clone(&clock), speaker.clone());

    let inventory = build::start_inventory(config, &identity, &outbox, (&clock, &stats))?;
    let feeds_task = tokio::spawn(intel.run(async move {
        // Told, or nobody is left to tell: the end either way.
        let _told = closing_seen.await.is_ok();
    }));
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
    };
    let (ended, end) = spawn_path(path, Arc::clone(&stop))?;

    if let Some(once_running) = seat.once_running {
        once_running();
    }

    let reason = signals::until_told(signals, (&outbox, &helpers), end).await;
    stop.store(true, Ordering::Release);
    drop(closing);
    let ledger = ended.await.context("the pipeline's thread ended early; please report")??;
    feeds_task.await.context("the feeds' task ended early; please report")?;
    control.abort();
    if let Some(task) = places_task {
        task.abort();
    }
    inventory.abort();
    let left = deliverer.drain(DRAIN_LIMIT).await;
    super::ledger::log_closed(&ledger, &stats);
    tracing::info!(left = left.len(), "ended: {reason}");
    if let Some(name) = helpers.ended() {
        anyhow::bail!(
            "the helper {name} ended, without which no feed is read and no other started"
        );
    }
    Ok(())
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
