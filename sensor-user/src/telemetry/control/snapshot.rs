//! What `netsensor status` and the metrics show beside counters: how full the tables are, whether
//! the ledger closes, and what the set of indicators holds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::intel::IndicatorSet;
use crate::pipeline::capture::KernelLedger;

/// A table that holds so much at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub entries: u64,
    /// What it may hold.
    pub max: u64,
}

impl TableReport {
    /// Of a table's entries, and how many there may be.
    pub fn new((name, (entries, max)): (&str, (usize, usize))) -> Self {
        Self { name: name.to_owned(), entries: entries as u64, max: max as u64 }
    }
}

/// What became of the records that the kernel half attempted, read at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LedgerReport {
    /// Records that programs wanted to send, of all kinds.
    pub attempted: u64,
    /// Those that were read from the ring.
    pub received: u64,
    /// Those that were lost because the ring was full.
    pub ring_full: u64,
}

impl LedgerReport {
    /// `received` is what was read from the ring before `kernel` was.
    pub const fn new(kernel: &KernelLedger, received: u64) -> Self {
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

    /// Records that are neither read nor lost: they are in the ring. Fewer than none means that the
    /// ledger does not close.
    pub fn unaccounted(&self) -> i64 {
        let known = i128::from(self.received) + i128::from(self.ring_full);
        i64::try_from(i128::from(self.attempted) - known).unwrap_or(i64::MAX)
    }
}

/// Something that was lost, since the agent started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LossReport {
    /// Why.
    pub reason: String,
    /// What.
    pub kind: String,
    /// How much.
    pub count: u64,
}

impl LossReport {
    /// Of a line of the ledger.
    pub fn new((reason, kind, count): (&str, &str, u64)) -> Self {
        Self { reason: reason.to_owned(), kind: kind.to_owned(), count }
    }
}

/// The set of indicators that connections are matched with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetReport {
    /// All of them.
    pub indicators: u64,
    /// Those that are one address.
    pub hosts: u64,
    /// Those that are a network.
    pub networks: u64,
}

impl SetReport {
    /// Of a set.
    pub fn of(set: &IndicatorSet) -> Self {
        let sizes = set.segments().iter().map(|segment| segment.sizes());
        let (hosts, networks) = sizes
            .fold((0, 0), |sum, (hosts, networks)| (sum.0 + hosts as u64, sum.1 + networks as u64));
        Self { indicators: hosts + networks, hosts, networks }
    }
}

/// What the history holds on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryReport {
    /// Bytes of its files.
    pub bytes: u64,
    /// How many there may be.
    pub max_bytes: u64,
}

/// What the pipeline's thread tells of itself, about once a second.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// `None` where the kernel's counters could not be read.
    pub kernel: Option<KernelLedger>,
    /// Records read from the ring before `kernel` was read.
    pub received: u64,
    /// How full the tables are.
    pub tables: Vec<TableReport>,
    /// `None` where there is no history.
    pub history: Option<HistoryReport>,
    /// When every hook that the canary tries was last known to work.
    pub canary_seen: Option<Timestamp>,
}
