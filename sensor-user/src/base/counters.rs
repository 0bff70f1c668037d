//! Every counter of the agent, named `<noun>_<past participle>[_<reason>]`.
//!
//! Counters only grow. Losses are told apart by where they happen; what policy holds back
//! (dedup, exclusion, allow-list) is never called "dropped".

use std::sync::atomic::{AtomicU64, Ordering};

/// One monotonic counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The value so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// The counters, shared by all stages.
        #[derive(Debug, Default)]
        pub struct Stats {
            $($(#[doc = $doc])* pub $name: Counter,)*
        }

        impl Stats {
            /// Name of every counter, and what it counts.
            pub const DESCRIPTIONS: &[(&str, &str)] =
                &[$((stringify!($name), concat!($($doc),*)),)*];

            /// What was counted since the last call, in the order of the counters: to be told to
            /// another process.
            pub fn take(&self) -> Vec<u64> {
                vec![$(self.$name.0.swap(0, Ordering::Relaxed),)*]
            }

            /// Adds what [`Self::take`] of another process, of this same executable, gave.
            pub fn add_all(&self, counts: &[u64]) {
                let all = [$(&self.$name,)*];
                for (counter, count) in all.into_iter().zip(counts) {
                    counter.add(*count);
                }
            }

            /// Name and value of every counter, in the order of the data path.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value()),)*]
            }
        }
    };
}

