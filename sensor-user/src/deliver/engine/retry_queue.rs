//! `Lane`: what of one content of a sink is to be sent again, and when. Alerts and rows have a lane
//! each, so that rows that are refused hold no alert back.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::outbox::Pace;
use crate::deliver::batch::Batch;

/// Batches under way and to be sent again; together no more than `concurrency` batches.
#[derive(Debug)]
pub(crate) struct Lane {
    again: VecDeque<Batch>,
    backoff: Backoff,
    /// Nothing is sent before.
    resume_at: Option<Instant>,
    /// Requests under way.
    pub(crate) in_flight: usize,
    concurrency: usize,
    is_failing: bool,
}

impl Lane {
    pub(crate) fn new(pace: Pace, concurrency: usize) -> Self {
        Self {
            again: VecDeque::new(),
            backoff: Backoff::new(pace.retry_first, pace.retry_most),
            resume_at: None,
            in_flight: 0,
            concurrency: concurrency.max(1),
            is_failing: false,
        }
    }

    /// Whether another request may begin. After a failure it is one at a time until one succeeds.
    pub(crate) fn has_room(&self, now: Instant) -> bool {
        let most = if self.is_failing { 1 } else { self.concurrency };
        self.in_flight < most && self.resume_at.is_none_or(|at| at <= now)
    }

    /// When something is to be sent again, where that is later than `now`.
    pub(crate) fn wakes_at(&self, now: Instant) -> Option<Instant> {
        self.resume_at.filter(|at| *at > now)
    }

    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.again.push_front(batch);
    }

    pub(crate) fn next_again(&mut self) -> Option<Batch> {
        self.again.pop_front()
    }

    pub(crate) fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// Items to be sent again.
    pub(crate) fn items_again(&self) -> u64 {
        self.again.iter().map(|batch| batch.len() as u64).sum()
    }

    /// One got through.
    pub(crate) const fn succeeded(&mut self) {
        self.backoff.reset();
        self.resume_at = None;
        self.is_failing = false;
    }

    /// One did not: nothing is sent for a while, which is given.
    pub(crate) fn failed(&mut self, asked: Option<Duration>, now: Instant) -> Duration {
        self.is_failing = true;
        let wait = self.backoff.next(asked);
        self.resume_at = now.checked_add(wait);
        wait
    }

    /// The end of the agent cuts a wait short: what can be delivered is tried once more.
    pub(crate) const fn hurry(&mut self) {
        self.resume_at = None;
    }
}
