//! `LogThrottle`: a minimum interval between log lines of repeated events.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Limits a log line: the first event is logged at once, then at most one line per interval.
#[derive(Debug)]
pub struct LogThrottle {
    interval: Duration,
    state: Mutex<ThrottleState>,
}

#[derive(Debug, Default)]
struct ThrottleState {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// A throttle of one line per 10 s, the agent's usual limit.
    pub fn new() -> Self {
        Self { interval: Duration::from_secs(10), state: Mutex::default() }
    }

    /// Adds `events` at `now`. Returns the number of events since the last line if a line may be
    /// logged now.
    pub fn admit(&self, events: u64, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.suppressed = state.suppressed.saturating_add(events);
        if state.last.is_some_and(|last| now < last + self.interval) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::LogThrottle;

    #[test]
    fn repeats_are_counted_into_the_next_line() {
        let throttle = LogThrottle::new();
        let start = tokio::time::Instant::now();
        for (secs, events, line) in [
            (0, 1, Some(1)),
            (0, 3, None),
            (9, 1, None),
            (10, 1, Some(5)),
            (11, 2, None),
            (40, 1, Some(3)),
        ] {
            let now = start + Duration::from_secs(secs);
            assert_eq!(throttle.admit(events, now), line, "at {secs} s");
        }
    }
}
