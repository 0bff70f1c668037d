//! `LatencyHistogram`: alert latency, from a connection to the acknowledgement of its alert by a sink.
//! `sink_task/outcome.rs` records it; percentiles are computed from it (`histogram_quantile`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Histogram of delivery latencies; only grows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LatencyHistogram {
    /// Counts for each of [`Self::BOUNDS`], and for higher latencies.
    #[serde(rename = "Classes")]
    counts: [u64; 13],
    sum_micros: u64,
}

impl LatencyHistogram {
    /// Upper bounds of the buckets except the last, seconds: those of a healthy sink, of batching and
    /// a retry, and of an outage.
    pub const BOUNDS: [f64; 12] =
        [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 86_400.0];

    pub(super) fn record(&mut self, latency: Duration) {
        let seconds = latency.as_secs_f64();
        let bucket = Self::BOUNDS.iter().take_while(|bound| seconds > **bound).count();
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// Number of latencies in each bucket, not cumulative.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Sum of all latencies.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = LatencyHistogram::default();
        for micros in [0, 10_000, 10_001, 86_400_000_000, 86_400_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        assert_eq!(histogram.counts(), [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(histogram.sum(), Duration::from_micros(172_800_020_002));
        let text = serde_json::to_string(&histogram).unwrap();
        assert_eq!(serde_json::from_str::<LatencyHistogram>(&text).unwrap(), histogram);
    }
}
