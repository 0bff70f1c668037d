//! Delays before a batch is retried.

use std::time::Duration;

/// Delays of retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Delay before the first retry; doubled after each further failure.
    pub retry_first: Duration,
    /// Maximum delay.
    pub retry_max: Duration,
}

impl RetryPolicy {
    /// 250 ms to 60 s.
    pub const DEFAULT: Self =
        Self { retry_first: Duration::from_millis(250), retry_max: Duration::from_mins(1) };
}

/// Longer values of `Retry-After` are limited to this.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Exponential backoff with jitter: the delay doubles up to its maximum, of which a random part
/// between one half and all is used, so that many hosts do not retry at once.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RetryPolicy,
    attempts: u32,
}

impl Backoff {
    pub(super) const fn new(policy: RetryPolicy) -> Self {
        Self { policy, attempts: 0 }
    }

    /// Next delay: at least `retry_after`, the request of the receiver (up to an hour).
    pub(super) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let doubled = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.attempts = (self.attempts + 1).min(31);
        let full = self.policy.retry_first.saturating_mul(doubled).min(self.policy.retry_max);
        let jittered = full.mul_f64(0.5 + fastrand::f64() / 2.0);
        jittered.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }

    /// Starts again at the first delay, after a success.
    pub(super) const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(first: u64, max: u64) -> Backoff {
        let [retry_first, retry_max] = [first, max].map(Duration::from_millis);
        Backoff::new(RetryPolicy { retry_first, retry_max })
    }

    #[test]
    fn delays_double_up_to_the_limit_within_the_jitter() {
        let mut backoff = backoff(100, 1000);
        for full in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next(None);
            let full = Duration::from_millis(full);
            assert!(delay >= full / 2 && delay <= full, "{delay:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(100));
    }

    #[test]
    fn retry_after_is_respected_up_to_its_limit() {
        let mut backoff = backoff(1, 1);
        assert_eq!(backoff.next(Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff.next(Some(Duration::MAX)), RETRY_AFTER_MAX);
        for _ in 0..100 {
            assert!(backoff.next(None) <= Duration::from_millis(1), "the shift does not overflow");
        }
    }
}
