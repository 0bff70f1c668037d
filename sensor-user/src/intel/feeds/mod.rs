//! `Intel`: pulls the feeds, keeps the last good set of each on disk, and swaps in the joined set.
//!
//! A failed pull changes only the feed's status. Lookups use the old set until the new one is
//! complete.

mod feed;
mod folder;
mod memory_budget;
mod own_addresses;
mod quarantine;
mod schedule;
mod status;

pub use folder::{FeedFolder, SavedSet};
pub use status::FeedStatus;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::Notify;

use super::config::{FeedConfig, FeedSource};
use super::fetch::{FetchError, Fetcher};
use super::parser;
use super::parser::{ParseJob, ParserMode};
use super::pull::{Cursor, Documents, Extent, PullOutcome};
use super::set::IndicatorSet;
use super::set::store::SetFile;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::memory_limit::memory_limit;
use crate::privsep::sandbox::feed_parser_memory;
use feed::Feed;
use memory_budget::check_room;
use status::{PullError, PullFailure};

/// All feeds, and their joined set of indicators.
#[derive(Debug)]
pub struct Intel {
    /// In the order of the configuration; replaced as a whole by a reload.
    feeds: ArcSwap<Vec<Arc<Feed>>>,
    /// Notified when `feeds` is replaced.
    changed: Notify,
    folder: FeedFolder,
    parser: ParserMode,
    set: Arc<ArcSwap<IndicatorSet>>,
    /// Held while a feed is parsed: one parser at a time, so that memory has room for one.
    parsing: Mutex<()>,
    /// Held while a set is built, so that an older one never replaces a newer one.
    building: Mutex<()>,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
}

impl Intel {
    /// Creates the feeds, whose sets are saved in `folder`. The joined set is empty until
    /// [`Intel::load_saved`], [`Intel::load_local`] or a pull.
    pub fn new(
        feeds: Vec<FeedConfig>,
        folder: FeedFolder,
        parser: ParserMode,
        clock: Arc<dyn Clock>,
        stats: Arc<Stats>,
    ) -> Arc<Self> {
        let feeds = feeds.into_iter().map(|config| Arc::new(Feed::new(config, None))).collect();
        Arc::new(Self {
            feeds: ArcSwap::from_pointee(feeds),
            changed: Notify::new(),
            folder,
            parser,
            set: Arc::default(),
            parsing: Mutex::default(),
            building: Mutex::default(),
            fetcher: Fetcher::new(Arc::clone(&clock)),
            clock,
            stats,
        })
    }

    /// The joined set, for the matcher; each load returns the newest one.
    pub fn set(&self) -> Arc<ArcSwap<IndicatorSet>> {
        Arc::clone(&self.set)
    }

    /// Status of each feed, in the order of the configuration.
    pub fn status(&self) -> Vec<FeedStatus> {
        let now = self.clock.now();
        self.feeds.load().iter().map(|feed| feed.state().status.at(now)).collect()
    }

