//! `SinkState`: how a sink fares, for people and for health.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::latency_histogram::Delays;

/// A sink that has failed for so long is a fault; before, it may be a restart of the other side.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SinkReport {
    /// Its name.
    pub name: String,
    /// Alerts that wait for it, on disk.
    pub alerts_waiting: u64,
    /// Rows and notices that wait for it, in memory.
    pub rows_waiting: u64,
    /// Time of the oldest alert that it was given and has not taken; `None` where there is none.
    #[serde(default)]
    pub oldest_waiting: Option<Timestamp>,
    /// Requests or writes that were begun.
    #[serde(default)]
    pub attempts: u64,
    /// Those that failed.
    #[serde(default)]
    pub failures: u64,
    /// How long the alerts that it took were under way, those of windows that ended and of the past
    /// left out.
    #[serde(default)]
    pub delays: Delays,
    /// When it last took something.
    pub last_delivered: Option<Timestamp>,
    /// Why it takes nothing; "" when it does.
    pub error: String,
    /// Why the last request that failed did; "" when none has.
    pub last_error: String,
}

/// One sink's, shared with those who ask.
#[derive(Debug, Default)]
pub(crate) struct SinkState {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    oldest_waiting: Option<Timestamp>,
    attempts: u64,
    failures: u64,
    delays: Delays,
    last_delivered: Option<Timestamp>,
    failing_since: Option<Instant>,
    error: String,
    last_error: String,
}

impl SinkState {
    /// Something is sent to it.
    pub(crate) fn attempted(&self) {
        let mut inner = self.lock();
        inner.attempts = inner.attempts.saturating_add(1);
    }

    /// The oldest alert that it has not taken is now of this time.
    pub(crate) fn holds(&self, oldest: Option<Timestamp>) {
        self.lock().oldest_waiting = oldest;
    }

    /// It took something.
    pub(crate) fn delivered(&self, now: Timestamp) {
        let mut inner = self.lock();
        inner.last_delivered = Some(now);
        inner.failing_since = None;
        inner.error.clear();
    }

    /// It took alerts, whose connections were seen so long ago.
    pub(crate) fn delayed(&self, delays: impl Iterator<Item = Duration>) {
        let mut inner = self.lock();
        delays.for_each(|delay| inner.delays.add(delay));
    }

    /// It did not, for this reason (escaped).
    pub(crate) fn failed(&self, error: String) {
        let mut inner = self.lock();
        inner.failures = inner.failures.saturating_add(1);
        inner.failing_since.get_or_insert_with(Instant::now);
        inner.last_error.clone_from(&error);
        inner.error = error;
    }

    /// How it fares; what waits is for others to add.
    pub(crate) fn report(&self, name: &str) -> SinkReport {
        let inner = self.lock();
        let is_fault = inner.failing_since.is_some_and(|since| since.elapsed() >= PATIENCE);
        SinkReport {
            name: name.to_owned(),
            oldest_waiting: inner.oldest_waiting,
            attempts: inner.attempts,
            failures: inner.failures,
            delays: inner.delays.clone(),
            last_delivered: inner.last_delivered,
            error: if is_fault { inner.error.clone() } else { String::new() },
            last_error: inner.last_error.clone(),
            ..SinkReport::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
