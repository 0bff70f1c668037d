//! The wait before a batch is tried again.

use std::time::Duration;

/// Exponential backoff with jitter: attempt n waits `first` * 2^n, at most `most`, and of that a
/// random part between one half and all, so that many hosts do not come back at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, attempts: 0 }
    }

    /// The next wait; `asked` is the other side's `Retry-After`, which is kept in full (bounded by
    /// `MOST_ASKED`).
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.attempts = (self.attempts + 1).min(31);
        let full = self.first.saturating_mul(doubled).min(self.most);
        let jittered = full.mul_f64(0.5 + fastrand::f64() / 2.0);
        asked.map_or(jittered, |asked| jittered.max(asked.min(MOST_ASKED)))
    }

    /// After a success.
    pub(crate) const fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A `Retry-After` beyond this is not believed.
const MOST_ASKED: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, MOST_ASKED};

    #[test]
    fn waits_double_up_to_the_limit_within_the_jitter() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for full in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next(None);
            let full = Duration::from_millis(full);
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(100));
    }

    #[test]
    fn the_wait_that_was_asked_for_is_kept_within_reason() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
        assert_eq!(backoff.next(Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff.next(Some(Duration::MAX)), MOST_ASKED);
        for _ in 0..100 {
            assert!(backoff.next(None) <= Duration::from_millis(1), "the shift does not overflow");
        }
    }
}
