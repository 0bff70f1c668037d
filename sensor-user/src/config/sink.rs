//! `[[sink]]`: the keys that all kinds have, and those of each kind. A key that a kind does not ask
//! for is told as one that has no meaning for it.

use super::reader::Section;
use super::sections::{DAY, HOUR, MINUTE, SECOND};
use super::values;
use crate::deliver::{FileConfig, Format, HttpConfig, ParquetConfig, SinkConfig, SinkKind};

/// One `[[sink]]` and the line of its name; `None` where something that it needs is missing or
/// wrong (noted).
pub(super) fn sink(mut section: Section<'_, '_>) -> Option<(SinkConfig, usize)> {
    let line = section.line_of("name");
    let name = section.require("name", "a short unique name", values::name);
    let form = KINDS.map(|kind| format!("{kind:?}")).join(" or ");
    let kind = section.require("kind", &form, |value| values::word(&KINDS, value));
    let kind_name = kind.and_then(|kind| KINDS.get(kind)).copied().unwrap_or_default();
    let kind = sink_kind(&mut section, kind_name);
    let takes = section.read_list("takes", "\"alerts\", \"rows\" and \"health\"", |value| {
        values::word(&["alerts", "rows", "health"], value)
    });
    let takes = takes.unwrap_or_else(|| vec![usize::from(kind_name == "parquet")]);
    if takes.is_empty() {
        section.note("takes", "is empty; use [\"alerts\"], [\"rows\"], [\"health\"] or several");
    } else if kind_name == "readable" && takes != [0] {
        section.note("takes", "only alerts have a readable form; use [\"alerts\"]");
    } else if kind_name == "parquet" && takes != [1] {
        section.note("takes", "only rows have columns of a table; use [\"rows\"]");
    }
    let format = format(&mut section, kind_name, &takes);
    let queue = section.read("queue", values::number(1..=1_000_000_usize));
    let batch = section.read("batch", values::number(1..=10_000_usize));
    let batch_bytes = section.read("batch_bytes", values::size(1 << 10..=64 << 20));
    let batch_bytes = batch_bytes.and_then(|bytes| usize::try_from(bytes).ok());
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
        concurrency: concurrency.unwrap_or(SinkConfig::CONCURRENCY),
    };
    Some((sink, line))
}

/// In whose words, where the kind leaves a choice. `takes` are indices of what it takes.
fn format(section: &mut Section<'_, '_>, kind: &str, takes: &[usize]) -> Format {
    if matches!(kind, "readable" | "parquet") {
        section.refuse_here("format", "has no meaning here; this kind has a form of its own");
        return Format::default();
    }
    let format = section.read("format", |value| values::word(&Format::WORDS, value));
    let format = format.and_then(|index| Format::ALL.get(index)).copied().unwrap_or_default();
    if format == Format::Cef && takes != [0] {
        section.note("format", "\"cef\" has words for alerts only; use takes = [\"alerts\"]");
    }
    format
}

/// All kinds.
const KINDS: [&str; 5] = ["stdout", "readable", "file", "http", "parquet"];

/// Keys of single kinds, and of which.
const OWNED: &[(&str, &[&str])] = &[
    ("path", &["file", "parquet"]),
    ("file_rows", &["parquet"]),
    ("file_age", &["parquet"]),
    ("max_size", &["file", "parquet"]),
    ("max_age", &["file", "parquet"]),
    ("keep", &["file"]),
    ("url", &["http"]),
    ("body", &["http"]),
    ("timeout", &["http"]),
];

/// What only one kind has.
fn sink_kind(section: &mut Section<'_, '_>, kind: &str) -> Option<SinkKind> {
    for &(key, owners) in OWNED {
        if !owners.contains(&kind) {
            let owners: Vec<String> = owners.iter().map(|owner| format!("{owner:?}")).collect();
            section.refuse(key, kind, &owners.join(" or "));
        }
    }
    match kind {
        "stdout" => Some(SinkKind::Stdout),
        "readable" => Some(SinkKind::Readable),
        "file" => file(section).map(SinkKind::File),
        "http" => http(section).map(SinkKind::Http),
        "parquet" => parquet(section).map(SinkKind::Parquet),
        _ => None,
    }
}

fn file(section: &mut Section<'_, '_>) -> Option<FileConfig> {
    let path = section.require("path", "an absolute path in quotes", values::absolute_path);
    let max_bytes = section.read("max_size", values::size(1 << 10..=1 << 50));
    let max_age = section.read("max_age", values::duration(MINUTE..=3650 * DAY));
    let keep = section.read("keep", values::number(1..=1000_u32));
    if section.has("keep") && !section.has("max_size") && !section.has("max_age") {
        section.note("keep", "is of no use alone; set max_size or max_age too");
    }
    path.map(|path| FileConfig { path, max_bytes, max_age, keep: keep.unwrap_or(FileConfig::KEEP) })
}

fn http(section: &mut Section<'_, '_>) -> Option<HttpConfig> {
    let url = section.require("url", "an http: or https: URL", values::http_url);
    let body = section.read("body", |value| values::word(&["array", "lines"], value));
    let timeout = section.read("timeout", values::duration(SECOND..=10 * MINUTE));
    let timeout = timeout.unwrap_or(HttpConfig::TIMEOUT);
    url.map(|url| HttpConfig { url, lines: body == Some(1), timeout })
}

fn parquet(section: &mut Section<'_, '_>) -> Option<ParquetConfig> {
    let folder = section.require("path", "an absolute path in quotes", values::absolute_path);
    let file_rows = section.read("file_rows", values::number(1..=10_000_000_u64));
    let file_age = section.read("file_age", values::duration(SECOND..=DAY));
    let max_bytes = section.read("max_size", values::size(1 << 20..=1 << 50));
    let max_age = section.read("max_age", values::duration(HOUR..=3650 * DAY));
    Some(ParquetConfig {
        folder: folder?,
        file_rows: file_rows.unwrap_or(ParquetConfig::FILE_ROWS),
        file_age: file_age.unwrap_or(ParquetConfig::FILE_AGE),
        max_bytes: max_bytes.unwrap_or(ParquetConfig::MAX_BYTES),
        max_age: max_age.unwrap_or(ParquetConfig::MAX_AGE),
    })
}
