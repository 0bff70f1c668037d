//! `SinkHealth`: counts and errors of a sink, for status and health.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::latency_histogram::LatencyHistogram;

/// Time after which a failing sink is reported as degraded; a receiver may restart within it.
const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Status of a sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SinkReport {
    /// Name of the sink.
    pub name: String,
    /// Number of alerts on disk that wait for the sink.
    pub alerts_waiting: u64,
    /// Number of rows and agent events in memory that wait for the sink.
    pub rows_waiting: u64,
    /// Time of the oldest alert that was read for the sink and is not acknowledged.
    #[serde(default)]
    pub oldest_waiting: Option<Timestamp>,
    /// Number of requests or writes.
    #[serde(default)]
    pub attempts: u64,
    /// Number of failed requests or writes.
    #[serde(default)]
    pub failures: u64,
    /// Number of delivered items whose ids the receiver knew already: it stored nothing.
    #[serde(default)]
    pub already_stored: u64,
    /// Latencies of delivered alerts, except summaries and alerts about the past.
    #[serde(default, rename = "Delays")]
    pub latency: LatencyHistogram,
    /// Time of the last successful request.
    pub last_delivered: Option<Timestamp>,
    /// Error of a sink that has failed for some time; "" if it works.
    pub error: String,
    /// Error of the last failed request; "" if none has failed.
    pub last_error: String,
}

/// Status of one sink, shared between its task and the readers of the status.
#[derive(Debug)]
pub(super) struct SinkHealth {
    state: Mutex<HealthRecord>,
    /// Rows and agent events in the queue that are not yet delivered, discarded or dropped.
    rows_waiting: AtomicU64,
}

#[derive(Debug)]
struct HealthRecord {
    report: SinkReport,
    failing_since: Option<Instant>,
}

impl SinkHealth {
    pub(super) fn new(name: String) -> Self {
        let report = SinkReport { name, ..SinkReport::default() };
        let state = Mutex::new(HealthRecord { report, failing_since: None });
        Self { state, rows_waiting: AtomicU64::new(0) }
    }

    pub(super) fn rows_added(&self, rows: u64) {
        self.rows_waiting.fetch_add(rows, Ordering::AcqRel);
    }

    pub(super) fn rows_removed(&self, rows: u64) {
        self.rows_waiting.fetch_sub(rows, Ordering::AcqRel);
    }

    pub(super) fn rows_waiting(&self) -> u64 {
        self.rows_waiting.load(Ordering::Acquire)
    }

    pub(super) fn record_attempt(&self) {
        let mut state = self.state();
        state.report.attempts = state.report.attempts.saturating_add(1);
    }

    pub(super) fn set_oldest_waiting(&self, oldest: Option<Timestamp>) {
        self.state().report.oldest_waiting = oldest;
    }

    pub(super) fn record_success(&self, now: Timestamp) {
        let mut state = self.state();
        state.report.last_delivered = Some(now);
        state.failing_since = None;
    }

    pub(super) fn record_already_stored(&self, items: u64) {
        let mut state = self.state();
        state.report.already_stored = state.report.already_stored.saturating_add(items);
    }

    pub(super) fn record_latencies(&self, latencies: impl Iterator<Item = Duration>) {
        let mut state = self.state();
        latencies.for_each(|latency| state.report.latency.record(latency));
    }

    /// Records a failure with its escaped reason.
    pub(super) fn record_failure(&self, error: String) {
        let mut state = self.state();
        state.report.failures = state.report.failures.saturating_add(1);
        state.report.last_error = error;
        state.failing_since.get_or_insert_with(Instant::now);
    }

    /// The status, without the alerts that wait in the spool.
    pub(super) fn report(&self) -> SinkReport {
        let state = self.state();
        let mut report = state.report.clone();
        report.rows_waiting = self.rows_waiting();
        if state.failing_since.is_some_and(|since| since.elapsed() >= GRACE_PERIOD) {
            report.error.clone_from(&report.last_error);
        }
        report
    }

    fn state(&self) -> MutexGuard<'_, HealthRecord> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
