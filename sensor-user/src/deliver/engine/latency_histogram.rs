//! `Delays`: how long alerts were under way, from the connection to the other side's answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A histogram of delays; only grows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Delays {
    /// How many were in each class, of [`Self::BOUNDS`] and beyond.
    classes: [u64; 13],
    /// All delays together, microseconds.
    sum_micros: u64,
}

impl Delays {
    /// The longest delay of each class but the last, seconds: what a healthy sink takes, what a batch
    /// and a retry add, what an outage does.
    pub const BOUNDS: [f64; 12] =
        [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 86_400.0];

    /// Counts one.
    pub(crate) fn add(&mut self, delay: Duration) {
        let seconds = delay.as_secs_f64();
        let class = Self::BOUNDS.iter().take_while(|bound| seconds > **bound).count();
        if let Some(count) = self.classes.get_mut(class) {
            *count = count.saturating_add(1);
        }
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// How many were in each class.
    pub fn classes(&self) -> &[u64] {
        &self.classes
    }

    /// All delays together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_in_the_first_class_whose_bound_it_does_not_pass() {
        let mut delays = Delays::default();
        for micros in [0, 10_000, 10_001, 86_400_000_000, 86_400_000_001] {
            delays.add(Duration::from_micros(micros));
        }
        assert_eq!(delays.classes(), [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(delays.sum(), Duration::from_micros(172_800_020_002));
        let text = serde_json::to_string(&delays).unwrap();
        assert_eq!(serde_json::from_str::<Delays>(&text).unwrap(), delays);
    }
}
