//! The metrics page: all metrics of an agent, from its status report and its process.

use jiff::Timestamp;

use super::counters::counters;
use super::process::ProcessMetrics;
use super::text::{Buckets, FamilyKind, MetricsFormat, MetricsText};
use crate::deliver::{LatencyHistogram, SinkReport};
use crate::schema::health::HealthState;
use crate::telemetry::control::{FeedReport, StatusReport};

/// Limit of the reasons that `netsensor_feed_rejected_entries` shows for one feed.
const REASONS_MAX: usize = 32;

/// Returns the page with all metrics.
pub(super) fn page(
    report: &StatusReport,
    process: &ProcessMetrics,
    format: MetricsFormat,
) -> String {
    let mut text = MetricsText::new(format);
    agent(&mut text, report);
    counters(&mut text, report);
    tables(&mut text, report);
    feeds(&mut text, &report.feeds);
    spool(&mut text, report);
    sinks(&mut text, &report.delivery.sinks);
    process_metrics(&mut text, process);
    text.finish()
}

impl MetricsText {
    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.single(name, FamilyKind::Gauge, help, value);
    }

    /// Writes a gauge of a point in time, if it is known.
    fn time_gauge(&mut self, name: &str, help: &str, time: Option<Timestamp>) {
        if let Some(time) = time {
            self.gauge(name, help, unix_seconds(time));
        }
    }
}

fn agent(text: &mut MetricsText, report: &StatusReport) {
    let help = "Always 1; the labels are the versions.";
    let mut build = text.family("netsensor_build_info", FamilyKind::Gauge, help);
    let (version, object, kernel) = (&report.version, &report.object, &report.kernel);
    build.sample(&[("version", version), ("object", object), ("kernel", kernel)], 1);
    let is_healthy = u8::from(report.state == HealthState::Ok);
    text.gauge("netsensor_healthy", "1 if no component is degraded, else 0.", is_healthy);
    let help = "1 if the component works, else 0.";
    let mut components = text.family("netsensor_component_up", FamilyKind::Gauge, help);
    for component in &report.components {
        let is_up = u8::from(component.state == HealthState::Ok);
        components.sample(&[("component", &component.name)], is_up);
    }
    let help = "1 if the kernel hook was attached at start, else 0.";
    let mut probes = text.family("netsensor_probe_attached", FamilyKind::Gauge, help);
    for probe in &report.probes {
        probes.sample(&[("probe", &probe.name)], u8::from(probe.on));
    }
    text.time_gauge(
        "netsensor_canary_last_seen_timestamp_seconds",
        "Time at which all hooks that the canary tests were last known to work.",
        report.canary_seen,
    );
    if let Some(reload) = &report.last_reload {
        let is_applied = u8::from(reload.error.is_empty());
        let help = "1 if the last reload of the configuration succeeded, else 0.";
        text.gauge("netsensor_last_reload_successful", help, is_applied);
        let help = "Time of the last reload of the configuration.";
        text.time_gauge("netsensor_last_reload_timestamp_seconds", help, Some(reload.time));
    }
    text.gauge(
        "netsensor_ledger_unaccounted_records",
        "Records attempted that are neither received nor lost: they are in the ring buffer. \
         A value below 0 means that the ledger does not balance.",
        report.ledger.unaccounted(),
    );
}

fn tables(text: &mut MetricsText, report: &StatusReport) {
    let help = "Entries of a table of the agent.";
    let mut entries = text.family("netsensor_table_entries", FamilyKind::Gauge, help);
    for table in &report.tables {
        entries.sample(&[("table", &table.name)], table.entries);
    }
    let help = "Capacity of a table of the agent, in entries.";
    let mut max_entries = text.family("netsensor_table_max_entries", FamilyKind::Gauge, help);
    for table in &report.tables {
        max_entries.sample(&[("table", &table.name)], table.max);
    }
    if let Some(history) = report.history {
        text.gauge("netsensor_history_bytes", "Size of the history's files.", history.bytes);
        let help = "Maximum size of the history's files.";
        text.gauge("netsensor_history_max_bytes", help, history.max_bytes);
    }
    let help = "Indicators that connections are matched against.";
    let mut set = text.family("netsensor_indicators", FamilyKind::Gauge, help);
    set.sample(&[("prefix", "host")], report.set.hosts);
    set.sample(&[("prefix", "network")], report.set.networks);
}

