//! Which counters make up which family. Every other counter of `stats.rs` is a family of its own,
//! `netsensor_<name>_total`, and says what its doc comment says.

use super::text::{Kind, Text};
use crate::base::counters::Stats;
use crate::telemetry::control::StatusReport;

/// Counters that differ by one thing only: the family, its help, the label, and for each of its
/// values the counter.
type Group = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Prefix of every name but `process_…`.
const PREFIX: &str = "netsensor_";

const GROUPS: [Group; 15] = [
    (
        "kernel_records_attempted",
        "Records that the kernel half wanted to send.",
        "kind",
        &[
            ("tcp", "kernel_tcp_attempted"),
            ("process", "kernel_process_attempted"),
            ("udp", "kernel_udp_attempted"),
            ("dns", "kernel_dns_attempted"),
        ],
    ),
    (
        "kernel_records_ring_full",
        "Records that were lost because the ring was full.",
        "kind",
        &[
            ("tcp", "kernel_tcp_ring_full"),
            ("process", "kernel_process_ring_full"),
            ("udp", "kernel_udp_ring_full"),
            ("dns", "kernel_dns_ring_full"),
        ],
    ),
    (
        "kernel_runs_missed",
        "Runs of programs that the kernel left out; each would have told one thing at most.",
        "kind",
        &[
            ("tcp", "kernel_tcp_missed"),
            ("process", "kernel_process_missed"),
            ("udp", "kernel_udp_missed"),
        ],
    ),
    (
        "kernel_dns_over_rate",
        "DNS answers beyond those that are told in a second.",
        "",
        &[("", "kernel_dns_over_rate")],
    ),
    (
        "kernel_udp_uncounted",
        "UDP datagrams that found no room in the map of flows.",
        "",
        &[("", "kernel_udp_uncounted")],
    ),
    (
        "kernel_accept_pending_evicted",
        "Inbound connections that no longer waited for their owner, since another took the slot.",
        "",
        &[("", "kernel_accept_pending_evicted")],
    ),
    (
        "kernel_read_failed",
        "Kernel memory that could not be read.",
        "",
        &[("", "kernel_read_failed")],
    ),
    (
        "kernel_records_received",
        "Records that were read from the ring and decoded.",
        "kind",
        &[
            ("tcp", "tcp_records_received"),
            ("process", "process_records_received"),
            ("udp", "udp_records_received"),
            ("dns", "dns_records_received"),
        ],
    ),
    (
        "records_dropped",
        "Records that were read from the ring and not used.",
        "reason",
        &[("decode_error", "records_discarded_decode"), ("simulated", "records_dropped_simulated")],
    ),
    (
        "table_evictions",
        "Entries that left a full table while they were current.",
        "table",
        &[
            ("connections", "connections_evicted"),
            ("udp_flows", "udp_flows_evicted"),
            ("latency", "latency_evicted"),
            ("listeners", "listeners_evicted"),
            ("nat_lookups", "nat_lookups_evicted"),
            ("processes", "processes_evicted"),
            ("process_groups", "process_groups_evicted"),
            ("cgroups", "cgroups_evicted"),
            ("dns_names", "dns_names_evicted"),
            ("history", "history_entries_evicted"),
            ("dedup_windows", "windows_evicted"),
        ],
    ),
    (
        "hits_suppressed",
        "Hits that raised no alert of their own.",
        "reason",
        &[
            ("own_traffic", "hits_suppressed_own_traffic"),
            ("allow_list", "hits_suppressed_allow_list"),
            ("window", "hits_suppressed_window"),
        ],
    ),
    (
        "alerts_lost",
        "Alerts that a sink did not get, once for each such sink; those that it refused are put aside.",
        "reason",
        &[
            ("queue_full", "alerts_dropped_queue_full"),
            ("sink_closed", "alerts_dropped_sink_closed"),
            ("rejected", "alerts_discarded_rejected"),
            ("spool_size", "alerts_evicted_size"),
            ("spool_age", "alerts_evicted_age"),
            ("spool_corrupt", "spool_alerts_lost_corrupt"),
            ("unwritten", "alerts_lost_unwritten"),
        ],
    ),
    (
        "rows_lost",
        "Rows and notices that a sink did not get, once for each such sink.",
        "reason",
        &[
            ("queue_full", "rows_dropped_queue_full"),
            ("sink_closed", "rows_dropped_sink_closed"),
            ("rejected", "rows_discarded_rejected"),
            ("shutdown", "rows_dropped_shutdown"),
        ],
    ),
    (
        // A name may not speak of minutes, which is no base unit.
        "row_intervals_skipped",
        "Intervals in which live connections have no row, since the clock leapt or the machine slept.",
        "",
        &[("", "row_intervals_skipped")],
    ),
    (
        "log_lines_dropped",
        "Lines that are not in the log, which has their number instead.",
        "reason",
        &[("over_rate", "log_lines_dropped_over_rate"), ("journal", "log_lines_dropped_journal")],
    ),
];

/// Writes all counters.
pub(super) fn counters(text: &mut Text, report: &StatusReport) {
    let value = |name: &str| report.counters.get(name).copied().unwrap_or(0);
    for (name, help, label, counters) in GROUPS {
        let mut family = text.family(&format!("{PREFIX}{name}"), Kind::Counter, help);
        for (label_value, counter) in counters {
            match label {
                "" => family.sample(&[], value(counter)),
                label => family.sample(&[(label, label_value)], value(counter)),
            }
        }
    }
    let grouped = |name: &str| {
        GROUPS.iter().any(|(.., counters)| counters.iter().any(|(_, counter)| *counter == name))
    };
    for (name, help) in Stats::DESCRIPTIONS {
        if !grouped(name) {
            let family = format!("{PREFIX}{name}");
            text.one(&family, Kind::Counter, (help.trim(), value(name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_names_counters_that_there_are_each_once() {
        let stats = Stats::default().snapshot();
        let mut grouped: Vec<&str> =
            GROUPS.iter().flat_map(|(.., counters)| counters.iter().map(|(_, it)| *it)).collect();
        let count = grouped.len();
        for name in &grouped {
            let known = stats.iter().any(|(counter, _)| counter == name);
            assert!(known || name.starts_with("kernel_"), "{name}");
        }
        grouped.sort_unstable();
        grouped.dedup();
        assert_eq!(grouped.len(), count);
    }
}
