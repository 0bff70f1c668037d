//! The page: all metrics of an agent, of what it says of itself and what its process takes.

use jiff::Timestamp;

use super::counters::counters;
use super::process::ProcessVitals;
use super::text::{Format, Kind, Text};
use crate::deliver::{Delays, SinkReport};
use crate::schema::health::State;
use crate::telemetry::control::{FeedReport, StatusReport};

/// Reasons of rejected entries that are told of one feed at most.
const REASONS_MAX: usize = 32;

/// What a page is made of.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// What the agent says of itself.
    pub report: StatusReport,
    /// What its process takes.
    pub process: ProcessVitals,
}

/// All metrics.
pub fn page(vitals: &Vitals, format: Format) -> String {
    let mut text = Text::new(format);
    let report = &vitals.report;
    agent(&mut text, report);
    ledger(&mut text, report);
    counters(&mut text, report);
    tables(&mut text, report);
    feeds(&mut text, &report.feeds);
    spool(&mut text, report);
    sinks(&mut text, &report.delivery.sinks);
    delays(&mut text, &report.delivery.sinks);
    process(&mut text, &vitals.process);
    text.finish()
}

fn agent(text: &mut Text, report: &StatusReport) {
    let mut build =
        text.family("netsensor_build_info", Kind::Gauge, "Always 1; the labels say which.");
    let (version, object, kernel) = (&report.version, &report.object, &report.kernel);
    build.sample(&[("version", version), ("object", object), ("kernel", kernel)], 1);
    let help = "Whether no part of the agent is degraded.";
    text.one("netsensor_healthy", Kind::Gauge, (help, flag(report.state == State::Ok)));
    let help = "Whether a part of the agent works.";
    let mut components = text.family("netsensor_component_up", Kind::Gauge, help);
    for component in &report.components {
        let up = flag(component.state == State::Ok);
        components.sample(&[("component", &component.name)], up);
    }
    let help = "Whether a hook in the kernel was attached at start.";
    let mut probes = text.family("netsensor_probe_attached", Kind::Gauge, help);
    for probe in &report.probes {
        probes.sample(&[("probe", &probe.name)], flag(probe.on));
    }
    let help = "When every hook that the canary tries was last known to work.";
    let name = "netsensor_canary_last_seen_timestamp_seconds";
    if let Some(seen) = report.canary_seen {
        text.one(name, Kind::Gauge, (help, seconds(seen)));
    }
    if let Some(reload) = &report.last_reload {
        let help = "Whether the configuration was taken when it was last read again.";
        let good = flag(reload.error.is_empty());
        text.one("netsensor_last_reload_successful", Kind::Gauge, (help, good));
        let name = "netsensor_last_reload_timestamp_seconds";
        let help = "When the configuration was last read again.";
        text.one(name, Kind::Gauge, (help, seconds(reload.time)));
    }
}

fn ledger(text: &mut Text, report: &StatusReport) {
    let help = "Everything that is known to be lost, by what it was and why.";
    let mut losses = text.family("netsensor_losses", Kind::Counter, help);
    for loss in &report.losses {
        losses.sample(&[("kind", &loss.kind), ("reason", &loss.reason)], loss.count);
    }
    let help = "Records attempted that are neither received nor lost: they are in the ring. Below 0, \
                the ledger does not close.";
    let name = "netsensor_ledger_unaccounted_records";
    text.one(name, Kind::Gauge, (help, report.ledger.unaccounted()));
}

fn tables(text: &mut Text, report: &StatusReport) {
    let help = "Entries of a table of the agent.";
    let mut entries = text.family("netsensor_table_entries", Kind::Gauge, help);
    for table in &report.tables {
        entries.sample(&[("table", &table.name)], table.entries);
    }
    let help = "Entries that a table of the agent holds at most.";
    let mut most = text.family("netsensor_table_max_entries", Kind::Gauge, help);
    for table in &report.tables {
        most.sample(&[("table", &table.name)], table.max);
    }
    if let Some(history) = report.history {
        let help = "Bytes of the history's files.";
        text.one("netsensor_history_bytes", Kind::Gauge, (help, history.bytes));
        let help = "Bytes that the history's files have at most.";
        text.one("netsensor_history_max_bytes", Kind::Gauge, (help, history.max_bytes));
    }
    let help = "Indicators that connections are matched with.";
    let mut set = text.family("netsensor_indicators", Kind::Gauge, help);
    set.sample(&[("prefix", "host")], report.set.hosts);
    set.sample(&[("prefix", "network")], report.set.networks);
}