/// Names and values of labels.
type Labels<'l, const COUNT: usize> = [(&'static str, &'l str); COUNT];

/// A family of gauges with one sample for each `T` that has a value.
struct GaugeFamily<T> {
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<f64>,
}

impl<T> GaugeFamily<T> {
    fn write<'t, const COUNT: usize>(
        &self,
        text: &mut MetricsText,
        items: &'t [T],
        labels: fn(&'t T) -> Labels<'t, COUNT>,
    ) {
        let mut family = text.family(self.name, FamilyKind::Gauge, self.help);
        for item in items {
            if let Some(value) = (self.value)(item) {
                family.sample(&labels(item), value);
            }
        }
    }
}

const FEED_GAUGES: [GaugeFamily<FeedReport>; 8] = [
    GaugeFamily {
        name: "netsensor_feed_stale",
        help: "1 if the feed had no good pull for three of its intervals, else 0.",
        value: |feed| Some(f64::from(feed.stale)),
    },
    GaugeFamily {
        name: "netsensor_feed_indicators",
        help: "Indicators of the feed.",
        value: |feed| Some(float(feed.indicators)),
    },
    GaugeFamily {
        name: "netsensor_feed_up",
        help: "1 if the feed works, 0 if it is degraded.",
        value: |feed| Some(f64::from(feed.state == HealthState::Ok)),
    },
    GaugeFamily {
        name: "netsensor_feed_quarantined",
        help: "1 if the last pull of the feed was suspicious and is quarantined, else 0.",
        value: |feed| Some(f64::from(feed.quarantined)),
    },
    GaugeFamily {
        name: "netsensor_feed_failed_pulls",
        help: "Failed pulls of the feed since its last good pull.",
        value: |feed| Some(f64::from(feed.failures)),
    },
    GaugeFamily {
        name: "netsensor_feed_last_pull_timestamp_seconds",
        help: "Time of the last pull of the feed.",
        value: |feed| feed.last_pull.map(unix_seconds),
    },
    GaugeFamily {
        name: "netsensor_feed_last_good_pull_timestamp_seconds",
        help: "Time of the last good pull, which confirmed the feed's indicators.",
        value: |feed| feed.last_good.map(unix_seconds),
    },
    GaugeFamily {
        name: "netsensor_feed_loaded_timestamp_seconds",
        help: "Time at which the feed's current indicators were pulled.",
        value: |feed| feed.loaded.map(unix_seconds),
    },
];

fn feeds(text: &mut MetricsText, feeds: &[FeedReport]) {
    for gauge in FEED_GAUGES {
        gauge.write(text, feeds, |feed| [("feed", &feed.name), ("kind", &feed.kind)]);
    }
    let help = "Entries of the feed's last good pull that are not used.";
    let mut rejected = text.family("netsensor_feed_rejected_entries", FamilyKind::Gauge, help);
    for feed in feeds {
        for (reason, count) in feed.rejected.iter().take(REASONS_MAX) {
            rejected.sample(&[("feed", &feed.name), ("reason", reason)], count);
        }
    }
}

fn spool(text: &mut MetricsText, report: &StatusReport) {
    let Some(spool) = &report.delivery.spool else { return };
    let is_writable = u8::from(spool.error.is_empty());
    text.gauge("netsensor_spool_up", "1 if the spool is writable, else 0.", is_writable);
    text.gauge("netsensor_spool_bytes", "Size of the spool on disk.", spool.bytes);
    text.gauge("netsensor_spool_max_bytes", "Maximum size of the spool.", spool.max_bytes);
    text.gauge("netsensor_spool_segments", "Segment files of the spool.", spool.segments);
    text.time_gauge(
        "netsensor_spool_oldest_alert_timestamp_seconds",
        "Time at which the oldest alert in the spool was written.",
        spool.oldest,
    );
}

const SINK_GAUGES: [GaugeFamily<SinkReport>; 3] = [
    GaugeFamily {
        name: "netsensor_sink_up",
        help: "1 if the sink accepts items, 0 once it has failed for ten seconds.",
        value: |sink| Some(f64::from(sink.error.is_empty())),
    },
    GaugeFamily {
        name: "netsensor_sink_last_delivered_timestamp_seconds",
        help: "Time of the last successful delivery to the sink.",
        value: |sink| sink.last_delivered.map(unix_seconds),
    },
    GaugeFamily {
        name: "netsensor_sink_oldest_waiting_alert_timestamp_seconds",
        help: "Time of the oldest alert that the sink has not accepted yet.",
        value: |sink| sink.oldest_waiting.map(unix_seconds),
    },
];

