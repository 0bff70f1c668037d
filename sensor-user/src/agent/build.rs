//! The parts of the agent, as configured.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;

use super::sd_notify::Notifier;
use super::sensor::Watch;
use super::watchdog::{Beat, Keeper};
use crate::base::clock::{Clock, SystemClock, signed};
use crate::base::counters::Stats;
use crate::config::{AllowConfig, Config};
use crate::deliver::spool::Recovered;
use crate::deliver::{Deliverer, Delivery, Outbox, Pace};
use crate::intel::{Allowed, FeedFolder, IndicatorSet, Intel, Reading, read_allowed};
use crate::inventory::refresh::keep;
use crate::inventory::{Host, Imds, ImdsPace, SharedAzure};
use crate::pipeline::aggregate::{HostTables, Identity, RowTable};
use crate::pipeline::canary::Canary;
use crate::pipeline::dedup::Dedup;
use crate::pipeline::enrich::{Names, Places};
use crate::pipeline::history::History;
use crate::pipeline::matcher::{AllowList, Matcher};
use crate::pipeline::{Detection, RemoteFacts};
use crate::privsep::Workers;
use crate::schema::TableRow;
use crate::telemetry::control::Status;
use crate::telemetry::log::Handle;
use crate::telemetry::metrics::Exporter;

/// The database of places is looked at this often.
const PLACES_EVERY: Duration = Duration::from_secs(10);

/// The stages behind the connection table, as configured.
pub(super) fn detection(
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

/// Starts the sinks, behind the spool.
pub(super) fn delivery(
    config: &Config,
    stats: &Arc<Stats>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Outbox, Deliverer, Recovered)> {
    let folder = config.agent.spool_dir();
    let (sinks, spool, pace) = (&config.sinks, &config.spool, Pace::USUAL);
    Ok(Deliverer::start(Delivery { sinks, folder: &folder, spool, pace }, stats, clock)?)
}

/// The feeds, with what is known of them without asking anybody.
pub(super) fn intel(
    config: &Config,
    folder: FeedFolder,
    workers: &Workers,
    (clock, stats): (&Arc<dyn Clock>, &Arc<Stats>),
) -> Arc<Intel> {
    let reading = Reading::Launcher(Arc::clone(&workers.launcher));
    let shared = (Arc::clone(clock), Arc::clone(stats));
    let intel = Intel::new(config.feeds.clone(), folder, reading, shared);
    intel.load_saved();
    intel.load_local();
    intel
}

/// Starts the canary, and has it looked for.
pub(super) fn canary(
    config: &Config,
    workers: &Workers,
    watching: &mut Watch,
) -> anyhow::Result<()> {
    let launcher = Arc::clone(&workers.launcher);
    let hooks = watching.capture().hooks();
    let canary = Canary::start(config.health.canary_every, hooks, launcher);
    watching.look_for(canary.context("start the canary's thread")?);
    Ok(())
}

/// Goes on with the windows that an earlier run had open.
pub(super) fn restore(detection: &mut Detection, recovered: Recovered) {
    let saved: Vec<Vec<u8>> = recovered.snapshot.into_iter().chain(recovered.changes).collect();
    if let Err(fault) = detection.dedup.restore(&saved) {
        tracing::error!(error = %fault, "go on with the alerts of an earlier run");
    }
    if !detection.dedup.is_empty() {
        tracing::info!(windows = detection.dedup.len(), "alerts of an earlier run are counted on");
    }
}

/// What never alerts: the networks of the configuration, and those of its files.
pub(super) fn allow_list(config: &AllowConfig) -> anyhow::Result<AllowList> {
    let Allowed { networks, files, skipped } = read_allowed(&config.files)?;
    if files > 0 {
        tracing::info!(files, networks = networks.len(), skipped, "files of allowed networks read");
    }
    Ok(AllowList::new(config.networks.iter().copied().chain(networks)))
}

/// Tells metrics, where that is configured.
pub(super) fn export(
    exporter: Option<Exporter>,
    (status, intel): (&Arc<Status>, &Arc<Intel>),
    stats: &Arc<Stats>,
) -> impl Future<Output = ()> + Send + 'static {
    let of = (Arc::clone(status), Arc::clone(intel));
    let stats = Arc::clone(stats);
    async move {
        if let Some(exporter) = exporter {
            exporter.serve(of, stats).await;
        }
    }
}

/// Tells the service manager how the agent is, while the pipeline turns.
pub(super) fn keeper(
    notifier: &Arc<Notifier>,
    beat: &Beat,
    status: &Arc<Status>,
    intel: &Intel,
) -> impl Future<Output = ()> + Send + 'static {
    let (status, set) = (Arc::clone(status), intel.set());
    let said = move || status.brief(set.load().len());
    Keeper::new(Arc::clone(notifier), beat.clone(), said).keep()
}

/// Looks whether the database of places, where there is one, was replaced, and reads it then, beside
/// the pipeline.
pub(super) async fn refresh_places(places: Option<Arc<Places>>) {
    let Some(places) = places else { return };
    let mut look = tokio::time::interval(PLACES_EVERY);
    loop {
        look.tick().await;
        let places = Arc::clone(&places);
        if tokio::task::spawn_blocking(move || places.refresh()).await.is_err() {
            tracing::error!("the reader of geo.database ended early; please report");
        }
    }
}

/// Has the log tell what it holds back, and count what is not in it.
pub(super) async fn look_at_log(log: Arc<Handle>, stats: Arc<Stats>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        log.look(&stats);
    }
}

/// Inode number of the agent's network namespace; 0 when unknown.
fn home_netns() -> u32 {
    let file = std::fs::metadata("/proc/self/ns/net");
    file.map_or(0, |file| u32::try_from(file.ino()).unwrap_or(0))
}

/// Keeps the inventory, where a sink takes rows.
pub(super) fn inventory(
    config: &Config,
    identity: &Identity,
    outbox: &Outbox,
    (clock, stats): (&Arc<dyn Clock>, &Arc<Stats>),
) -> anyhow::Result<Option<impl Future<Output = ()> + Send + 'static>> {
    if !config.rows.enabled || !config.takes_rows() {
        return Ok(None);
    }
    let host = Host {
        root: "/".into(),
        computer: Arc::clone(&identity.computer),
        agent_id: identity.agent_id.clone(),
    };
    let imds = (config.azure.imds, Imds::new(&config.azure, ImdsPace::USUAL)?);
    let azure = SharedAzure::clone(&identity.azure);
    let outbox = outbox.clone();
    let (clock, stats) = (Arc::clone(clock), Arc::clone(stats));
    let made = Arc::clone(&stats);
    let put = move |row| {
        made.rows_emitted.increment();
        outbox.rows(vec![TableRow::Computer(Box::new(row))]);
    };
    Ok(Some(keep(host, imds, azure, (clock, stats), put)))
}
