//! `Intel`: pulls the feeds, keeps the last good set of each on disk, and swaps in what they make
//! together.
//!
//! A pull that fails in any way changes nothing but the feed's status. Lookups go on in the old
//! set until the new one is complete.

mod feed;
mod folder;
mod own_addresses;
mod quarantine;
mod schedule;
mod status;

pub use folder::{FeedFolder, Kept};
pub use status::FeedStatus;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::config::{FeedConfig, FeedSource};
use super::fetch::{FetchError, Fetcher};
use super::parser;
use super::parser::{ParseJob, ParserMode};
use super::pull::{Cursor, Extent, PullOutcome};
use super::set::IndicatorSet;
use super::set::store::OpenSet;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use feed::Feed;
use status::{Fault, PullError};

/// All feeds, and the set that they make together.
#[derive(Debug)]
pub struct Intel {
    /// In the order of the configuration; replaced as a whole when that is.
    feeds: ArcSwap<Vec<Arc<Feed>>>,
    /// There are others.
    changed: Notify,
    folder: FeedFolder,
    reading: ParserMode,
    set: Arc<ArcSwap<IndicatorSet>>,
    /// Held while a set is built, so that an older one never replaces a newer one.
    building: Mutex<()>,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
}

impl Intel {
    /// Takes the feeds, whose sets are kept in `folder`; the set is empty until
    /// [`Intel::load_saved`], [`Intel::load_local`] or a pull.
    pub fn new(
        feeds: Vec<FeedConfig>,
        folder: FeedFolder,
        reading: ParserMode,
        (clock, stats): (Arc<dyn Clock>, Arc<Stats>),
    ) -> Arc<Self> {
        let feeds = feeds.into_iter().map(|config| Arc::new(Feed::new(config, None))).collect();
        Arc::new(Self {
            feeds: ArcSwap::from_pointee(feeds),
            changed: Notify::new(),
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
        self.feeds.load().iter().map(|feed| feed.state().status.at(now)).collect()
    }

    /// Loads the last good set of every feed that has one: call it before the first connection is
    /// matched. What cannot be used is told in the log, and pulled again.
    pub fn load_saved(&self) {
        let feeds = self.feeds.load();
        let names: Vec<&str> = feeds.iter().map(|feed| &*feed.name).collect();
        self.folder.clean(&names);
        for feed in feeds.iter() {
            self.take_saved(feed);
        }
        self.rebuild();
    }

    fn take_saved(&self, feed: &Feed) {
        let Some(kept) = self.folder.load(&feed.name, &feed.origin) else { return };
        let indicators = kept.set.len();
        tracing::info!(feed = &*feed.name, indicators, "last good set loaded");
        feed.take(kept.set, kept.confirmed);
    }

    /// Reads the feeds that need no network, on this thread. A feed that fails is told in its
    /// status.
    pub fn load_local(&self) {
        for feed in self.feeds.load().iter() {
            if !matches!(feed.config.source, FeedSource::Http(_)) {
                let pulled = Fetcher::local(&feed.config, self.folder.path());
                self.settle(feed, pulled);
            }
        }
        self.rebuild();
    }

    /// Takes what a pull gave; true where the feed's indicators changed.
    fn settle(&self, feed: &Feed, pulled: Result<PullOutcome, FetchError>) -> bool {
        let Some(_alone) = feed.begin_work() else { return false };
        let now = self.clock.now();
        let not_before = pulled.as_ref().err().and_then(FetchError::wait);
        let outcome = pulled.map_err(Fault::Fetch).and_then(|pulled| match pulled {
            PullOutcome::NotModified => Ok(None),
            PullOutcome::New { mut documents, extent, cursor } => {
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
    ) -> ParseJob {
        let state = feed.state();
        let previous = state.segment.is_some().then(|| self.folder.set_path(&feed.name));
        let validity = feed.validity(state.confirmed);
        ParseJob {
            kind: feed.config.kind,
            list: feed.config.list.clone(),
            documents: documents.to_owned(),
            lengths: lengths.to_vec(),
            extent,
            previous,
            out: self.folder.new_path(&feed.name),
            policy: feed.config.read_policy(now),
            own: if feed.config.allow_private { Vec::new() } else { own_addresses::addresses() },
            ttl: validity.ttl.ttl,
            confirmed: validity.ttl.confirmed,
            origin: feed.origin.clone(),
            cursor,
        }
    }

    /// Has `job` done, and looks whether its outcome can be right. The new set is in place then; of
    /// one that is none, nothing is left.
    fn next_set(&self, feed: &Feed, job: &ParseJob) -> Result<OpenSet, Fault> {
        let set = self.make_set(feed, job);
        if set.is_err()
            && let Err(error) = self.folder.remove_new(&feed.name)
        {
            tracing::warn!(feed = &*feed.name, %error, "remove a set that was not finished");
        }
        set
    }

    fn make_set(&self, feed: &Feed, job: &ParseJob) -> Result<OpenSet, Fault> {
        self.folder.remove_new(&feed.name)?;
        let merged = parser::run_job(&self.reading, job)?;
        // What is compiled in changes with the agent, and is right.
        let is_ours = matches!(feed.config.source, FeedSource::Embedded(_));
        if feed.config.quarantine
            && !is_ours
            && let Some(doubt) = quarantine::doubt(merged.previous, merged.indicators)
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
        let feeds = self.feeds.load();
        let segments = feeds.iter().filter_map(|feed| feed.state().segment.clone()).collect();
        self.set.store(Arc::new(IndicatorSet::join(segments)));
        drop(building);
    }
}
