//! `netsensor run`: all stages, feeds and sinks, from start to drained end.

use std::collections::HashSet;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::ledger::LossLog;
use super::vitals::{Parts, Vitals};
use super::watch::Watch;
use super::{Detection, Outlet, RemoteFacts, banner, computer};
use crate::aggregate::{HostTables, Identity, RowTable, TableRow};
use crate::canary::Canary;
use crate::capture::KernelLedger;
use crate::clock::{Clock, SystemClock, signed};
use crate::config::{AllowConfig, Config};
use crate::control::{Server, Status, Stream};
use crate::dedup::{Alert, Dedup, State};
use crate::deliver::spool::Recovered;
use crate::deliver::{Deliverer, Delivery, Outbox, Pace};
use crate::enrich::{Names, Places};
use crate::history::History;
use crate::intel::{Allowed, FeedFolder, IndicatorSet, Intel, Reading, read_allowed};
use crate::inventory::{Host, Imds, ImdsPace, SharedAzure, keep};
use crate::matcher::{AllowList, Matcher};
use crate::notice::{Notice, Speaker};
use crate::state;
use crate::stats::Stats;

/// How long the sinks may take to send what waits when the agent ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Between two portions of the last rows.
const FINISH_PACE: Duration = Duration::from_millis(5);

/// The database of places is looked at this often.
const PLACES_EVERY: Duration = Duration::from_secs(10);

impl Outlet for Outbox {
    fn alerts(&mut self, alerts: Vec<Alert>, state: Option<State>) {
        Self::alerts(self, alerts, state);
    }

    fn is_written(&self) -> bool {
        Self::is_written(self)
    }

    fn wants_snapshot(&self) -> bool {
        Self::wants_snapshot(self)
    }

    fn rows(&mut self, rows: Vec<TableRow>) {
        Self::rows(self, rows);
    }
}

/// Runs the agent until SIGINT or SIGTERM, or until nobody reads its standard output any more.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(agent(config));
    // A write to standard output that nobody reads must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn agent(config: &Config) -> anyhow::Result<()> {
    // From here on a signal ends the agent in order, however far its start has come.
    let signals = Signals::listen()?;
    let agent_id = state::agent_id(&config.agent.state_dir)?.to_string();
    // Held before anything is loaded: one agent a state directory.
    let control = Server::bind(&config.agent.control_socket())?;
    let computer = computer(config);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stats = Arc::new(Stats::default());

    let folder =
        FeedFolder::open(&config.agent.state_dir).context("make the folder of the feeds")?;
    let shared = (Arc::clone(&clock), Arc::clone(&stats));
    let intel = Intel::new(config.feeds.clone(), folder, Reading::child(), shared);
    intel.load_saved();
    intel.load_local();
    let set = intel.set();
    let mut watching = Watch::open(config, Arc::clone(&computer), Arc::clone(&clock), &stats)?;
    let spool = config.agent.state_dir.join("spool");
    let delivery =
        Delivery { sinks: &config.sinks, folder: &spool, spool: &config.spool, pace: Pace::USUAL };
    let (outbox, deliverer, recovered) = Deliverer::start(delivery, &stats, &clock)?;

    let speaker = Speaker { computer: computer.to_string(), agent_id: agent_id.clone() };
    let azure = SharedAzure::default();
    let identity = Identity { computer, agent_id: agent_id.clone(), azure };
    let places = config.geo.as_ref().map(|path| Arc::new(Places::at(path)));
    let mut detection = detection(config, set, &identity, (places.clone(), &stats))?;
    restore(&mut detection, recovered);

    say(&banner::lines(config, &watching, &intel.status(), &agent_id));

    let (closing, closing_seen) = oneshot::channel::<()>();
    let canary = Canary::start(config.health.canary_every, watching.capture().hooks());
    watching.look_for(canary.context("start the canary's thread")?);
    let hooks = watching.capture().hooks();
    let status = Status::new(speaker.clone(), clock.now(), hooks, Arc::clone(&stats));
    let status = Arc::new(status);
    let stream = Stream::new(speaker.clone(), Arc::clone(&stats));
    let control =
        tokio::spawn(control.serve(Arc::clone(&status), Arc::clone(&intel), stream.clone()));
    let places_task = places.clone().map(|places| tokio::spawn(refresh_places(places)));
    let feeds = Arc::clone(&intel);
    let parts = Parts { intel: feeds, outbox: outbox.clone(), places };
    let vitals = Vitals::new(parts, status, Arc::clone(&clock), speaker.clone());

    let inventory = start_inventory(config, &identity, &outbox, (&clock, &stats))?;
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

    let reason = until_told(signals, &outbox, end).await;
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
    Ok(())
}

