//! Interface of the table to the counts in the kernel.

use jiff::Timestamp;

use crate::base::clock::BootClock;
use crate::pipeline::decode::{FlowCounts, FlowKey};

/// Counts of flows in the kernel.
pub trait FlowCounters {
    /// Counts of a flow; `None` if the kernel has evicted it.
    fn read(&mut self, key: &FlowKey) -> Option<FlowCounts>;
    /// Removes a flow: its next datagram begins a new one.
    fn forget(&mut self, key: &FlowKey);
}

/// Clocks at the time of a read of the counts.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading<'a> {
    /// Boot clock, nanoseconds since boot.
    pub boot_ns: u64,
    /// Monotonic clock (`CLOCK_MONOTONIC`), nanoseconds.
    pub monotonic_ns: u64,
    /// Conversion to wall-clock time.
    pub clock: &'a BootClock,
}

impl ClockReading<'_> {
    pub(super) fn wall(&self) -> Timestamp {
        self.clock.wall(self.boot_ns)
    }

    /// Time of the latest datagram of a flow with these counts, ns since boot.
    pub(super) const fn latest_boot_ns(&self, counts: &FlowCounts) -> u64 {
        self.boot_ns.saturating_sub(self.monotonic_ns.saturating_sub(counts.last_monotonic_ns))
    }
}
