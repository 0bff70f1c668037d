//! What the table asks of the kernel, and when.

use jiff::Timestamp;

use crate::base::clock::BootClock;
use crate::pipeline::decode::{FlowCounts, FlowKey};

/// The kernel's counts of flows.
pub trait FlowCounters {
    /// The counts of a flow; `None` where the kernel has lost it.
    fn read(&mut self, key: &FlowKey) -> Option<FlowCounts>;
    /// Ends a flow: its next datagram begins a new one.
    fn forget(&mut self, key: &FlowKey);
}

/// The moment of a look.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading<'a> {
    /// ns since boot.
    pub boot_ns: u64,
    /// ns of `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// To wall time.
    pub clock: &'a BootClock,
}

impl ClockReading<'_> {
    pub(super) fn wall(&self) -> Timestamp {
        self.clock.wall(self.boot_ns)
    }

    /// When a flow with these counts had its latest datagram, ns since boot.
    pub(super) const fn latest_boot_ns(&self, counts: &FlowCounts) -> u64 {
        self.boot_ns.saturating_sub(self.monotonic_ns.saturating_sub(counts.last_monotonic_ns))
    }
}
