//! `Stats`: counters of the agent.

use std::sync::atomic::Ordering;

use super::families::{
    ALERTS_LOST, HITS_SUPPRESSED, KERNEL_RECORDS_RECEIVED, LOG_LINES_DROPPED, LOSSES,
    RECORDS_DROPPED, ROWS_LOST, TABLE_EVICTIONS,
};
use super::{Counter, Declaration, FamilySample, counters};

counters! {
    /// Counters of the agent, shared by all stages.
    #[derive(Debug, Default)]
    pub struct Stats(Counter), "";
    /// Records read from the ring buffer.
    records_received;
    /// Records that `--simulate-drops` discarded before they were decoded.
    records_dropped_simulated in RECORDS_DROPPED["simulated"] and LOSSES["record", "simulated"];
    /// Records that could not be decoded.
    records_discarded_decode in RECORDS_DROPPED["decode_error"] and LOSSES["record", "decode_error"];
    /// TCP records decoded.
    tcp_records_received in KERNEL_RECORDS_RECEIVED["tcp"];
    /// Process records decoded.
    process_records_received in KERNEL_RECORDS_RECEIVED["process"];
    /// UDP records decoded.
    udp_records_received in KERNEL_RECORDS_RECEIVED["udp"];
    /// DNS responses decoded, headers only.
    dns_records_received in KERNEL_RECORDS_RECEIVED["dns"];
    /// Open sockets found by socket scans.
    sockets_scanned;
    /// Open sockets that a socket scan had no room for.
    sockets_dropped_full and LOSSES["open_socket", "table_full"];
    /// Socket dumps repeated because the kernel reported a change while it wrote them (`NLM_F_DUMP_INTR`).
    dumps_interrupted;
    /// Network namespaces that a socket scan could read neither over netlink nor from /proc.
    namespaces_failed;
    /// Network namespaces that a socket scan skipped because its time limit was reached.
    namespaces_skipped_timeout;
    /// Socket scans that failed because the worker process kept exiting.
    socket_scans_failed;
    /// Socket scans skipped because the previous one was still running.
    socket_scans_skipped_busy;
    /// DNS responses longer than the part that the BPF program copies; their complete records are used.
    dns_answers_truncated;
    /// DNS responses that are malformed or contain a name that is too long.
    dns_answers_rejected;
    /// Current DNS names evicted from the full cache.
    dns_names_evicted in TABLE_EVICTIONS["dns_names"] and LOSSES["dns_name", "table_full"];
    /// Names of an address with too many names, replaced by newer ones.
    dns_names_replaced;
    /// Processes read from /proc because no record reported them.
    processes_read_from_proc;
    /// Responses of worker processes that missed their deadline.
    worker_responses_late;
    /// Worker processes that exited while the agent ran, and were restarted.
    workers_restarted;
    /// Processes that are neither in a record nor in /proc.
    processes_unknown;
    /// Processes evicted from the full table.
    processes_evicted in TABLE_EVICTIONS["processes"] and LOSSES["process", "table_full"];
    /// Cgroups of containers evicted from the full table.
    cgroups_evicted in TABLE_EVICTIONS["cgroups"] and LOSSES["cgroup", "table_full"];
    /// Open connections evicted from the full table.
    connections_evicted in TABLE_EVICTIONS["connections"] and LOSSES["connection", "table_full"];
    /// Connections with a close record and no open record.
    connections_without_open;
    /// Connections without a close record, whose socket was used again.
    connections_without_close;
    /// Connections that were open when the agent exited.
    connections_abandoned;
    /// Connections and UDP sockets found open by a socket scan, without an open record.
    connections_found_by_scan;
    /// Connections whose guessed process was corrected once their owner was known.
    owners_corrected;
    /// Connections missing from two successive socket scans: their close record was lost.
    connections_close_missed;
    /// Closes evicted from the full list of recent closes that socket scans are reconciled with.
    recent_closes_evicted;
    /// Open UDP flows evicted from the kernel's full map or the agent's full table.
    udp_flows_evicted in TABLE_EVICTIONS["udp_flows"] and LOSSES["udp_flow", "table_full"];
    /// Connections evicted from the kernel's full latency map before their response times were read.
    latency_evicted in TABLE_EVICTIONS["latency"] and LOSSES["latency", "map_full"];
    /// Listening sockets evicted from the full table.
    listeners_evicted in TABLE_EVICTIONS["listeners"] and LOSSES["listener", "table_full"];
    /// Connections with a NAT mapping in the kernel's connection tracking.
    nat_mappings_found;
    /// Connections evicted from the full table of NAT lookups; their next change is looked up again.
    nat_lookups_evicted in TABLE_EVICTIONS["nat_lookups"] and LOSSES["nat_lookup", "table_full"];
    /// Connections without a NAT lookup because too many were queued.
    nat_lookups_dropped_queue_full and LOSSES["nat_lookup", "queue_full"];
    /// Network namespaces evicted from the full table of those that NAT lookups are made in.
    nat_namespaces_evicted in TABLE_EVICTIONS["nat_namespaces"];
    /// NAT mappings that were known only after changes of their connection were reported without them.
    nat_mappings_late;
    /// NAT lookups that failed: the network namespace cannot be entered, or the kernel refused.
    nat_lookups_failed;
    /// Entries evicted from the full history before the lookback period was over.
    history_entries_evicted in TABLE_EVICTIONS["history"];
    /// Failed writes of the history; connections that it lacks are not matched later.
    history_writes_failed;
    /// Connections passed to the matcher.
    flows_observed;
    /// Rows emitted.
    rows_emitted;
    /// Changes that arrived after their minute was closed, counted in the next minute.
    row_changes_late;
    /// Closes of connections without an open in any row; they are in no row.
    row_ends_unmatched;
    /// Intervals without rows for live connections, because the clock leapt or the machine slept.
    // The name avoids "minutes": promtool accepts base units only.
    row_intervals_skipped;
    /// Times that the clock was set back by minutes; rows continue at the new time.
    clock_steps_backward;
    /// Row keys that did not fit into the table of one minute; their connections are in no row.
    row_keys_dropped_full and LOSSES["row_key", "table_full"];
    /// Remote ends behind NAT evicted from the list of one row in one minute; they do not flag that row.
    row_mappings_evicted;
    /// Failed requests to Azure's metadata service, including responses that describe no machine.
    azure_metadata_requests_failed;
    /// Listening ports that did not fit into the table of one minute; they have no row.
    bound_ports_dropped_full;
    /// Executables evicted from the full table of those with TCP connections.
    process_groups_evicted in TABLE_EVICTIONS["process_groups"];
    /// Hits of the agent's own traffic, suppressed.
    hits_suppressed_own_traffic in HITS_SUPPRESSED["own_traffic"];
    /// Hits suppressed by the allow-list.
    hits_suppressed_allow_list in HITS_SUPPRESSED["allow_list"];
    /// Hits found.
    hits_found;
    /// Hits counted in an open dedup window instead of raising an alert.
    hits_suppressed_window in HITS_SUPPRESSED["window"];
    /// Dedup windows closed early because the table was full.
    windows_evicted in TABLE_EVICTIONS["dedup_windows"];
    /// Alerts raised, both new and summary.
    alerts_raised;
    /// Repairs of the spool at start: torn ends truncated, corrupt ranges skipped.
    spool_repairs;
    /// Alerts in corrupt ranges of the spool, as far as their number is known.
    spool_alerts_lost_corrupt in ALERTS_LOST["spool_corrupt"];
    /// Failed writes of the spool; alerts are then delivered from memory.
    spool_writes_failed;
    /// Alerts that were only in memory when the agent exited, because the disk was not writable.
    alerts_lost_unwritten in ALERTS_LOST["unwritten"];
    /// Undelivered alerts evicted from the full spool, once per sink.
    alerts_evicted_size in ALERTS_LOST["spool_size"];
    /// Undelivered alerts evicted from the spool because of their age, once per sink.
    alerts_evicted_age in ALERTS_LOST["spool_age"];
    /// Items that a sink refused permanently, saved with the reason.
    items_dead_lettered;
    /// Alerts that did not fit into a sink's queue.
    alerts_dropped_queue_full in ALERTS_LOST["queue_full"] and LOSSES["alert", "queue_full"];
    /// Alerts for a sink whose reader is gone, as with a closed standard output.
    alerts_dropped_sink_closed in ALERTS_LOST["sink_closed"];
    /// Alerts that a sink refused permanently.
    alerts_discarded_rejected in ALERTS_LOST["rejected"] and LOSSES["alert", "rejected"];
    /// Alerts delivered, once per sink.
    alerts_delivered;
    /// Agent events emitted: losses and health changes. Sinks receive and count them like rows.
    agent_events_emitted;
    /// Rows and agent events that did not fit into a sink's queue.
    rows_dropped_queue_full in ROWS_LOST["queue_full"] and LOSSES["row", "queue_full"];
    /// Rows and agent events for a sink whose reader is gone.
    rows_dropped_sink_closed in ROWS_LOST["sink_closed"];
    /// Rows and agent events that were not delivered before the shutdown deadline.
    rows_dropped_shutdown in ROWS_LOST["shutdown"];
    /// Rows and agent events that a sink refused permanently.
    rows_discarded_rejected in ROWS_LOST["rejected"] and LOSSES["row", "rejected"];
    /// Rows and agent events delivered, once per sink.
    rows_delivered;
    /// Files rotated by file sinks.
    files_rotated;
    /// Rotated files deleted because of the configured maximum number.
    rotated_files_deleted;
    /// Parquet files written.
    parquet_files_written;
    /// Parquet files deleted because of the directory's size limit or their age.
    parquet_files_deleted;
    /// Incomplete Parquet files of a killed agent, removed.
    parquet_files_torn;
    /// Lines dropped because a reader of the local stream was too slow.
    stream_lines_dropped_reader_slow;
    /// Deliveries retried: requests or writes.
    deliveries_retried;
    /// Fields truncated because of Azure's length limit.
    azure_fields_truncated;
    /// Log records that an OTLP server rejected in a partially accepted request.
    otlp_records_rejected;
    /// Successful pulls of feeds, including "not modified".
    feeds_pulled;
    /// Failed pulls of feeds; the last good set stays in use.
    feeds_failed;
    /// Suspicious pulls of feeds, quarantined; also counted as failed.
    feeds_quarantined;
    /// Feed entries that were not used, for any reason.
    feed_entries_rejected;
    /// Requests for the metrics page that were served.
    metrics_scrapes_served;
    /// Metrics clients disconnected because too many were connected.
    metrics_clients_evicted;
    /// Clients of the control socket disconnected because too many were connected.
    control_clients_evicted;
    /// Log lines over the limit per minute of their log statement.
    log_lines_dropped_over_rate in LOG_LINES_DROPPED["over_rate"];
    /// Log lines dropped because the journal was too slow.
    log_lines_dropped_journal in LOG_LINES_DROPPED["journal"];
}

impl Stats {
    /// Returns the declaration and value of every counter, in the order of the declarations.
    pub fn snapshot(&self) -> impl Iterator<Item = (&'static Declaration, u64)> {
        Self::DECLARATIONS.iter().zip(self.counters().map(Counter::value))
    }

    /// Resets all counters and returns their values, for [`Self::add_all`] in another process.
    pub fn take(&self) -> Vec<u64> {
        self.counters().map(|counter| counter.0.swap(0, Ordering::Relaxed)).collect()
    }

    /// Adds the counts that [`Self::take`] returned in another process of the same executable.
    pub fn add_all(&self, counts: &[u64]) {
        for (counter, count) in self.counters().zip(counts) {
            counter.add(*count);
        }
    }
}
