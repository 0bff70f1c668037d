//! Construction of the agent's parts from the configuration.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;

use super::sd_notify::Notifier;
use super::sensor::Sensor;
use super::watchdog::{Heartbeat, Watchdog};
use crate::base::clock::{Clock, SystemClock, signed};
use crate::base::counters::Stats;
use crate::config::{AllowConfig, Config};
use crate::deliver::spool::RecoveredState;
use crate::deliver::{Deliverer, Delivery, Outbox, RetryPolicy};
use crate::intel::{AllowedNetworks, FeedFolder, IndicatorSet, Intel, ParserMode, read_allowed};
use crate::inventory::{Host, Imds, ImdsRetryPolicy, InventoryRefresh, SharedAzure};
use crate::pipeline::aggregate::{HostTables, RowIdentity, RowTable};
use crate::pipeline::canary::Canary;
use crate::pipeline::dedup::Dedup;
use crate::pipeline::enrich::{DnsCache, GeoIpDatabase};
use crate::pipeline::history::History;
use crate::pipeline::matcher::{AllowList, Matcher};
use crate::pipeline::{Detection, RemoteFacts};
use crate::privsep::Workers;
use crate::schema::TableRow;
use crate::telemetry::control::Status;
use crate::telemetry::log::LogHandle;
use crate::telemetry::metrics::{Exporter, MetricsSource};

/// Interval at which the `GeoIP` database is checked for a replacement.
const GEOIP_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The stages after the connection table.
pub(super) fn detection(
    config: &Config,
    state: &Path,
    set: Arc<ArcSwap<IndicatorSet>>,
    identity: &RowIdentity,
    geoip: Option<Arc<GeoIpDatabase>>,
    stats: &Arc<Stats>,
) -> anyhow::Result<Detection> {
    let max_keys = config.rows.max_keys_per_minute;
    let rows = || RowTable::new(identity.clone(), max_keys, Arc::clone(stats));
    let host = || HostTables::new(identity.clone(), home_netns(), max_keys, Arc::clone(stats));
    let own = HashSet::from([std::process::id()]);
    let allow = allow_list(&config.allow)?;
    let matcher = Matcher::new(set, allow, own, Arc::clone(stats));
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
    detection.facts = RemoteFacts::new(DnsCache::new(config.max_names, Arc::clone(stats)), geoip);
    Ok(detection)
}

/// Opens the spool, and starts the sinks.
pub(super) fn delivery(
    config: &Config,
    stats: &Arc<Stats>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Outbox, Deliverer, RecoveredState)> {
    let folder = config.agent.spool_dir();
    let (sinks, spool, retry) = (&config.sinks, &config.spool, RetryPolicy::DEFAULT);
    Ok(Deliverer::start(Delivery { sinks, folder: &folder, spool, retry }, stats, clock)?)
}

/// The feeds, with their saved sets and local files loaded; without network access.
pub(super) fn intel(
    config: &Config,
    folder: FeedFolder,
    workers: &Workers,
    clock: &Arc<dyn Clock>,
    stats: &Arc<Stats>,
) -> Arc<Intel> {
    let parser = ParserMode::Launcher(Arc::clone(&workers.launcher));
    let (clock, stats) = (Arc::clone(clock), Arc::clone(stats));
    let intel = Intel::new(config.feeds.clone(), folder, parser, clock, stats);
    intel.load_saved();
    intel.load_local();
    intel
}

/// Starts the canary and its detector.
pub(super) fn canary(
    config: &Config,
    workers: &Workers,
    sensor: &mut Sensor,
) -> anyhow::Result<()> {
    let launcher = Arc::clone(&workers.launcher);
    let hooks = sensor.capture().hooks();
    let canary = Canary::start(config.health.canary_interval, hooks, launcher);
    sensor.set_canary(canary.context("start the canary's thread")?);
    Ok(())
}

