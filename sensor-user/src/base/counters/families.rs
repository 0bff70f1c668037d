//! Metric families with samples of several counters.

use super::Family;

/// `netsensor_losses_total`: lost events and data of each kind. The same counts are the loss ledger
/// (`telemetry::loss_ledger`).
pub const LOSSES: Family = Family {
    name: "losses",
    labels: &["kind", "reason"],
    help: "All known losses, by kind and reason.",
};

pub(super) const KERNEL_RECORDS_ATTEMPTED: Family = Family {
    name: "kernel_records_attempted",
    labels: &["kind"],
    help: "Records that BPF programs attempted to write into the ring buffer.",
};

pub(super) const KERNEL_RUNS_MISSED: Family = Family {
    name: "kernel_runs_missed",
    labels: &["kind"],
    help: "Runs of BPF programs that the kernel skipped; each would have written one record at most.",
};

pub(super) const KERNEL_RECORDS_RECEIVED: Family = Family {
    name: "kernel_records_received",
    labels: &["kind"],
    help: "Records read from the ring buffer and decoded.",
};

pub(super) const RECORDS_DROPPED: Family = Family {
    name: "records_dropped",
    labels: &["reason"],
    help: "Records read from the ring buffer and not used.",
};

pub(super) const TABLE_EVICTIONS: Family = Family {
    name: "table_evictions",
    labels: &["table"],
    help: "Current entries evicted from a full table.",
};

pub(super) const HITS_SUPPRESSED: Family = Family {
    name: "hits_suppressed",
    labels: &["reason"],
    help: "Hits that raised no alert of their own.",
};

pub(super) const ALERTS_LOST: Family = Family {
    name: "alerts_lost",
    labels: &["reason"],
    help: "Alerts that were not delivered to a sink, once per sink; rejected ones are dead-lettered.",
};

pub(super) const ROWS_LOST: Family = Family {
    name: "rows_lost",
    labels: &["reason"],
    help: "Rows and agent events that were not delivered to a sink, once per sink.",
};

pub(super) const LOG_LINES_DROPPED: Family = Family {
    name: "log_lines_dropped",
    labels: &["reason"],
    help: "Lines missing from the log, which has their number instead.",
};