/// A family of one sample a feed, where it has one.
type FeedGauge = (&'static str, &'static str, fn(&FeedReport) -> Option<f64>);

const FEED_GAUGES: [FeedGauge; 8] = [
    ("stale", "Whether there was no good pull of a feed for three of its intervals.", |feed| {
        Some(f64::from(flag(feed.stale)))
    }),
    ("indicators", "Indicators that a feed gives.", |feed| Some(float(feed.indicators))),
    ("up", "Whether nothing is wrong with a feed.", |feed| {
        Some(f64::from(flag(feed.state == State::Ok)))
    }),
    (
        "quarantined",
        "Whether the last pull of a feed is held back, since it looked wrong.",
        |feed| Some(f64::from(flag(feed.quarantined))),
    ),
    ("failed_pulls", "Pulls of a feed that failed since the last good one.", |feed| {
        Some(f64::from(feed.failures))
    }),
    ("last_pull_timestamp_seconds", "When a feed was last asked.", |feed| {
        feed.last_pull.map(seconds)
    }),
    (
        "last_good_pull_timestamp_seconds",
        "When what a feed gives was last confirmed by a good pull.",
        |feed| feed.last_good.map(seconds),
    ),
    ("loaded_timestamp_seconds", "When what a feed gives was pulled.", |feed| {
        feed.loaded.map(seconds)
    }),
];

fn feeds(text: &mut Text, feeds: &[FeedReport]) {
    for (name, help, value) in FEED_GAUGES {
        let mut family = text.family(&format!("netsensor_feed_{name}"), Kind::Gauge, help);
        for feed in feeds {
            if let Some(value) = value(feed) {
                family.sample(&[("feed", &feed.name), ("kind", &feed.kind)], value);
            }
        }
    }
    let help = "Entries of the last good pull of a feed that are not used.";
    let mut rejected = text.family("netsensor_feed_rejected_entries", Kind::Gauge, help);
    for feed in feeds {
        for (reason, count) in feed.rejected.iter().take(REASONS_MAX) {
            rejected.sample(&[("feed", &feed.name), ("reason", reason)], count);
        }
    }
}

fn spool(text: &mut Text, report: &StatusReport) {
    let Some(spool) = &report.delivery.spool else { return };
    let up = flag(spool.error.is_empty());
    text.one("netsensor_spool_up", Kind::Gauge, ("Whether the spool can be written.", up));
    let help = "Bytes of the spool on disk.";
    text.one("netsensor_spool_bytes", Kind::Gauge, (help, spool.bytes));
    let help = "Bytes that the spool has at most.";
    text.one("netsensor_spool_max_bytes", Kind::Gauge, (help, spool.max_bytes));
    let help = "Files of the spool.";
    text.one("netsensor_spool_segments", Kind::Gauge, (help, spool.segments));
    if let Some(oldest) = spool.oldest {
        let name = "netsensor_spool_oldest_alert_timestamp_seconds";
        let help = "When the oldest alert that the spool retains was put.";
        text.one(name, Kind::Gauge, (help, seconds(oldest)));
    }
}

/// The same of sinks.
type SinkGauge = (&'static str, &'static str, fn(&SinkReport) -> Option<f64>);

const SINK_GAUGES: [SinkGauge; 3] = [
    (
        "up",
        "Whether a sink takes what it is given; not, where it has failed for ten seconds.",
        |sink| Some(f64::from(flag(sink.error.is_empty()))),
    ),
    ("last_delivered_timestamp_seconds", "When a sink last took something.", |sink| {
        sink.last_delivered.map(seconds)
    }),
    (
        "oldest_waiting_alert_timestamp_seconds",
        "Time of the oldest alert that a sink was given and has not taken.",
        |sink| sink.oldest_waiting.map(seconds),
    ),
];