fn sinks(text: &mut MetricsText, sinks: &[SinkReport]) {
    let help = "Undelivered items of the sink: alerts (on disk) and rows (in memory).";
    let mut waiting = text.family("netsensor_sink_waiting_items", FamilyKind::Gauge, help);
    for sink in sinks {
        waiting.sample(&[("sink", &sink.name), ("content", "alerts")], sink.alerts_waiting);
        waiting.sample(&[("sink", &sink.name), ("content", "rows")], sink.rows_waiting);
    }
    for gauge in SINK_GAUGES {
        gauge.write(text, sinks, |sink| [("sink", &sink.name)]);
    }
    let help = "Requests to the sink, including failed ones.";
    let mut attempts = text.family("netsensor_sink_attempts", FamilyKind::Counter, help);
    for sink in sinks {
        attempts.sample(&[("sink", &sink.name)], sink.attempts);
    }
    let help = "Failed requests to the sink, which are retried.";
    let mut failures = text.family("netsensor_sink_failures", FamilyKind::Counter, help);
    for sink in sinks {
        failures.sample(&[("sink", &sink.name)], sink.failures);
    }
    let help = "Delivered items that the sink's receiver knew already and did not store again.";
    let mut already_stored =
        text.family("netsensor_sink_already_stored", FamilyKind::Counter, help);
    for sink in sinks {
        already_stored.sample(&[("sink", &sink.name)], sink.already_stored);
    }
    let help = "Time from a connection to the sink's acknowledgement of its first alert.";
    let name = "netsensor_sink_alert_latency_seconds";
    let mut latencies = text.family(name, FamilyKind::Histogram, help);
    for sink in sinks {
        let sum = sink.latency.sum().as_secs_f64();
        let buckets =
            Buckets { bounds: &LatencyHistogram::BOUNDS, counts: sink.latency.counts(), sum };
        latencies.histogram(("sink", &sink.name), buckets);
    }
}

/// Writes metrics of the agent's process under the names of Prometheus' client libraries, and those
/// of its workers.
fn process_metrics(text: &mut MetricsText, process: &ProcessMetrics) {
    use FamilyKind::{Counter, Gauge};
    // Counts print like integers: all are below 2^53.
    let count = |value: Option<u64>| value.map(float);
    let metrics = [
        (
            "process_cpu_seconds",
            Counter,
            "CPU time of the agent's process, user and system.",
            process.cpu_seconds,
        ),
        (
            "netsensor_children_cpu_seconds",
            Counter,
            "CPU time of the agent's exited child processes.",
            process.children_cpu_seconds,
        ),
        (
            "process_resident_memory_bytes",
            Gauge,
            "Resident memory of the agent's process.",
            count(process.resident_bytes),
        ),
        (
            "process_virtual_memory_bytes",
            Gauge,
            "Virtual memory of the agent's process.",
            count(process.virtual_bytes),
        ),
        ("process_threads", Gauge, "Threads of the agent's process.", count(process.threads)),
        ("process_open_fds", Gauge, "Open file descriptors.", count(process.open_fds)),
        ("process_max_fds", Gauge, "Maximum of open file descriptors.", count(process.max_fds)),
        (
            "process_start_time_seconds",
            Gauge,
            "Start time of the agent's process.",
            process.start_seconds,
        ),
    ];
    for (name, kind, help, value) in metrics {
        if let Some(value) = value {
            text.single(name, kind, help, value);
        }
    }
    let help = "CPU time of a worker process; restarts at 0 with the worker.";
    let mut cpu = text.family("netsensor_worker_cpu_seconds", Counter, help);
    for worker in &process.workers {
        cpu.sample(&[("worker", worker.kind.name())], worker.cpu_seconds);
    }
    let help = "Resident memory of a worker process.";
    let mut memory = text.family("netsensor_worker_resident_memory_bytes", Gauge, help);
    for worker in &process.workers {
        memory.sample(&[("worker", worker.kind.name())], worker.resident_bytes);
    }
}

fn unix_seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "no count here reaches 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}
