//! `Intel`: pulls the feeds, keeps the last good content of each, and swaps in a new set.
//!
//! A pull that fails in any way changes nothing but the feed's status. Lookups go on in the old
//! set until the new one is complete.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::de::IgnoredAny;
use tokio::task::JoinSet;

use super::fetch::{FetchError, Fetched, Fetcher, read_local};
use super::{
    FeedConfig, FeedKind, FeedSource, Indicator, IndicatorSet, Parsed, PrefixPolicy, Rejects,
    RowReader, Validators, parse_list,
};
use crate::clock::{Clock, signed};
use crate::stats::Stats;

/// Wait after the first of several failures; it doubles up to the feed's interval.
const FIRST_RETRY: Duration = Duration::from_secs(30);

/// How a feed does.
#[derive(Debug, Clone, Default)]
pub struct FeedStatus {
    /// Its name.
    pub name: Arc<str>,
    /// When it was last pulled, with whatever outcome.
    pub last_pull: Option<Timestamp>,
    /// When a pull was last good ("not modified" is).
    pub last_good: Option<Timestamp>,
    /// Indicators that it gives to the set.
    pub indicators: usize,
    /// Why the last pull failed; `None` after a good one.
    pub last_error: Option<String>,
    /// Pulls that failed since the last good one.
    pub failures: u32,
    /// What of the last good body was not used.
    pub rejects: Arc<Rejects>,
}

/// A pull that was not good.
#[derive(Debug, thiserror::Error)]
#[error("feed {feed}: {place}: {fault}")]
struct PullError<'a> {
    feed: &'a str,
    place: String,
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{}", chain(.0))]
    Fetch(FetchError),
    #[error("the body ends inside a row; it was cut on its way")]
    Truncated,
    #[error("none of {entries} entries can be used, {first}; check the feed's kind")]
    Unusable { entries: u64, first: String },
}

/// All feeds, and the set that they make together.
#[derive(Debug)]
pub struct Intel {
    feeds: Vec<Feed>,
    set: Arc<ArcSwap<IndicatorSet>>,
    /// Held while a set is built, so that an older one never replaces a newer one.
    building: Mutex<()>,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
}

#[derive(Debug)]
struct Feed {
    config: FeedConfig,
    name: Arc<str>,
    state: Mutex<FeedState>,
}

#[derive(Debug, Default)]
struct FeedState {
    indicators: Vec<Arc<Indicator>>,
    validators: Validators,
    status: FeedStatus,
}

impl Intel {
    /// Takes the feeds; the set is empty until [`Intel::load_local`] or a pull.
    pub fn new(feeds: Vec<FeedConfig>, clock: Arc<dyn Clock>, stats: Arc<Stats>) -> Arc<Self> {
        let feeds = feeds
            .into_iter()
            .map(|config| {
                let name: Arc<str> = config.name.as_str().into();
                let status = FeedStatus { name: Arc::clone(&name), ..FeedStatus::default() };
                let state = Mutex::new(FeedState { status, ..FeedState::default() });
                Feed { config, name, state }
            })
            .collect();
        Arc::new(Self {
            feeds,
            set: Arc::default(),
            building: Mutex::default(),
            fetcher: Fetcher::new(Arc::clone(&clock)),
            clock,
            stats,
        })
    }

    /// The set, for the matcher: each load of it gives the newest one.
    pub fn set(&self) -> Arc<ArcSwap<IndicatorSet>> {
        Arc::clone(&self.set)
    }

    /// How each feed does, in the order of the configuration.
    pub fn status(&self) -> Vec<FeedStatus> {
        self.feeds.iter().map(|feed| feed.state().status.clone()).collect()
    }

    /// Loads the feeds that need no network, on this thread: call it before the first connection
    /// is matched. A feed that fails is told in its status.
    pub fn load_local(&self) {
        for feed in &self.feeds {
            if !matches!(feed.config.source, FeedSource::Http(_)) {
                self.settle(feed, read_local(&feed.config));
            }
        }
        self.rebuild();
    }

    /// Pulls every feed once, one after the other.
    pub async fn pull_all(self: &Arc<Self>) {
        for index in 0..self.feeds.len() {
            self.pull(index).await;
        }
    }

