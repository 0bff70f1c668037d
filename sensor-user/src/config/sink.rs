//! `[[sink]]`: the keys of all kinds.

use std::time::Duration;

use super::form::{self, MINUTE, choice, duration, list, number, size};
use super::key::keys;
use super::section::Section;
use super::sink_kind::KINDS;
use crate::deliver::{Format, SinkConfig};

/// Values of `sink.takes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Items {
    Alerts,
    Rows,
    Health,
}

/// One `[[sink]]`; `None` if a key that it needs is missing or invalid.
pub(super) fn sink(section: &mut Section<'_, '_>) -> Option<SinkConfig> {
    keys! { section, "sink", RELOAD;
        /// Unique name, which appears in logs.
        name: form::name() => required("a short unique name");
        /// `"stdout"`: JSON lines. `"console"`: one human-readable line per alert, on
        /// standard error. `"file"`: JSON lines appended to a file. `"http"`: POST.
        /// `"azure"`: Azure Monitor. `"splunk"`: Splunk's HTTP Event Collector.
        /// `"elasticsearch"`: Elasticsearch and OpenSearch. `"otlp"`: OpenTelemetry log
        /// records. `"syslog"`: RFC 5424. `"nats"`: messages to a NATS stream. `"kafka"`:
        /// messages to Kafka topics, in builds with that feature. `"parquet"`: rows as
        /// Parquet files in a directory.
        kind: choice(&KINDS.map(|(kind, _)| (kind, kind))) => required("one of the kinds of sinks");
    }
    section.keys.kind = kind;
    let kind = kind.unwrap_or_default();
    let items = [("alerts", Items::Alerts), ("rows", Items::Rows), ("health", Items::Health)];
    let default = if kind == "parquet" { Items::Rows } else { Items::Alerts };
    let items = list(choice(&items), "\"alerts\", \"rows\" and \"health\"");
    keys! { section, "sink", RELOAD;
        /// `"alerts"`, `"rows"`, `"health"` (`"console"` takes alerts only; `"parquet"`
        /// takes rows only, and must be a sink of its own). Health lines of the agent
        /// (below) are sent with the rows, or without rows to a sink that takes
        /// `"health"`.
        takes: items => default(vec![default]);
    }
    if takes.is_empty() {
        section.add("takes", "is empty; use [\"alerts\"], [\"rows\"], [\"health\"] or several");
    } else if kind == "console" && takes != [Items::Alerts] {
        section.add("takes", "only alerts have a text form; use [\"alerts\"]");
    } else if kind == "parquet" && takes != [Items::Rows] {
        section.add("takes", "only rows have columns of a table; use [\"rows\"]");
    }
    let format = format(section, kind, takes == [Items::Alerts]);
    keys! { section, "sink", RELOAD;
        /// Maximum number of rows and health lines that wait for the sink. Further ones
        /// are dropped and counted. Alerts wait on disk (`[spool]`).
        queue: number(1..=1_000_000) => default(SinkConfig::QUEUE);
        /// Items in one request or write.
        batch: number(1..=10_000) => default(SinkConfig::BATCH);
        /// Maximum bytes in one request or write, unless a single item is larger.
        batch_bytes: size(1 << 10..=64 << 20) => default(SinkConfig::BATCH_BYTES);
        /// Time for which a row or health line waits in memory for a batch to fill. Alerts
        /// do not wait.
        batch_wait: duration(Duration::from_millis(10)..=10 * MINUTE)
            => default(SinkConfig::BATCH_WAIT);
        /// Maximum number of concurrent requests.
        concurrency: number(1..=64) => default(SinkConfig::CONCURRENCY);
    }
    if kind == "azure" && batch_bytes > SinkConfig::BATCH_BYTES {
        let problem = "is over what Azure takes in a request; use 900KiB or less";
        section.add("batch_bytes", problem);
    }
    let (_, read) = KINDS.iter().find(|(word, _)| *word == kind)?;
    let kind = read(section);
    Some(SinkConfig {
        name: name?,
        kind: kind?,
        alerts: takes.contains(&Items::Alerts),
        rows: takes.contains(&Items::Rows),
        health: takes.contains(&Items::Health),
        format,
        queue,
        batch,
        batch_bytes,
        batch_wait,
        concurrency,
    })
}

/// The format of the items, if the kind has a choice.
fn format(section: &mut Section<'_, '_>, kind: &str, alerts_only: bool) -> Format {
    if matches!(kind, "console" | "parquet" | "azure") {
        return Format::default();
    }
    let default = match kind {
        // The format that their readers expect.
        "syslog" if alerts_only => Format::Cef,
        "elasticsearch" => Format::Ecs,
        _ => Format::Native,
    };
    keys! { section, "sink", RELOAD;
        /// Schema of the items: `"native"`, `"ecs"` (Elastic Common Schema), `"ocsf"`
        /// (Open Cybersecurity Schema Framework) or `"cef"` (Common Event Format, for
        /// alerts only); [formats.md](formats.md) shows each. Not for `"console"` and
        /// `"parquet"`, which have fixed formats.
        format: choice(&Format::ALL.map(|format| (format.as_str(), format))) => default(default);
    }
    if format == Format::Cef && !alerts_only {
        section.add("format", "\"cef\" has words for alerts only; use takes = [\"alerts\"]");
    }
    format
}