/// The stages behind the connection table, as configured.
fn detection(
    config: &Config,
    set: Arc<ArcSwap<IndicatorSet>>,
    identity: &Identity,
    (places, stats): (Option<Arc<Places>>, &Arc<Stats>),
) -> anyhow::Result<Detection> {
    let most = config.rows.max_keys_per_minute;
    let rows = || RowTable::new(identity.clone(), most, Arc::clone(stats));
    let host = || HostTables::new(identity.clone(), home_netns(), most, Arc::clone(stats));
    let own = HashSet::from([std::process::id()]);
    let allow = allow_list(&config.allow)?;
    let matcher = Matcher::new(set, allow, own, Arc::clone(stats));
    let state = &config.agent.state_dir;
    let open = |config| History::open(state, config, SystemClock.now(), Arc::clone(stats));
    let history = config.history.map(open).transpose();
    let history = history.context("open the history in the state directory")?;
    let (window, agent_id) = (signed(config.dedup.window), identity.agent_id.clone());
    let dedup = Dedup::new(agent_id, window, config.dedup.max_keys, Arc::clone(stats));
    let dedup =
        if config.sinks.iter().any(|sink| sink.alerts) { dedup.with_state() } else { dedup };
    let enabled = config.rows.enabled;
    let mut detection =
        Detection::new(enabled.then(rows), matcher, history, dedup, Arc::clone(stats))
            .with_host(enabled.then(host));
    detection.facts = RemoteFacts::new(Names::new(config.max_names, Arc::clone(stats)), places);
    Ok(detection)
}

/// Goes on with the windows that an earlier run had open.
fn restore(detection: &mut Detection, recovered: Recovered) {
    for repair in &recovered.repairs {
        tracing::warn!("spool: {repair}");
    }
    let saved: Vec<Vec<u8>> = recovered.snapshot.into_iter().chain(recovered.changes).collect();
    if let Err(fault) = detection.dedup.restore(&saved) {
        tracing::warn!("spool: {fault}");
    }
    if !detection.dedup.is_empty() {
        tracing::info!(windows = detection.dedup.len(), "alerts of an earlier run are counted on");
    }
}

/// What never alerts: the networks of the configuration, and those of its files.
fn allow_list(config: &AllowConfig) -> anyhow::Result<AllowList> {
    let Allowed { networks, files, skipped } = read_allowed(&config.files)?;
    if files > 0 {
        tracing::info!(files, networks = networks.len(), skipped, "files of allowed networks read");
    }
    Ok(AllowList::new(config.networks.iter().copied().chain(networks)))
}

/// Looks whether the database of places was replaced, and reads it then, beside the pipeline.
async fn refresh_places(places: Arc<Places>) {
    let mut look = tokio::time::interval(PLACES_EVERY);
    loop {
        look.tick().await;
        let places = Arc::clone(&places);
        if tokio::task::spawn_blocking(move || places.refresh()).await.is_err() {
            tracing::error!("the reader of geo.database ended early; please report");
        }
    }
}

/// Inode number of the agent's network namespace; 0 when unknown.
fn home_netns() -> u32 {
    let file = std::fs::metadata("/proc/self/ns/net");
    file.map_or(0, |file| u32::try_from(file.ino()).unwrap_or(0))
}