    /// Pulls each feed at once (local ones were just loaded, where they were) and then at its
    /// interval, until `shutdown` completes.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let mut loops = JoinSet::new();
        for index in 0..self.feeds.len() {
            loops.spawn(Arc::clone(&self).keep(index));
        }
        // Dropping the loops afterwards stops them.
        shutdown.await;
    }

    async fn keep(self: Arc<Self>, index: usize) {
        let Some(feed) = self.feeds.get(index) else { return };
        loop {
            let status = feed.state().status.clone();
            if status.last_pull.is_some() {
                let random = fastrand::u64(..);
                tokio::time::sleep(wait(feed.config.interval, status.failures, random)).await;
            }
            self.pull(index).await;
        }
    }

    async fn pull(self: &Arc<Self>, index: usize) {
        let Some(feed) = self.feeds.get(index) else { return };
        let validators = feed.state().validators.clone();
        let fetched = self.fetcher.fetch(&feed.config, &validators).await;
        // Parsing and building take up to seconds; a runtime's worker must not.
        let intel = Arc::clone(self);
        let settled = tokio::task::spawn_blocking(move || {
            if intel.feeds.get(index).is_some_and(|feed| intel.settle(feed, fetched)) {
                intel.rebuild();
            }
        });
        if let Err(error) = settled.await {
            tracing::error!(feed = &*feed.name, %error, "bug: reading a feed stopped; please report");
        }
    }

    /// Takes what a pull gave; true where the feed's indicators changed.
    fn settle(&self, feed: &Feed, fetched: Result<Fetched, FetchError>) -> bool {
        let now = self.clock.now();
        let outcome = fetched.map_err(Fault::Fetch).and_then(|fetched| match fetched {
            Fetched::NotModified => Ok(None),
            Fetched::Body { bytes, validators } => {
                feed.parse(&bytes, now).map(|parsed| Some((parsed, validators)))
            }
        });
        let mut state = feed.state();
        state.status.last_pull = Some(now);
        match outcome {
            Ok(new) => {
                self.stats.feeds_pulled.increment();
                state.status.last_good = Some(now);
                state.status.last_error = None;
                state.status.failures = 0;
                let is_changed = match new {
                    None => feed.config.renew(&mut state.indicators, now),
                    Some((parsed, validators)) => {
                        self.stats.feed_entries_rejected.add(parsed.rejects.total());
                        let (indicators, rejected) =
                            (parsed.indicators.len(), parsed.rejects.total());
                        tracing::info!(feed = &*feed.name, indicators, rejected, "feed loaded");
                        state.indicators = parsed.indicators.into_iter().map(Arc::new).collect();
                        // Collected in place: in the room of the indicators themselves.
                        state.indicators.shrink_to_fit();
                        // Only now: the validators of a body that was refused would bring "not
                        // modified" for it.
                        state.validators = validators;
                        state.status.rejects = Arc::new(parsed.rejects);
                        true
                    }
                };
                state.status.indicators = state.indicators.len();
                is_changed
            }
            Err(fault) => {
                self.stats.feeds_failed.increment();
                let place = feed.config.source.shown();
                let error = PullError { feed: &feed.name, place, fault }.to_string();
                tracing::warn!(%error, "feed pull failed; its last good content stays");
                state.status.failures = state.status.failures.saturating_add(1);
                state.status.last_error = Some(error);
                false
            }
        }
    }

    /// Builds the set of all feeds and swaps it in.
    fn rebuild(&self) {
        let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for feed in &self.feeds {
            all.extend(feed.state().indicators.iter().map(Arc::clone));
        }
        self.set.store(Arc::new(IndicatorSet::build(all)));
        drop(building);
    }
}

