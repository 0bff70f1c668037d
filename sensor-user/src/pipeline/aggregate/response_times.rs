//! `ResponseTimes`: number and latency of the responses on a connection.

use serde::{Deserialize, Serialize};

use crate::pipeline::decode::LatencyCounts;

/// Responses on one or more connections. [`sensor_ebpf::latency`] defines a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ResponseTimes {
    /// Number of complete responses.
    pub count: u64,
    /// Sum of the response times, µs.
    pub sum_us: u64,
    /// Minimum response time, µs; 0 for no response.
    pub min_us: u32,
    /// Maximum response time, µs; 0 for no response.
    pub max_us: u32,
}

impl ResponseTimes {
    /// Value without any response.
    pub const NONE: Self = Self { count: 0, sum_us: 0, min_us: 0, max_us: 0 };

    /// One response of a latency, µs.
    pub fn single(us: u64) -> Self {
        let time = u32::try_from(us).unwrap_or(u32::MAX);
        Self { count: 1, sum_us: us, min_us: time, max_us: time }
    }

    /// True if there was no response.
    pub const fn is_none(&self) -> bool {
        self.count == 0
    }

    /// Adds the responses of another value.
    pub fn add(&mut self, other: &Self) {
        if other.is_none() {
            return;
        }
        self.min_us = if self.is_none() { other.min_us } else { self.min_us.min(other.min_us) };
        self.max_us = self.max_us.max(other.max_us);
        self.count = self.count.saturating_add(other.count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Subtracts a response that was reported before. Minimum and maximum stay, since the others are
    /// not known; the average is still between the two.
    pub fn remove(&mut self, one: &Self) {
        self.count = self.count.saturating_sub(one.count);
        self.sum_us = self.sum_us.saturating_sub(one.sum_us);
        if self.is_none() {
            *self = Self::NONE;
        }
    }

    /// Returns the responses, and resets the value.
    #[must_use]
    pub const fn take(&mut self) -> Self {
        std::mem::replace(self, Self::NONE)
    }

    /// Columns of Microsoft's tables: number, and minimum, maximum and sum in milliseconds; all `None`
    /// without a response. They are rounded down, up and to the nearest, so that always
    /// minimum ≤ sum / count ≤ maximum.
    pub fn columns(&self) -> [Option<u64>; 4] {
        let (min, max) = (u64::from(self.min_us / 1000), u64::from(self.max_us.div_ceil(1000)));
        let sum = self.sum_us.saturating_add(500) / 1000;
        [self.count, min, max, sum].map(|column| (!self.is_none()).then_some(column))
    }
}

impl From<LatencyCounts> for ResponseTimes {
    fn from(counts: LatencyCounts) -> Self {
        let LatencyCounts { sum_us, count, min_us, max_us, epoch: _ } = counts;
        Self { count: count.into(), sum_us, min_us, max_us }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_average_is_between_minimum_and_maximum(
            times in prop::collection::vec(0_u64..5_000_000, 1..50)
        ) {
            let mut all = ResponseTimes::NONE;
            for us in &times {
                all.add(&ResponseTimes::single(*us));
            }
            prop_assert_eq!(all.count, times.len() as u64);
            prop_assert_eq!(u64::from(all.min_us), *times.iter().min().unwrap());
            prop_assert_eq!(u64::from(all.max_us), *times.iter().max().unwrap());
            let [count, min, max, sum] = all.columns().map(Option::unwrap);
            prop_assert_eq!(count, all.count);
            prop_assert!(min * all.count <= sum && sum <= max * all.count, "{:?}", all);
        }
    }
}
