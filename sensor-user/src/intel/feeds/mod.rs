//! `Intel`: pulls the feeds, keeps the last good set of each on disk, and swaps in what they make
//! together.
//!
//! A pull that fails in any way changes nothing but the feed's status. Lookups go on in the old
//! set until the new one is complete.

mod folder;
mod own;
mod quarantine;
mod status;

pub use folder::{FeedFolder, Kept};
pub use status::FeedStatus;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::fetch::{FetchError, Fetcher};
use super::reader::{self, Job, Reading};
use super::segment::{Segment, Validity};
use super::store::{Meta, OpenSet};
use super::{Cursor, Extent, FeedConfig, FeedSource, IndicatorSet, Pulled, Rejects};
use crate::clock::Clock;
use crate::stats::Stats;
use status::{Fault, PullError};

/// Wait after the first of several failures; it doubles up to the feed's interval.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// Periods without a good pull after which a feed is stale.
const STALE_PERIODS: u32 = 3;
/// A feed is not stale before: a pull takes its time.
const STALE_AFTER: Duration = Duration::from_mins(2);

/// All feeds, and the set that they make together.
#[derive(Debug)]
pub struct Intel {
    feeds: Vec<Feed>,
    folder: FeedFolder,
    reading: Reading,
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
    /// See [`Meta::origin`].
    origin: String,
    state: Mutex<FeedState>,
}

#[derive(Debug)]
struct FeedState {
    segment: Option<Arc<Segment>>,
    cursor: Cursor,
    /// When what is there was last confirmed: by its pull, or by a "not modified" after it.
    confirmed: Option<Timestamp>,
    /// Not before then, by the server's own word.
    not_before: Option<Timestamp>,
    status: FeedStatus,
}

