//! `[[sink]]`: the keys that all kinds have.

use std::time::Duration;

use super::base_dirs::BaseDirs;
use super::reader::Section;
use super::retired;
use super::sections::MINUTE;
use super::sink_kind;
use super::sink_kind::KINDS;
use super::values;
use crate::deliver::{Format, SinkConfig};

/// One `[[sink]]` and the line of its name; `None` where something that it needs is missing or
/// wrong (noted).
pub(super) fn sink(
    mut section: Section<'_, '_>,
    place: BaseDirs<'_>,
) -> Option<(SinkConfig, usize)> {
    let line = section.line_of("name");
    let name = section.require("name", "a short unique name", values::name);
    let form = KINDS.map(|kind| format!("{kind:?}")).join(" or ");
    let kind = section.require("kind", &form, |value| {
        let retired = value.as_str().and_then(retired::sink_kind);
        if let Some((name, replacement)) = retired {
            return Err(format!("{name:?} was renamed; use {replacement:?}"));
        }
        values::word(&KINDS, value)
    });
    let kind_name = kind.and_then(|kind| KINDS.get(kind)).copied().unwrap_or_default();
    let kind = sink_kind::read(&mut section, kind_name, place);
    let takes = section.read_list("takes", "\"alerts\", \"rows\" and \"health\"", |value| {
        values::word(&["alerts", "rows", "health"], value)
    });
    let takes = takes.unwrap_or_else(|| vec![usize::from(kind_name == "parquet")]);
    if takes.is_empty() {
        section.note("takes", "is empty; use [\"alerts\"], [\"rows\"], [\"health\"] or several");
    } else if kind_name == "console" && takes != [0] {
        section.note("takes", "only alerts have a text form; use [\"alerts\"]");
    } else if kind_name == "parquet" && takes != [1] {
        section.note("takes", "only rows have columns of a table; use [\"rows\"]");
    }
    let format = format(&mut section, kind_name, &takes);
    let queue = section.read("queue", values::number(1..=1_000_000_usize));
    let batch = section.read("batch", values::number(1..=10_000_usize));
    let batch_bytes = section.read("batch_bytes", values::size(1 << 10..=64 << 20));
    let batch_bytes = batch_bytes.and_then(|bytes| usize::try_from(bytes).ok());
    if kind_name == "azure" && batch_bytes.is_some_and(|bytes| bytes > SinkConfig::BATCH_BYTES) {
        section.note("batch_bytes", "is over what Azure takes in a request; use 900KiB or less");
    }
    let wait = Duration::from_millis(10)..=10 * MINUTE;
    let batch_wait = section.read("batch_wait", values::duration(wait));
    let concurrency = section.read("concurrency", values::number(1..=64_usize));
    section.finish();
    let sink = SinkConfig {
        name: name?,
        kind: kind?,
        alerts: takes.contains(&0),
        rows: takes.contains(&1),
        health: takes.contains(&2),
        format,
        queue: queue.unwrap_or(SinkConfig::QUEUE),
        batch: batch.unwrap_or(SinkConfig::BATCH),
        batch_bytes: batch_bytes.unwrap_or(SinkConfig::BATCH_BYTES),
        batch_wait: batch_wait.unwrap_or(SinkConfig::BATCH_WAIT),
        concurrency: concurrency.unwrap_or(SinkConfig::CONCURRENCY),
    };
    Some((sink, line))
}

/// In whose words, where the kind leaves a choice. `takes` are indices of what it takes.
fn format(section: &mut Section<'_, '_>, kind: &str, takes: &[usize]) -> Format {
    if matches!(kind, "console" | "parquet" | "azure") {
        section.refuse_here("format", "has no meaning here; this kind has a form of its own");
        return Format::default();
    }
    let format = section.read("format", |value| values::word(&Format::WORDS, value));
    let usual = match kind {
        // What those who read them expect.
        "syslog" if takes == [0] => Format::Cef,
        "elasticsearch" => Format::Ecs,
        _ => Format::Native,
    };
    let format = format.and_then(|index| Format::ALL.get(index)).copied().unwrap_or(usual);
    if format == Format::Cef && takes != [0] {
        section.note("format", "\"cef\" has words for alerts only; use takes = [\"alerts\"]");
    }
    format
}
