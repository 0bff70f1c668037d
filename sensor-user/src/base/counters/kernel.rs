//! `KernelCounters`: counters of the BPF programs.

use super::families::{KERNEL_RECORDS_ATTEMPTED, KERNEL_RUNS_MISSED, LOSSES};
use super::{Declaration, FamilySample, counters};

counters! {
    /// Counters of the BPF programs, summed over CPUs, read at one moment.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct KernelCounters(u64), "kernel_";
    /// TCP records that BPF programs attempted to write.
    tcp_attempted in KERNEL_RECORDS_ATTEMPTED["tcp"];
    /// TCP records lost because the ring buffer was full.
    tcp_ring_full in LOSSES["tcp", "ring_full"];
    /// Runs of TCP programs that the kernel skipped; the number of their records is unknown.
    tcp_missed in KERNEL_RUNS_MISSED["tcp"] and LOSSES["tcp", "probe_missed"];
    /// Process records that BPF programs attempted to write.
    process_attempted in KERNEL_RECORDS_ATTEMPTED["process"];
    /// Process records lost because the ring buffer was full.
    process_ring_full in LOSSES["process", "ring_full"];
    /// Runs of process programs that the kernel skipped.
    process_missed in KERNEL_RUNS_MISSED["process"] and LOSSES["process", "probe_missed"];
    /// UDP records that BPF programs attempted to write.
    udp_attempted in KERNEL_RECORDS_ATTEMPTED["udp"];
    /// UDP records lost because the ring buffer was full.
    udp_ring_full in LOSSES["udp", "ring_full"];
    /// Runs of UDP programs that the kernel skipped.
    udp_missed in KERNEL_RUNS_MISSED["udp"] and LOSSES["udp", "probe_missed"];
    /// UDP datagrams of flows that did not fit into the kernel's flow map.
    udp_uncounted and LOSSES["udp_datagram", "map_full"];
    /// DNS responses that BPF programs attempted to write.
    dns_attempted in KERNEL_RECORDS_ATTEMPTED["dns"];
    /// DNS responses lost because the ring buffer was full.
    dns_ring_full in LOSSES["dns", "ring_full"];
    /// DNS responses over the rate limit of one second.
    dns_over_rate and LOSSES["dns", "over_rate"];
    /// Inbound connections whose pending owner lookup was replaced by that of another connection.
    accept_pending_evicted and LOSSES["accept_pending", "map_full"];
    /// Failed reads of kernel memory.
    read_failed;
}

impl KernelCounters {
    /// Returns the declaration and value of every counter, in the order of the declarations.
    pub fn snapshot(&self) -> impl Iterator<Item = (&'static Declaration, u64)> {
        Self::DECLARATIONS.iter().zip(self.counters().copied())
    }
}