    /// Loads the last good set of every feed that has one. Must be called before the first connection is
    /// matched. Unusable sets are logged, and pulled again.
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
        let Some(saved) = self.folder.load(&feed.name, &feed.origin) else { return };
        let indicators = saved.set.len();
        tracing::info!(feed = &*feed.name, indicators, "last good set loaded");
        feed.replace_set(saved.set, saved.confirmed);
    }

    /// Reads the feeds that need no network, on this thread. An error is recorded in the feed's status.
    pub fn load_local(&self) {
        for feed in self.feeds.load().iter() {
            if !matches!(feed.config.source, FeedSource::Http(_)) {
                let pulled = Fetcher::local(&feed.config, self.folder.path());
                self.process_pull(feed, pulled);
            }
        }
        self.rebuild();
    }

    /// Processes the result of a pull; returns true if the feed's indicators changed.
    fn process_pull(&self, feed: &Feed, pulled: Result<PullOutcome, FetchError>) -> bool {
        let Some(_lock) = feed.lock_files() else { return false };
        let now = self.clock.now();
        let not_before = pulled.as_ref().err().and_then(FetchError::wait);
        let outcome = pulled.map_err(PullError::Fetch).and_then(|pulled| match pulled {
            PullOutcome::NotModified => Ok(None),
            PullOutcome::New { mut documents, extent, cursor } => {
                let job = self.parse_job(feed, &mut documents, extent, cursor, now);
                self.next_set(feed, &job).map(Some)
            }
        });
        let mut state = feed.state();
        state.status.last_pull = Some(now);
        state.not_before = not_before.and_then(|wait| now.checked_add(wait).ok());
        match outcome {
            Ok(new) => {
                self.stats.feeds_pulled.increment();
                state.status.record_success(now);
                drop(state);
                match new {
                    None => self.confirm(feed, now),
                    Some(set) => self.accept(feed, set, now),
                }
            }
            Err(error) => {
                self.stats.feeds_failed.increment();
                if error.is_damage() {
                    // The next pull must fetch the whole feed, since the saved set is lost.
                    state.cursor = Cursor::Start;
                }
                let is_quarantined = error.is_quarantine();
                if is_quarantined {
                    self.stats.feeds_quarantined.increment();
                }
                let location = feed.config.source.shown();
                let error = PullFailure { feed: &feed.name, location, error }.to_string();
                tracing::warn!(%error, "feed pull failed; its last good content stays");
                state.status.record_failure(error, is_quarantined);
                false
            }
        }
    }

    fn parse_job(
        &self,
        feed: &Feed,
        documents: &mut Documents,
        extent: Extent,
        cursor: Cursor,
        now: Timestamp,
    ) -> ParseJob {
        let (documents, lengths) = documents.finish();
        let state = feed.state();
        let previous = state.segment.is_some().then(|| self.folder.set_path(&feed.name));
        let validity = feed.validity(state.confirmed);
        ParseJob {
            kind: feed.config.kind,
            list: feed.config.list.clone(),
            documents: documents.to_owned(),
            lengths: lengths.to_vec(),
            max_bytes: feed.config.max_bytes,
            extent,
            previous,
            out: self.folder.new_path(&feed.name),
            policy: feed.config.read_policy(now),
            own: if feed.config.allow_private { Vec::new() } else { own_addresses::addresses() },
            ttl: validity.ttl.ttl,
            confirmed: validity.ttl.confirmed,
            memory: feed_parser_memory(memory_limit()),
            origin: feed.origin.clone(),
            cursor,
        }
    }

    /// Builds the next set, and replaces the saved one if the new set is plausible. Leaves no file of a
    /// refused set.
    fn next_set(&self, feed: &Feed, job: &ParseJob) -> Result<SetFile, PullError> {
        let set = self.build_set(feed, job);
        if set.is_err()
            && let Err(error) = self.folder.remove_new(&feed.name)
        {
            tracing::warn!(feed = &*feed.name, %error, "incomplete set not removed");
        }
        set
    }

    fn build_set(&self, feed: &Feed, job: &ParseJob) -> Result<SetFile, PullError> {
        self.folder.remove_new(&feed.name)?;
        let merged = {
            let _one_at_a_time = self.parsing.lock().unwrap_or_else(PoisonError::into_inner);
            parser::run_job(&self.parser, job)?
        };
        let feeds = self.feeds.load();
        let others = feeds.iter().filter(|it| it.name != feed.name);
        let others = others.filter_map(|it| Some(it.state().segment.as_ref()?.len() as u64)).sum();
        check_room(merged.indicators.into(), others, memory_limit())?;
        // The built-in feed is trusted: it changes only with the agent.
        let is_embedded = matches!(feed.config.source, FeedSource::Embedded(_));
        if feed.config.quarantine
            && !is_embedded
            && let Some(reason) = quarantine::reason(merged.previous, merged.indicators)
        {
            return Err(PullError::Quarantine(reason));
        }
        Ok(self.folder.promote(&feed.name)?)
    }

    fn accept(&self, feed: &Feed, set: SetFile, now: Timestamp) -> bool {
        let rejected = set.meta.rejects.total();
        self.stats.feed_entries_rejected.add(rejected);
        tracing::info!(feed = &*feed.name, indicators = set.len(), rejected, "feed loaded");
        feed.replace_set(set, now);
        true
    }

    /// Handles "not modified", with the same effect as a pull of the same documents.
    fn confirm(&self, feed: &Feed, now: Timestamp) -> bool {
        let mut state = feed.state();
        state.confirmed = Some(now);
        drop(state);
        if let Err(error) = self.folder.confirm(&feed.name, now) {
            tracing::warn!(feed = &*feed.name, %error, "time of \"not modified\" not written to the state directory");
        }
        // Indicators without an expiry are valid for longer now, so the saved set is loaded again.
        match self.folder.load(&feed.name, &feed.origin) {
            Some(saved) => {
                feed.replace_set(saved.set, now);
                true
            }
            None => false,
        }
    }

    /// Joins the sets of all feeds, and swaps in the result.
    fn rebuild(&self) {
        let building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let feeds = self.feeds.load();
        let segments = feeds.iter().filter_map(|feed| feed.state().segment.clone()).collect();
        self.set.store(Arc::new(IndicatorSet::from_segments(segments)));
        drop(building);
    }
}
