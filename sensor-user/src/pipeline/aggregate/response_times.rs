//! `Responses`: how many answers there were, and how long they took.

use serde::{Deserialize, Serialize};

use crate::pipeline::decode::LatencyCounts;

/// Answers on a connection, or on many. What counts as one: [`sensor_ebpf::latency`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Responses {
    /// How many.
    pub count: u64,
    /// Sum of their times, µs.
    pub sum_us: u64,
    /// The shortest, µs; 0 for none.
    pub min_us: u32,
    /// The longest, µs; 0 for none.
    pub max_us: u32,
}

impl Responses {
    /// None.
    pub const NONE: Self = Self { count: 0, sum_us: 0, min_us: 0, max_us: 0 };

    /// One that took so long, µs.
    pub fn one(us: u64) -> Self {
        let short = u32::try_from(us).unwrap_or(u32::MAX);
        Self { count: 1, sum_us: us, min_us: short, max_us: short }
    }

    /// Whether there was none.
    pub const fn is_none(&self) -> bool {
        self.count == 0
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        if other.is_none() {
            return;
        }
        self.min_us = if self.is_none() { other.min_us } else { self.min_us.min(other.min_us) };
        self.max_us = self.max_us.max(other.max_us);
        self.count = self.count.saturating_add(other.count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Takes one out that was told before. The shortest and the longest stay: which others there
    /// were is not known, and their average is still between the two.
    pub fn remove(&mut self, one: &Self) {
        self.count = self.count.saturating_sub(one.count);
        self.sum_us = self.sum_us.saturating_sub(one.sum_us);
        if self.is_none() {
            *self = Self::NONE;
        }
    }

    /// Takes them, and leaves none.
    #[must_use]
    pub const fn take(&mut self) -> Self {
        std::mem::replace(self, Self::NONE)
    }

    /// The columns of Microsoft's tables: how many, and the shortest, the longest and the sum in
    /// milliseconds; all `None` where there was none. Rounded down, up and to the nearest, so that always
    /// shortest ≤ sum / count ≤ longest.
    pub fn columns(&self) -> [Option<u64>; 4] {
        let (min, max) = (u64::from(self.min_us / 1000), u64::from(self.max_us.div_ceil(1000)));
        let sum = self.sum_us.saturating_add(500) / 1000;
        [self.count, min, max, sum].map(|column| (!self.is_none()).then_some(column))
    }
}

impl From<LatencyCounts> for Responses {
    fn from(turns: LatencyCounts) -> Self {
        let LatencyCounts { sum_us, count, min_us, max_us, epoch: _ } = turns;
        Self { count: count.into(), sum_us, min_us, max_us }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_average_is_between_the_shortest_and_the_longest(
            times in prop::collection::vec(0_u64..5_000_000, 1..50)
        ) {
            let mut all = Responses::NONE;
            for us in &times {
                all.add(&Responses::one(*us));
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