impl Intel {
    /// Takes the feeds, whose sets are kept in `folder`; the set is empty until
    /// [`Intel::load_saved`], [`Intel::load_local`] or a pull.
    pub fn new(
        feeds: Vec<FeedConfig>,
        folder: FeedFolder,
        reading: Reading,
        (clock, stats): (Arc<dyn Clock>, Arc<Stats>),
    ) -> Arc<Self> {
        let feeds = feeds.into_iter().map(Feed::new).collect();
        Arc::new(Self {
            feeds,
            folder,
            reading,
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
        let now = self.clock.now();
        self.feeds.iter().map(|feed| feed.state().status.at(now)).collect()
    }

    /// Loads the last good set of every feed that has one: call it before the first connection is
    /// matched. What cannot be used is told in the log, and pulled again.
    pub fn load_saved(&self) {
        let names: Vec<&str> = self.feeds.iter().map(|feed| &*feed.name).collect();
        self.folder.clean(&names);
        for feed in &self.feeds {
            let Some(kept) = self.folder.load(&feed.name, &feed.origin) else { continue };
            let indicators = kept.set.len();
            tracing::info!(feed = &*feed.name, indicators, "last good set loaded");
            let confirmed = kept.confirmed;
            feed.take(kept.set, confirmed);
        }
        self.rebuild();
    }

    /// Reads the feeds that need no network, on this thread. A feed that fails is told in its
    /// status.
    pub fn load_local(&self) {
        for feed in &self.feeds {
            if !matches!(feed.config.source, FeedSource::Http(_)) {
                let pulled = Fetcher::local(&feed.config, self.folder.path());
                self.settle(feed, pulled);
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
            let (last_pull, failures, not_before) = {
                let state = feed.state();
                (state.status.last_pull, state.status.failures, state.not_before)
            };
            if last_pull.is_some() {
                let random = fastrand::u64(..);
                let asked = not_before.map(|then| then.duration_since(self.clock.now()));
                let asked = asked.and_then(|it| Duration::try_from(it).ok()).unwrap_or_default();
                let wait = wait(feed.config.interval, failures, random).max(asked);
                tokio::time::sleep(wait).await;
            }
            self.pull(index).await;
        }
    }

    async fn pull(self: &Arc<Self>, index: usize) {
        let Some(feed) = self.feeds.get(index) else { return };
        let cursor = feed.state().cursor.clone();
        let pulled = self.fetcher.pull(&feed.config, &cursor, self.folder.path()).await;
        // Reading and building take up to seconds; a runtime's worker must not.
        let intel = Arc::clone(self);
        let settled = tokio::task::spawn_blocking(move || {
            if intel.feeds.get(index).is_some_and(|feed| intel.settle(feed, pulled)) {
                intel.rebuild();
            }
        });
        if let Err(error) = settled.await {
            tracing::error!(feed = &*feed.name, %error, "bug: reading a feed stopped; please report");
        }
    }

    /// Takes what a pull gave; true where the feed's indicators changed.
    fn settle(&self, feed: &Feed, pulled: Result<Pulled, FetchError>) -> bool {
        let now = self.clock.now();
        let not_before = pulled.as_ref().err().and_then(FetchError::wait);
        let outcome = pulled.map_err(Fault::Fetch).and_then(|pulled| match pulled {
            Pulled::NotModified => Ok(None),
            Pulled::New { mut documents, extent, cursor } => {
                let (path, lengths) = documents.finish();
                let job = self.job(feed, (path, lengths), (extent, cursor), now);
                self.next_set(feed, &job).map(Some)
            }
        });
        let mut state = feed.state();
        state.status.last_pull = Some(now);
        state.not_before = not_before.and_then(|wait| now.checked_add(wait).ok());
        match outcome {
            Ok(new) => {
                self.stats.feeds_pulled.increment();
                state.status.good(now);
                drop(state);
                match new {
                    None => self.confirm(feed, now),
                    Some(set) => self.accept(feed, set, now),
                }
            }
            Err(fault) => {
                self.stats.feeds_failed.increment();
                if fault.is_damage() {
                    state.cursor = Cursor::Start;
                }
                if fault.is_quarantine() {
                    self.stats.feeds_quarantined.increment();
                }
                let place = feed.config.source.shown();
                let quarantined = fault.is_quarantine();
                let error = PullError { feed: &feed.name, place, fault }.to_string();
                tracing::warn!(%error, "feed pull failed; its last good content stays");
                state.status.bad(error, quarantined);
                false
            }
        }
    }

    fn job(
        &self,
        feed: &Feed,
        (documents, lengths): (&std::path::Path, &[u64]),
        (extent, cursor): (Extent, Cursor),
        now: Timestamp,
    ) -> Job {
        let state = feed.state();
        let before = state.segment.is_some().then(|| self.folder.set_path(&feed.name));
        let validity = feed.validity(state.confirmed);
        Job {
            kind: feed.config.kind,
            list: feed.config.list.clone(),
            documents: documents.to_owned(),
            lengths: lengths.to_vec(),
            extent,
            before,
            out: self.folder.new_path(&feed.name),
            policy: feed.config.read_policy(now),
            own: if feed.config.allow_private { Vec::new() } else { own::addresses() },
            ttl: validity.ttl.ttl,
            confirmed: validity.ttl.confirmed,
            origin: feed.origin.clone(),
            cursor,
        }
    }

    /// Has `job` done, and looks whether its outcome can be right. The new set is in place then; of
    /// one that is none, nothing is left.
    fn next_set(&self, feed: &Feed, job: &Job) -> Result<OpenSet, Fault> {
        let set = self.make_set(feed, job);
        if set.is_err()
            && let Err(error) = self.folder.remove_new(&feed.name)
        {
            tracing::warn!(feed = &*feed.name, %error, "remove a set that was not finished");
        }
        set
    }

    fn make_set(&self, feed: &Feed, job: &Job) -> Result<OpenSet, Fault> {
        self.folder.remove_new(&feed.name)?;
        let merged = reader::read(&self.reading, job)?;
        // What is compiled in changes with the agent, and is right.
        let is_ours = matches!(feed.config.source, FeedSource::Embedded(_));
        if feed.config.quarantine
            && !is_ours
            && let Some(doubt) = quarantine::doubt(merged.before, merged.indicators)
        {
            return Err(Fault::Quarantine(doubt));
        }
        Ok(self.folder.promote(&feed.name)?)
    }

    fn accept(&self, feed: &Feed, set: OpenSet, now: Timestamp) -> bool {
        let rejected = set.meta.rejects.total();
        self.stats.feed_entries_rejected.add(rejected);
        tracing::info!(feed = &*feed.name, indicators = set.len(), rejected, "feed loaded");
        feed.take(set, now);
        true
    }

    /// "Not modified": the same as the same documents again.
    fn confirm(&self, feed: &Feed, now: Timestamp) -> bool {
        let mut state = feed.state();
        state.confirmed = Some(now);
        drop(state);
        if let Err(error) = self.folder.confirm(&feed.name, now) {
            tracing::warn!(feed = &*feed.name, %error, "note in the state directory that the feed is unchanged");
        }
        // What names no expiry is valid for longer now; what is there is read with that in mind.
        match self.folder.load(&feed.name, &feed.origin) {
            Some(kept) => {
                feed.take(kept.set, now);
                true
            }
            None => false,
        }
    }

    /// Builds the set of all feeds and swaps it in.
    fn rebuild(&self) {
        let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = self.feeds.iter().filter_map(|feed| feed.state().segment.clone()).collect();
        self.set.store(Arc::new(IndicatorSet::join(segments)));
        drop(building);
    }
}

impl Feed {
    fn new(config: FeedConfig) -> Self {
        let name: Arc<str> = config.name.as_str().into();
        let stale_after = config.interval.saturating_mul(STALE_PERIODS).max(STALE_AFTER);
        let status = FeedStatus::new(Arc::clone(&name), &config, stale_after);
        let origin = config.origin();
        let state = Mutex::new(FeedState {
            segment: None,
            cursor: Cursor::Start,
            confirmed: None,
            not_before: None,
            status,
        });
        Self { config, name, origin, state }
    }

    fn state(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn validity(&self, confirmed: Option<Timestamp>) -> Validity {
        self.config.validity(confirmed)
    }

    /// Takes a set that is in place.
    fn take(&self, mut set: OpenSet, confirmed: Timestamp) {
        let Meta { pulled, cursor, rejects, .. } = &mut set.meta;
        let (pulled, cursor, rejects) =
            (*pulled, std::mem::take(cursor), std::mem::take::<Rejects>(rejects));
        let segment = Segment::open(set, Arc::clone(&self.name), self.validity(Some(confirmed)));
        let mut state = self.state();
        state.status.indicators = segment.len();
        state.status.loaded = Some(pulled);
        state.status.last_good = Some(confirmed);
        state.status.rejects = Arc::new(rejects);
        state.segment = Some(Arc::new(segment));
        state.cursor = cursor;
        state.confirmed = Some(confirmed);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait;

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
}