impl Feed {
    fn state(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a body, and refuses one that would only do harm.
    fn parse(&self, bytes: &[u8], now: Timestamp) -> Result<Parsed, Fault> {
        let (config, policy) = (&self.config, PrefixPolicy::from(&self.config));
        let feed = Arc::clone(&self.name);
        let read = match config.kind {
            FeedKind::List => {
                let expires = after(now, config.default_ttl);
                parse_list(bytes, &feed, policy, (now, Some(expires)))
            }
            FeedKind::Sentinel if last_line_is_cut(bytes) => return Err(Fault::Truncated),
            _ => {
                let lookback = signed(config.indicator_lookback);
                let mut reader = RowReader::new(feed, policy, now, lookback);
                reader.read(bytes).map(|()| reader.finish(now))
            }
        };
        let parsed = read.map_err(|error| Fault::Fetch(FetchError::File(error)))?;
        // Rows that have ended are good news, and end what they named.
        let rejects = &parsed.rejects;
        let entries = rejects.total();
        if parsed.indicators.is_empty() && entries > 0 && rejects.malformed() == entries {
            let first = rejects.kept().first().map_or_else(
                || "without a reason".to_owned(),
                |it| format!("line {}: \"{}\": {}", it.place, it.text.escape_debug(), it.reason),
            );
            return Err(Fault::Unusable { entries, first });
        }
        Ok(parsed)
    }
}

/// A last line without line ending that is no whole JSON value.
fn last_line_is_cut(body: &[u8]) -> bool {
    let last = body.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    !last.trim_ascii().is_empty() && serde_json::from_slice::<IgnoredAny>(last).is_err()
}

fn before(now: Timestamp, duration: Duration) -> Timestamp {
    now.checked_sub(signed(duration)).unwrap_or(Timestamp::MIN)
}

fn after(now: Timestamp, duration: Duration) -> Timestamp {
    now.checked_add(signed(duration)).unwrap_or(Timestamp::MAX)
}

impl FeedConfig {
    /// What "not modified" means for the indicators at hand: the same as reading the same body
    /// again at `now`. True where they changed.
    fn renew(&self, indicators: &mut Vec<Arc<Indicator>>, now: Timestamp) -> bool {
        match self.kind {
            FeedKind::Sentinel => {
                let oldest = before(now, self.indicator_lookback);
                let count = indicators.len();
                indicators.retain(|indicator| indicator.time_generated >= oldest);
                indicators.len() != count
            }
            _ => {
                // A list is pulled far more often than it expires: once in half its validity is
                // often enough.
                let stale = before(now, self.default_ttl / 2);
                if indicators.first().is_none_or(|first| first.time_generated > stale) {
                    return false;
                }
                for indicator in indicators {
                    let mut renewed = Indicator::clone(indicator);
                    renewed.time_generated = now;
                    renewed.expires = Some(after(now, self.default_ttl));
                    *indicator = Arc::new(renewed);
                }
                true
            }
        }
    }
}

impl FeedSource {
    /// Where it is, without the parts of a URL that may be secret.
    pub fn shown(&self) -> String {
        match self {
            Self::File(path) => format!("{}", path.display()),
            Self::Http(url) => {
                let query = if url.query().is_some() { "?…" } else { "" };
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                let host = url.host_str().unwrap_or_default();
                format!("{}://{host}{port}{}{query}", url.scheme(), url.path())
            }
            Self::Embedded(_) => "embedded".to_owned(),
        }
    }
}

/// Time to the next pull: the interval, or after failures a shorter time that doubles; and up to
/// a tenth more, so that many hosts do not ask in the same second.
fn wait(interval: Duration, failures: u32, random: u64) -> Duration {
    let base = match failures {
        0 => interval,
        _ => FIRST_RETRY.saturating_mul(1 << (failures - 1).min(16)).min(interval),
    };
    let base = base.max(Duration::from_secs(1));
    let thousandths = u32::try_from(random % 101).unwrap_or(0);
    base + base / 1000 * thousandths
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait;
    use crate::intel::FeedSource;

    #[test]
    fn failures_are_retried_soon_and_hosts_do_not_ask_together() {
        let hour = Duration::from_hours(1);
        let secs = Duration::from_secs;
        for (interval, failures, random, waited) in [
            (hour, 0, 0, hour),
            (hour, 0, 100, secs(3960)),
            (hour, 1, 0, secs(30)),
            (hour, 2, 100, secs(66)),
            (hour, 99, 0, hour),
            (secs(10), 1, 0, secs(10)),
            (Duration::ZERO, 0, 0, secs(1)),
        ] {
            assert_eq!(wait(interval, failures, random), waited, "{failures} {random}");
        }
    }

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        let url = "https://user:pass@feeds.example:8443/list.txt?key=secret".parse().unwrap();
        assert_eq!(FeedSource::Http(url).shown(), "https://feeds.example:8443/list.txt?…");
    }
}