fn sinks(text: &mut Text, sinks: &[SinkReport]) {
    let help = "Alerts (on disk) and rows (in memory) that a sink has not taken.";
    let mut waiting = text.family("netsensor_sink_waiting_items", Kind::Gauge, help);
    for sink in sinks {
        waiting.sample(&[("sink", &sink.name), ("content", "alerts")], sink.alerts_waiting);
        waiting.sample(&[("sink", &sink.name), ("content", "rows")], sink.rows_waiting);
    }
    for (name, help, value) in SINK_GAUGES {
        let mut family = text.family(&format!("netsensor_sink_{name}"), Kind::Gauge, help);
        for sink in sinks {
            if let Some(value) = value(sink) {
                family.sample(&[("sink", &sink.name)], value);
            }
        }
    }
    let help = "Requests to a sink that were begun.";
    let mut attempts = text.family("netsensor_sink_attempts", Kind::Counter, help);
    for sink in sinks {
        attempts.sample(&[("sink", &sink.name)], sink.attempts);
    }
    let help = "Requests to a sink that failed and are tried again.";
    let mut failures = text.family("netsensor_sink_failures", Kind::Counter, help);
    for sink in sinks {
        failures.sample(&[("sink", &sink.name)], sink.failures);
    }
}

fn delays(text: &mut Text, sinks: &[SinkReport]) {
    let help = "From a connection to the answer of a sink that took the first alert of it.";
    let name = "netsensor_sink_alert_latency_seconds";
    let mut delays = text.family(name, Kind::Histogram, help);
    for sink in sinks {
        let sum = sink.delays.sum().as_secs_f64();
        let classes = (&Delays::BOUNDS[..], sink.delays.classes());
        delays.histogram(("sink", &sink.name), classes, sum);
    }
}

/// Under the names that Prometheus' own libraries use.
fn process(text: &mut Text, process: &ProcessVitals) {
    let help = "Time of the agent's process on a CPU, in user and in kernel mode.";
    let cpu = [
        ("process_cpu_seconds", help, process.cpu_seconds),
        (
            "netsensor_children_cpu_seconds",
            "The same of its children that have ended: readers of feeds, canaries.",
            process.children_cpu_seconds,
        ),
    ];
    for (name, help, value) in cpu {
        if let Some(value) = value {
            text.one(name, Kind::Counter, (help, value));
        }
    }
    let gauges = [
        ("process_resident_memory_bytes", "Memory of the agent's process.", process.resident_bytes),
        (
            "process_virtual_memory_bytes",
            "Address space of the agent's process.",
            process.virtual_bytes,
        ),
        ("process_threads", "Threads of the agent's process.", process.threads),
        ("process_open_fds", "File descriptors that are open.", process.open_fds),
        ("process_max_fds", "File descriptors that may be open.", process.max_fds),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            text.one(name, Kind::Gauge, (help, value));
        }
    }
    let help = "CPU time of a worker process of the agent; 0 again after a restart.";
    let mut cpu = text.family("netsensor_worker_cpu_seconds", Kind::Counter, help);
    for worker in &process.workers {
        cpu.sample(&[("worker", worker.kind.name())], worker.cpu_seconds);
    }
    let help = "Resident memory of a worker process of the agent.";
    let mut memory = text.family("netsensor_worker_resident_memory_bytes", Kind::Gauge, help);
    for worker in &process.workers {
        memory.sample(&[("worker", worker.kind.name())], worker.resident_bytes);
    }
    if let Some(start) = process.start_seconds {
        let help = "When the agent's process began.";
        text.one("process_start_time_seconds", Kind::Gauge, (help, start));
    }
}

const fn flag(is_so: bool) -> u8 {
    if is_so { 1 } else { 0 }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "no set has 2^53 indicators")]
const fn float(count: u64) -> f64 {
    count as f64
}
