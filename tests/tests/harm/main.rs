//! No feed can hurt: whatever a server answers, whatever becomes of the disk and of the reader, it
//! is told with its reason, what was good still matches, and the next good pull heals.
//!
//! Feeds are read by the agent's own child process, as in the field.
#![expect(clippy::unwrap_used, reason = "a suite stops where its machinery fails")]

mod bodies;
mod child;
mod disk;
mod documents;
mod entries;
mod samples;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sensor_tests::{FeedServer, agent_binary};
use sensor_user::base::clock::FixedClock;
use sensor_user::base::counters::Stats;
use sensor_user::intel::{
    FeedConfig, FeedFolder, FeedKind, FeedSource, IndicatorSet, Intel, Reading, preset,
};
use sensor_user::schema::health::State;
use sensor_user::telemetry::control::FeedReport;
use tempfile::TempDir;

/// The instant of the pulls.
const AT: &str = "2026-11-24T12:00:00Z";
/// Indicators of a good pull.
const GOOD: u32 = 20;

/// A feed that was good once.
struct Harm {
    server: FeedServer,
    intel: Arc<Intel>,
    stats: Arc<Stats>,
    config: FeedConfig,
    state: TempDir,
}

impl Harm {
    /// A plain list, pulled well.
    async fn list() -> Self {
        Self::of(FeedKind::List, |_| {}).await
    }

    /// A feed of this kind (lists: JSON), changed by `change`, pulled well.
    async fn of(kind: FeedKind, change: impl FnOnce(&mut FeedConfig)) -> Self {
        let harm = Self::new(kind, change).await;
        harm.pull_good().await;
        harm
    }

    /// A feed that was never pulled.
    async fn new(kind: FeedKind, change: impl FnOnce(&mut FeedConfig)) -> Self {
        let server = FeedServer::start().await;
        let source = FeedSource::Http(server.url().parse().unwrap());
        let mut config = FeedConfig {
            default_ttl: Duration::from_hours(1),
            timeout: Duration::from_secs(20),
            ..FeedConfig::new("harm".to_owned(), kind, source)
        };
        change(&mut config);
        let state = tempfile::tempdir().unwrap();
        let (intel, stats) = intel(&config, state.path());
        Self { server, intel, stats, config, state }
    }

    /// The agent again, on the same state.
    fn restart(&mut self) {
        (self.intel, self.stats) = intel(&self.config, self.state.path());
        self.intel.load_saved();
    }

    /// Pulls, and says how the feed is.
    async fn pull(&self) -> FeedReport {
        self.intel.pull_all().await;
        self.report()
    }

    fn report(&self) -> FeedReport {
        FeedReport::of(&self.intel.status().remove(0), true)
    }

    /// Pulls this body.
    async fn pull_body(&self, body: impl AsRef<[u8]>) -> FeedReport {
        self.server.serve("", body.as_ref());
        self.pull().await
    }

    /// A good pull, after which nothing is wrong.
    async fn pull_good(&self) {
        let report = self.pull_body(samples::good(&self.config)).await;
        assert_eq!((report.reason.as_str(), report.indicators), ("", u64::from(GOOD)));
        assert_eq!((report.quarantined, report.failures), (false, 0));
        assert_eq!(report.state, State::Ok);
        self.assert_holds("a good pull");
    }

    /// All of the good pull matches, and nothing else does.
    fn assert_holds(&self, after: &str) {
        let set = self.intel.set().load_full();
        let missing: Vec<_> = (1..=GOOD).filter(|it| !covers(&set, &address(*it))).collect();
        assert_eq!((missing.as_slice(), set.len()), (&[][..], GOOD as usize), "{after}");
    }

    /// The pull failed for a reason that has `told` in it, and no harm was done.
    fn assert_refused(&self, report: &FeedReport, told: &str) {
        assert!(report.reason.contains(told), "{told}: {}", report.reason);
        assert!(!report.reason.chars().any(char::is_control), "{:?}", report.reason);
        assert_eq!(report.state, State::Degraded, "{told}");
        assert_eq!(self.files(), ["harm.set"], "{told}");
        self.assert_holds(told);
    }

    /// The files of the feed.
    fn files(&self) -> Vec<String> {
        names(&self.folder()).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.state.path().join("feeds")
    }
}

fn intel(config: &FeedConfig, state: &Path) -> (Arc<Intel>, Arc<Stats>) {
    let stats = Arc::new(Stats::default());
    let folder = FeedFolder::open(state).unwrap();
    let clock = Arc::new(FixedClock(at()));
    let reading = Reading::Child(agent_binary().to_owned());
    (Intel::new(vec![config.clone()], folder, reading, (clock, Arc::clone(&stats))), stats)
}

fn at() -> Timestamp {
    AT.parse().unwrap()
}

/// An address of the good pull.
fn address(number: u32) -> String {
    format!("198.51.100.{number}")
}

fn covers(set: &IndicatorSet, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    set.covering(address).next().is_some()
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Changes a configuration.
type Change = fn(&mut FeedConfig);

/// The kinds whose documents are JSON, each with what its configuration needs.
fn json_kinds() -> [(FeedKind, Change); 5] {
    [
        (FeedKind::List, |config| config.list = preset("feodo").unwrap()),
        (FeedKind::Stix, |_| {}),
        (FeedKind::Misp, |_| {}),
        (FeedKind::CrowdSec, |_| {}),
        (FeedKind::Sentinel, |_| {}),
    ]
}
