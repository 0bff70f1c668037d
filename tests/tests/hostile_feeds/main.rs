//! Hostile feeds: whatever a server sends and whatever happens to the disk or the reader, the error
//! is reported with its reason, good indicators still match, and the next good pull recovers.
//!
//! The agent's own child process reads the feeds, as in production.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

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
    FeedConfig, FeedFolder, FeedKind, FeedSource, IndicatorSet, Intel, ParserMode, preset,
};
use sensor_user::schema::health::HealthState;
use sensor_user::telemetry::control::FeedReport;
use tempfile::TempDir;

/// The time of the pulls.
const AT: &str = "2026-11-24T12:00:00Z";
/// Number of indicators of a good pull.
const GOOD: u32 = 20;

/// A feed after one good pull.
struct TestFeed {
    server: FeedServer,
    intel: Arc<Intel>,
    stats: Arc<Stats>,
    config: FeedConfig,
    state: TempDir,
}

impl TestFeed {
    /// A plain list after a good pull.
    async fn list() -> Self {
        Self::of(FeedKind::List, |_| {}).await
    }

    /// A feed of this kind (lists: JSON), changed by `change`, after a good pull.
    async fn of(kind: FeedKind, change: impl FnOnce(&mut FeedConfig)) -> Self {
        let feed = Self::new(kind, change).await;
        feed.pull_good().await;
        feed
    }

    /// A feed that was never pulled.
    async fn new(kind: FeedKind, change: impl FnOnce(&mut FeedConfig)) -> Self {
        let server = FeedServer::start().await;
        let source = FeedSource::Http(server.url().parse().unwrap());
        let mut config = FeedConfig {
            default_ttl: Duration::from_hours(1),
            timeout: Duration::from_secs(20),
            ..FeedConfig::new("test".to_owned(), kind, source)
        };
        change(&mut config);
        let state = tempfile::tempdir().unwrap();
        let (intel, stats) = intel(&config, state.path());
        Self { server, intel, stats, config, state }
    }

    /// Restarts the agent on the same state.
    fn restart(&mut self) {
        (self.intel, self.stats) = intel(&self.config, self.state.path());
        self.intel.load_saved();
    }

    /// Pulls the feed; returns its report.
    async fn pull(&self) -> FeedReport {
        self.intel.pull_all().await;
        self.report()
    }

    fn report(&self) -> FeedReport {
        FeedReport::new(&self.intel.status().remove(0), true)
    }

    async fn pull_body(&self, body: impl AsRef<[u8]>) -> FeedReport {
        self.server.serve("", body.as_ref());
        self.pull().await
    }

    /// Pulls a good body, and asserts that the feed is OK.
    async fn pull_good(&self) {
        let report = self.pull_body(samples::good(&self.config)).await;
        assert_eq!((report.reason.as_str(), report.indicators), ("", u64::from(GOOD)));
        assert_eq!((report.quarantined, report.failures), (false, 0));
        assert_eq!(report.state, HealthState::Ok);
        self.assert_holds("a good pull");
    }

    /// Asserts that all indicators of the good pull match, and nothing else.
    fn assert_holds(&self, after: &str) {
        let set = self.intel.set().load_full();
        let missing: Vec<_> = (1..=GOOD).filter(|it| !covers(&set, &address(*it))).collect();
        assert_eq!((missing.as_slice(), set.len()), (&[][..], GOOD as usize), "{after}");
    }

    /// Asserts that the pull failed with an error containing `error`, and that no indicator was
    /// lost.
    fn assert_refused(&self, report: &FeedReport, error: &str) {
        assert!(report.reason.contains(error), "{error}: {}", report.reason);
        assert!(!report.reason.chars().any(char::is_control), "{:?}", report.reason);
        assert_eq!(report.state, HealthState::Degraded, "{error}");
        assert_eq!(self.files(), ["test.set"], "{error}");
        self.assert_holds(error);
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
    let reading = ParserMode::Child(agent_binary().to_owned());
    (Intel::new(vec![config.clone()], folder, reading, clock, Arc::clone(&stats)), stats)
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

/// A change of a configuration.
type Change = fn(&mut FeedConfig);

/// The kinds with JSON documents, each with its necessary configuration.
fn json_kinds() -> [(FeedKind, Change); 5] {
    [
        (FeedKind::List, |config| config.list = preset("feodo").unwrap()),
        (FeedKind::Stix, |_| {}),
        (FeedKind::Misp, |_| {}),
        (FeedKind::CrowdSec, |_| {}),
        (FeedKind::Sentinel, |_| {}),
    ]
}
