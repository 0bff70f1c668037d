//! Sections of the status report besides counters: tables, ledger, losses, indicators, history. Also
//! the pipeline's snapshot that they are made from.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::counters::KernelCounters;
use crate::intel::IndicatorSet;
use crate::telemetry::loss_ledger::LossCount;

/// Occupancy of a bounded table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TableReport {
    /// Name of the table, as in metrics.
    pub name: String,
    /// Current number of entries.
    pub entries: u64,
    /// Capacity in entries.
    pub max: u64,
}

impl TableReport {
    /// Report of the table `name` with `entries` of at most `max` entries.
    pub fn new(name: &str, entries: usize, max: usize) -> Self {
        Self { name: name.to_owned(), entries: entries as u64, max: max as u64 }
    }
}

/// Balance of the records that BPF programs attempted to write, of all kinds, read at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LedgerReport {
    /// Records that programs attempted to write.
    pub attempted: u64,
    /// Records read from the ring buffer.
    pub received: u64,
    /// Records lost because the ring buffer was full.
    pub ring_full: u64,
}

impl LedgerReport {
    /// `received` is the number of records read from the ring buffer before `kernel` was read.
    pub const fn new(kernel: &KernelCounters, received: u64) -> Self {
        let attempted = kernel.tcp_attempted
            + kernel.process_attempted
            + kernel.udp_attempted
            + kernel.dns_attempted;
        let ring_full = kernel.tcp_ring_full
            + kernel.process_ring_full
            + kernel.udp_ring_full
            + kernel.dns_ring_full;
        Self { attempted, received, ring_full }
    }

    /// Returns the records that are neither received nor lost: they are in the ring buffer. A
    /// negative value means that the ledger does not balance.
    pub fn unaccounted(&self) -> i64 {
        let known = i128::from(self.received) + i128::from(self.ring_full);
        i64::try_from(i128::from(self.attempted) - known).unwrap_or(i64::MAX)
    }
}

/// A loss since the agent started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LossReport {
    /// Reason: `ring_full`, `table_full`, …
    pub reason: String,
    /// Lost items: `tcp`, `connection`, `alert`, …
    pub kind: String,
    /// Number of lost items.
    pub count: u64,
}

impl From<LossCount> for LossReport {
    fn from(LossCount { kind, reason, count }: LossCount) -> Self {
        Self { reason: reason.to_owned(), kind: kind.to_owned(), count }
    }
}

/// Size of the indicator set that connections are matched against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetReport {
    /// All indicators.
    pub indicators: u64,
    /// Indicators of a single address.
    pub hosts: u64,
    /// Indicators of a network.
    pub networks: u64,
}

impl From<&IndicatorSet> for SetReport {
    fn from(set: &IndicatorSet) -> Self {
        let sizes = set.segments().iter().map(|segment| segment.sizes());
        let (hosts, networks) = sizes
            .fold((0, 0), |sum, (hosts, networks)| (sum.0 + hosts as u64, sum.1 + networks as u64));
        Self { indicators: hosts + networks, hosts, networks }
    }
}

/// Size of the history on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryReport {
    /// Size of its files.
    pub bytes: u64,
    /// Maximum size of its files.
    pub max_bytes: u64,
}

/// State of the NAT lookups in the kernel's connection tracking.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConntrackReport {
    /// Why there are no lookups, else "".
    pub off: String,
    /// Network namespaces whose connections are looked up.
    pub namespaces: u64,
    /// Those that tracked a connection within the last minute.
    pub tracking: u64,
    /// Connections whose lookup has no response yet.
    pub pending: u64,
}

/// State of the pipeline thread, which it publishes about once a second.
#[derive(Debug, Clone, Default)]
pub struct PipelineSnapshot {
    /// Kernel counters; `None` if they could not be read.
    pub kernel: Option<KernelCounters>,
    /// Records read from the ring buffer before `kernel` was read.
    pub received: u64,
    /// Occupancy of the tables.
    pub tables: Vec<TableReport>,
    /// Size of the history; `None` if it is disabled.
    pub history: Option<HistoryReport>,
    /// State of the NAT lookups.
    pub conntrack: ConntrackReport,
    /// Time at which all hooks that the canary tests were last known to work.
    pub canary_seen: Option<Timestamp>,
}
