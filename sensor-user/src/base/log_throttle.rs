//! Keeps a log line that can repeat to one in a while, with the count since the last.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Says when an event may be logged: the first at once, then at most one each `every`.
#[derive(Debug)]
pub struct Quiet {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    held: u64,
}

impl Quiet {
    /// At most one line each 10 s, the agent's usual limit.
    pub fn new() -> Self {
        Self { every: Duration::from_secs(10), state: Mutex::default() }
    }

    /// Counts `events` more at `now`; `Some(count)` when a line is due, with all events since the
    /// last line.
    pub fn admit(&self, events: u64, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.held = state.held.saturating_add(events);
        if state.last.is_some_and(|last| now < last + self.every) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held))
    }
}

impl Default for Quiet {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Quiet;

    #[test]
    fn repeats_are_counted_into_the_next_line() {
        let quiet = Quiet::new();
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
            assert_eq!(quiet.admit(events, now), line, "at {secs} s");
        }
    }
}
