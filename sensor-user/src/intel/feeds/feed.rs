//! `Feed`: one source of indicators, and what is known of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::status::FeedStatus;
use crate::intel::config::FeedConfig;
use crate::intel::pull::Cursor;
use crate::intel::rejects::Rejects;
use crate::intel::set::segment::{Segment, Validity};
use crate::intel::set::store::{Meta, OpenSet};

/// Periods without a good pull after which a feed is stale.
const STALE_PERIODS: u32 = 3;
/// A feed is not stale before: a pull takes its time.
const STALE_AFTER: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub(super) struct Feed {
    pub(super) config: FeedConfig,
    pub(super) name: Arc<str>,
    /// See [`Meta::origin`].
    pub(super) origin: String,
    state: Mutex<FeedState>,
    /// Held while its files are changed, also by one of the same name that was configured before.
    work: Arc<Mutex<()>>,
    /// It is not configured any more: what a pull of it gives is of no use.
    retired: AtomicBool,
}

#[derive(Debug)]
pub(super) struct FeedState {
    pub(super) segment: Option<Arc<Segment>>,
    pub(super) cursor: Cursor,
    /// When what is there was last confirmed: by its pull, or by a "not modified" after it.
    pub(super) confirmed: Option<Timestamp>,
    /// Not before then, by the server's own word.
    pub(super) not_before: Option<Timestamp>,
    pub(super) status: FeedStatus,
}

impl Feed {
    /// One that was not pulled yet. `before` had the same name.
    pub(super) fn new(config: FeedConfig, before: Option<&Self>) -> Self {
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
        let work = before.map(|before| Arc::clone(&before.work)).unwrap_or_default();
        Self { config, name, origin, state, work, retired: AtomicBool::new(false) }
    }

    /// Nothing of it is used from here on.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// The right to change its files; `None` where it is retired.
    pub(super) fn begin_work(&self) -> Option<MutexGuard<'_, ()>> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.retired.load(Ordering::Acquire)).then_some(work)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn validity(&self, confirmed: Option<Timestamp>) -> Validity {
        self.config.validity(confirmed)
    }

    /// Takes a set that is in place.
    pub(super) fn take(&self, mut set: OpenSet, confirmed: Timestamp) {
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