/// Starts to keep the inventory, where anybody takes its rows.
fn start_inventory(
    config: &Config,
    identity: &Identity,
    outbox: &Outbox,
    (clock, stats): (&Arc<dyn Clock>, &Arc<Stats>),
) -> anyhow::Result<JoinHandle<()>> {
    if !config.rows.enabled || !config.sinks.iter().any(|sink| sink.rows) {
        return Ok(tokio::spawn(std::future::ready(())));
    }
    let host = Host {
        root: "/".into(),
        computer: Arc::clone(&identity.computer),
        agent_id: identity.agent_id.clone(),
    };
    let imds = (config.azure.imds, Imds::new(&config.azure, ImdsPace::USUAL)?);
    let azure = SharedAzure::clone(&identity.azure);
    let outbox = outbox.clone();
    let made = Arc::clone(stats);
    let put = move |row| {
        made.rows_made.increment();
        outbox.rows(vec![TableRow::Computer(Box::new(row))]);
    };
    Ok(tokio::spawn(keep(host, imds, azure, (Arc::clone(clock), Arc::clone(stats)), put)))
}

/// The signals that end the agent, or a recording.
pub(super) struct Signals {
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
}

impl Signals {
    /// From here on they wait to be looked at. Within a runtime only.
    pub(super) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        })
    }
}

/// Waits for a reason to end.
async fn until_told(
    mut signals: Signals,
    outbox: &Outbox,
    mut died: oneshot::Receiver<()>,
) -> &'static str {
    let mut look = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => return "interrupted",
            _ = signals.terminate.recv() => return "terminated",
            _ = &mut died => return "the pipeline's thread ended",
            _ = look.tick() => {
                if outbox.stdout_closed() {
                    return "nobody reads standard output";
                }
            }
        }
    }
}

/// What the pipeline's thread owns.
struct Path {
    watching: Watch,
    detection: Detection,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    stream: Stream,
    vitals: Vitals,
    speaker: Speaker,
}

type Ended = oneshot::Receiver<anyhow::Result<KernelLedger>>;

/// Starts the pipeline's thread: the ring is drained there, and the path has no runtime in it.
fn spawn_path(
    mut path: Path,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<(Ended, oneshot::Receiver<()>)> {
    let (result, ended) = oneshot::channel();
    let (alive, died) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("pipeline".to_owned())
        .spawn(move || {
            let outcome = path.run(&stop);
            drop(alive);
            if result.send(outcome).is_err() {
                tracing::debug!("nobody waits for the pipeline any more");
            }
        })
        .context("start the pipeline's thread")?;
    Ok((ended, died))
}

impl Path {
    fn run(&mut self, stop: &AtomicBool) -> anyhow::Result<KernelLedger> {
        let mut changes = Vec::new();
        let mut losses = LossLog::new(self.speaker.clone(), self.clock.now());
        while !stop.load(Ordering::Acquire) {
            self.watching.turn(&mut changes);
            if let Some(pid) = self.watching.own_pid() {
                self.detection.matcher.set_own(pid);
            }
            let now: Timestamp = self.clock.now();
            self.detection.begin(&self.outbox);
            for answer in self.watching.answers() {
                self.detection.resolved(&answer);
            }
            for change in changes.drain(..) {
                self.detection.observe(&change, &mut self.outbox);
                self.stream.change(&change, now);
            }
            self.detection.tick(now, &mut self.outbox);
            self.detection.tick_host(now, &mut self.watching, &mut self.outbox);
            let ledger = || self.watching.capture().ledger().ok();
            let mut notices = losses.look(ledger, &self.stats, now);
            notices.extend(self.vitals.look(&mut self.watching, now));
            self.notify(notices, now);
            self.stream.tick();
            self.watching.wait(self.detection.is_behind())?;
        }
        let ledger = self.watching.finish(&mut changes)?;
        let now = self.clock.now();
        for answer in self.watching.answers() {
            self.detection.resolved(&answer);
        }
        for change in changes.drain(..) {
            self.detection.observe(&change, &mut self.outbox);
            self.stream.change(&change, now);
        }
        self.detection.finish_host(now, &mut self.watching, &mut self.outbox);
        while self.detection.finish(&mut self.outbox) {
            // The sinks take rows meanwhile; their queues do not hold all of a large minute.
            self.watching.capture().wait(FINISH_PACE);
        }
        self.notify(losses.finish(&ledger, &self.stats, now), now);
        Ok(ledger)
    }

    fn notify(&self, notices: Vec<Notice>, now: Timestamp) {
        for notice in notices {
            self.stream.notice(&notice, now);
            self.outbox.notice(notice);
        }
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