counters! {
    /// Kernel records read from the ring.
    records_received,
    /// Records that `--simulate-drops` left out, before they were decoded.
    records_dropped_simulated,
    /// Records that `decode` refused.
    records_discarded_decode,
    /// TCP records among them, by what they say.
    tcp_records_received,
    /// Process records among them.
    process_records_received,
    /// Open sockets read by looks.
    sockets_scanned,
    /// Open sockets that a look found no room for.
    sockets_dropped_full,
    /// Lists of sockets that the kernel says changed while they were made, and were made again.
    dumps_interrupted,
    /// Network namespaces that a look could not read, neither over netlink nor from /proc.
    namespaces_failed,
    /// Network namespaces that a look left out because its time was up.
    namespaces_skipped_timeout,
    /// SocketScanner of which nothing came, since their helper ended again and again.
    socket_scans_failed,
    /// SocketScanner left out because the one before was still under way.
    socket_scans_skipped_busy,
    /// UDP records among them.
    udp_records_received,
    /// DNS records among them: answers, by their headers.
    dns_records_received,
    /// DNS answers that are longer than what the kernel half takes of them; what is whole counts.
    dns_answers_truncated,
    /// DNS answers that are malformed, or have a name that is too long.
    dns_answers_rejected,
    /// Names that left the full table while they were current.
    dns_names_evicted,
    /// Names of an address that had too many, replaced by later ones.
    dns_names_replaced,
    /// Processes whose facts came from /proc, because no record told them.
    processes_read_from_proc,
    /// Answers of workers that did not come in time.
    worker_responses_late,
    /// Workers that ended while the agent ran, and were started again.
    workers_restarted,
    /// Processes about which neither record nor /proc told anything.
    processes_unknown,
    /// Process entries that left the full table.
    processes_evicted,
    /// Cgroups of containers that left the full table.
    cgroups_evicted,
    /// Connections that left the full table before they were closed.
    connections_evicted,
    /// Connections whose end was seen without their beginning.
    connections_without_open,
    /// Connections whose socket was used again without an end seen.
    connections_without_close,
    /// Connections that were open when the agent ended.
    connections_abandoned,
    /// Connections and UDP sockets that a look found open and no record had told.
    connections_found_by_scan,
    /// Connections that two looks in a row did not find any more: their end was lost.
    connections_close_missed,
    /// Ends of connections that found no room in the list that a look is checked against.
    recent_closes_evicted,
    /// UDP flows that left the kernel's full map, or the full table, while they were open.
    udp_flows_evicted,
    /// Connections whose request and answer left the kernel's full map before they were read.
    latency_evicted,
    /// Listeners that left the full table.
    listeners_evicted,
    /// Connections that are translated (NAT), by the kernel's connection tracking.
    nat_mappings_found,
    /// Connections that left the full table before their translation was known.
    nat_lookups_evicted,
    /// Connections that were not asked for, since too many were.
    nat_lookups_dropped_queue_full,
    /// Connections in a network namespace into which there is no way, or where the kernel refused.
    nat_lookups_failed,
    /// Kinds of connections that left the full history before the look-back was over.
    history_entries_evicted,
    /// Times that the history could not be written; what it missed is not matched later.
    history_writes_failed,
    /// Connections handed to the matcher.
    flows_observed,
    /// Rows made.
    rows_emitted,
    /// Changes that came after their minute was closed, counted into the next.
    row_changes_late,
    /// Ends of connections whose beginning no row has; they are in no row.
    row_ends_unmatched,
    /// Minutes in which live connections have no row, since the clock leapt or the machine slept.
    row_intervals_skipped,
    /// Times that the clock was set back by minutes, and rows begin again at its new time.
    clock_steps_backward,
    /// Row keys of one minute that did not fit in the table; their connections are in no row.
    row_keys_dropped_full,
    /// Questions to Azure's metadata service that were not answered, or not with a machine.
    azure_metadata_requests_failed,
    /// Listening ports of one minute that did not fit in the table: they have no row.
    bound_ports_dropped_full,
    /// Executables that left the full table of those with TCP connections.
    process_groups_evicted,
    /// Hits of the agent's own traffic, held back.
    hits_suppressed_own_traffic,
    /// Hits held back by the allow-list.
    hits_suppressed_allow_list,
    /// Hits found.
    hits_found,
    /// Hits counted into an open window instead of raised.
    hits_suppressed_window,
    /// Dedup windows closed early because the table was full.
    windows_evicted,
    /// Alerts raised (new and summary).
    alerts_raised,
    /// Repairs of the spool when it was opened: torn ends cut off, damage read around.
    spool_repairs,
    /// Alerts in the spool that cannot be read any more, as far as is known.
    spool_alerts_lost_corrupt,
    /// Times that the spool could not be written; alerts are delivered from memory then.
    spool_writes_failed,
    /// Alerts that were in memory only when the agent ended, since the disk took none.
    alerts_lost_unwritten,
    /// Alerts that left the full spool before a sink had taken them, once for each such sink.
    alerts_evicted_size,
    /// Alerts that a sink had not taken when they were too old, once for each such sink.
    alerts_evicted_age,
    /// Items that a sink refused for good, put aside with the reason.
    items_dead_lettered,
    /// Alerts that did not fit in a sink's queue.
    alerts_dropped_queue_full,
    /// Alerts for a sink that nobody reads any more (standard output's reader has gone).
    alerts_dropped_sink_closed,
    /// Alerts that a sink refused for good.
    alerts_discarded_rejected,
    /// Alerts delivered, once for each sink.
    alerts_delivered,
    /// Notices made: losses and changes of health. They go to sinks as rows do, and count there.
    agent_events_emitted,
    /// Rows and notices that did not fit in a sink's queue.
    rows_dropped_queue_full,
    /// Rows and notices for a sink that nobody reads any more.
    rows_dropped_sink_closed,
    /// Rows and notices that a sink had not taken when the agent's time to end was up.
    rows_dropped_shutdown,
    /// Rows and notices that a sink refused for good.
    rows_discarded_rejected,
    /// Rows and notices delivered, once for each sink.
    rows_delivered,
    /// Files of file sinks rotated.
    files_rotated,
    /// Rotated files deleted, since there were more than are kept.
    rotated_files_deleted,
    /// Parquet files written.
    parquet_files_written,
    /// Parquet files deleted, since the folder had too much or they were too old.
    parquet_files_deleted,
    /// Half written Parquet files of an agent that was killed, removed.
    parquet_files_torn,
    /// Lines that a reader of the local stream was too slow for.
    stream_lines_dropped_reader_slow,
    /// Requests or writes that were tried again.
    deliveries_retried,
    /// Fields that were too long for Azure and cut.
    azure_fields_truncated,
    /// Records that a server of OpenTelemetry rejected out of requests that it accepted.
    otlp_records_rejected,
    /// Good pulls of feeds, "not modified" included.
    feeds_pulled,
    /// Pulls that failed; the last good set stayed.
    feeds_failed,
    /// Pulls among them that looked wrong and are held back.
    feeds_quarantined,
    /// Feed rows and lines that were not used, all reasons.
    feed_entries_rejected,
    /// Pages of metrics that were asked for.
    metrics_scrapes_served,
    /// Callers for metrics that were sent away, since too many were there.
    metrics_clients_evicted,
    /// Lines of the log beyond those that a place in the code has in a minute; the log has their
    /// number.
    log_lines_dropped_over_rate,
    /// Lines of the log that the journal was too slow for; the log has their number.
    log_lines_dropped_journal,
}
