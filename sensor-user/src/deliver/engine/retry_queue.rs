//! `RetryQueue`: batches of one kind of a sink that are to be retried, and the time of the retry.
//! Alerts and rows have separate queues, so that refused rows do not delay alerts.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{Backoff, RetryPolicy};
use crate::deliver::batch::Batch;

/// Batches to retry, and the number of batches in flight; together at most `concurrency`.
#[derive(Debug)]
pub(super) struct RetryQueue {
    pub(super) batches: VecDeque<Batch>,
    backoff: Backoff,
    /// Time before which nothing is sent.
    resume_at: Option<Instant>,
    pub(super) in_flight: usize,
    concurrency: usize,
    is_failing: bool,
}

impl RetryQueue {
    pub(super) fn new(policy: RetryPolicy, concurrency: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            backoff: Backoff::new(policy),
            resume_at: None,
            in_flight: 0,
            concurrency: concurrency.max(1),
            is_failing: false,
        }
    }

    /// True if another request may be sent. After a failure only one at a time, until one succeeds.
    pub(super) fn has_capacity(&self, now: Instant) -> bool {
        let max = if self.is_failing { 1 } else { self.concurrency };
        self.in_flight < max && self.resume_at.is_none_or(|at| at <= now)
    }

    /// Time of the next retry, if it is after `now`.
    pub(super) fn retry_at(&self, now: Instant) -> Option<Instant> {
        self.resume_at.filter(|at| *at > now)
    }

    /// Takes the next batch to retry, if it may be sent now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Batch> {
        if self.has_capacity(now) { self.batches.pop_front() } else { None }
    }

    /// Resets the delays after a success.
    pub(super) const fn succeeded(&mut self) {
        self.backoff.reset();
        self.resume_at = None;
        self.is_failing = false;
    }

    /// Suspends sending after a failure. Returns the delay.
    pub(super) fn failed(&mut self, retry_after: Option<Duration>, now: Instant) -> Duration {
        self.is_failing = true;
        let delay = self.backoff.next(retry_after);
        self.resume_at = now.checked_add(delay);
        delay
    }

    /// Ends the current delay at shutdown, for one more attempt.
    pub(super) const fn retry_now(&mut self) {
        self.resume_at = None;
    }
}