/// Restores the dedup windows that an earlier run left open.
pub(super) fn restore(detection: &mut Detection, recovered: RecoveredState) {
    let saved: Vec<Vec<u8>> = recovered.snapshot.into_iter().chain(recovered.changes).collect();
    if let Err(error) = detection.dedup.restore(&saved) {
        tracing::error!(%error, "restore of dedup windows failed");
    }
    if !detection.dedup.is_empty() {
        tracing::info!(windows = detection.dedup.len(), "dedup windows of an earlier run restored");
    }
}

/// Allow-list: the networks of the configuration, and those of its files.
pub(super) fn allow_list(config: &AllowConfig) -> anyhow::Result<AllowList> {
    let AllowedNetworks { networks, files, skipped } = read_allowed(&config.files)?;
    if files > 0 {
        tracing::info!(files, networks = networks.len(), skipped, "allow-list files read");
    }
    Ok(AllowList::new(config.networks.iter().copied().chain(networks)))
}

/// Serves metrics, if configured.
pub(super) fn export(
    exporter: Option<Exporter>,
    status: &Arc<Status>,
    intel: &Arc<Intel>,
    stats: &Arc<Stats>,
) -> impl Future<Output = ()> + Send + 'static {
    let (status, intel, stats) = (Arc::clone(status), Arc::clone(intel), Arc::clone(stats));
    async move {
        if let Some(exporter) = exporter {
            exporter.serve(MetricsSource { status, intel, stats }).await;
        }
    }
}

/// Notifies the service manager of the agent's state, as long as the pipeline thread makes progress.
pub(super) fn watchdog(
    notifier: &Arc<Notifier>,
    heartbeat: &Heartbeat,
    status: &Arc<Status>,
    intel: &Intel,
) -> impl Future<Output = ()> + Send + 'static {
    let (status, set) = (Arc::clone(status), intel.set());
    let text = move || status.summary(set.load().len());
    Watchdog::new(Arc::clone(notifier), heartbeat.clone(), text).run()
}

/// Reloads the `GeoIP` database, if there is one, when its file was replaced; not on the pipeline thread.
pub(super) async fn refresh_geoip(database: Option<Arc<GeoIpDatabase>>) {
    let Some(database) = database else { return };
    let mut ticks = tokio::time::interval(GEOIP_CHECK_INTERVAL);
    loop {
        ticks.tick().await;
        let database = Arc::clone(&database);
        if tokio::task::spawn_blocking(move || database.refresh()).await.is_err() {
            tracing::error!("reload of geoip.database panicked; please report");
        }
    }
}

/// Has the log emit folded lines, and count dropped ones, once a second.
pub(super) async fn flush_log(log: Arc<LogHandle>, stats: Arc<Stats>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        log.poll(&stats);
    }
}

/// Inode number of the agent's network namespace; 0 if unknown.
fn home_netns() -> u32 {
    let file = std::fs::metadata("/proc/self/ns/net");
    file.map_or(0, |file| u32::try_from(file.ino()).unwrap_or(0))
}

/// Emits `VMComputer` rows, if a sink takes rows.
pub(super) fn inventory(
    config: &Config,
    identity: &RowIdentity,
    outbox: &Outbox,
    clock: &Arc<dyn Clock>,
    stats: &Arc<Stats>,
) -> anyhow::Result<Option<impl Future<Output = ()> + Send + 'static>> {
    if !config.rows.enabled || !config.takes_rows() {
        return Ok(None);
    }
    let host = Host {
        root: "/".into(),
        computer: Arc::clone(&identity.computer),
        agent_id: identity.agent_id.clone(),
    };
    let refresh = InventoryRefresh {
        host,
        mode: config.azure.imds,
        imds: Imds::new(&config.azure, ImdsRetryPolicy::DEFAULT)?,
        azure: SharedAzure::clone(&identity.azure),
        clock: Arc::clone(clock),
        stats: Arc::clone(stats),
    };
    let (outbox, stats) = (outbox.clone(), Arc::clone(stats));
    Ok(Some(refresh.run(move |row| {
        stats.rows_emitted.increment();
        outbox.rows(vec![TableRow::Computer(Box::new(row))]);
    })))
}
