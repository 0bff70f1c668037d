//! `Feed`: a source of indicators, and its state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::status::FeedStatus;
use crate::intel::config::FeedConfig;
use crate::intel::pull::Cursor;
use crate::intel::rejects::Rejects;
use crate::intel::set::segment::{FeedSegment, Validity};
use crate::intel::set::store::{SetFile, SetMeta};

/// Number of intervals without a good pull after which a feed is stale.
const STALE_INTERVALS: u32 = 3;
/// Minimum time without a good pull after which a feed is stale, since a pull takes some time.
const STALE_MIN: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub(super) struct Feed {
    pub(super) config: FeedConfig,
    pub(super) name: Arc<str>,
    /// See [`SetMeta::origin`].
    pub(super) origin: String,
    state: Mutex<FeedState>,
    /// Locked while the feed's files are changed; shared with earlier feeds of the same name.
    files: Arc<Mutex<()>>,
    /// True if the feed is no longer configured; the result of its last pull is discarded.
    retired: AtomicBool,
}

#[derive(Debug)]
pub(super) struct FeedState {
    pub(super) segment: Option<Arc<FeedSegment>>,
    pub(super) cursor: Cursor,
    /// Time at which the set was last confirmed: by its pull, or by a later "not modified".
    pub(super) confirmed: Option<Timestamp>,
    /// Earliest time of the next pull, if the server requested a delay.
    pub(super) not_before: Option<Timestamp>,
    pub(super) status: FeedStatus,
}

impl Feed {
    /// A feed that was not pulled yet. `before` is the earlier feed of the same name.
    pub(super) fn new(config: FeedConfig, before: Option<&Self>) -> Self {
        let name: Arc<str> = config.name.as_str().into();
        let stale_after = config.interval.saturating_mul(STALE_INTERVALS).max(STALE_MIN);
        let status = FeedStatus::new(Arc::clone(&name), &config, stale_after);
        let origin = config.origin();
        let state = Mutex::new(FeedState {
            segment: None,
            cursor: Cursor::Start,
            confirmed: None,
            not_before: None,
            status,
        });
        let files = before.map(|before| Arc::clone(&before.files)).unwrap_or_default();
        Self { config, name, origin, state, files, retired: AtomicBool::new(false) }
    }

    /// Marks the feed as no longer configured.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Lock for changes of the feed's files; `None` if the feed is retired.
    pub(super) fn lock_files(&self) -> Option<MutexGuard<'_, ()>> {
        let lock = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.retired.load(Ordering::Acquire)).then_some(lock)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn validity(&self, confirmed: Option<Timestamp>) -> Validity {
        self.config.validity(confirmed)
    }

    /// Replaces the set in memory by `set`, which is the saved one.
    pub(super) fn replace_set(&self, mut set: SetFile, confirmed: Timestamp) {
        let SetMeta { pulled, cursor, rejects, .. } = &mut set.meta;
        let (pulled, cursor, rejects) =
            (*pulled, std::mem::take(cursor), std::mem::take::<Rejects>(rejects));
        let segment =
            FeedSegment::open(set, Arc::clone(&self.name), self.validity(Some(confirmed)));
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
