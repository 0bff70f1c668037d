//! The kinds of `[[sink]]`, and the keys of those that write files.

use super::form::{DAY, HOUR, MINUTE, SECOND, duration, number, size};
use super::key::keys;
use super::location::absolute_path;
use super::section::Section;
use super::{sink_azure, sink_http, sink_stream};
use crate::deliver::{FileConfig, ParquetConfig, SinkKind};

/// Reads the keys of a kind; returns `None` if one that it needs is missing or invalid.
type ReadKind = fn(&mut Section<'_, '_>) -> Option<SinkKind>;

/// The values of `sink.kind`.
pub(super) const KINDS: [(&str, ReadKind); 12] = [
    ("stdout", |_| Some(SinkKind::Stdout)),
    ("console", |_| Some(SinkKind::Console)),
    ("file", |section| file(section).map(SinkKind::File)),
    ("http", |section| sink_http::http(section).map(SinkKind::Http)),
    ("parquet", |section| parquet(section).map(SinkKind::Parquet)),
    ("azure", |section| sink_azure::azure(section).map(Box::new).map(SinkKind::Azure)),
    ("splunk", |section| sink_http::splunk(section).map(Box::new).map(SinkKind::Splunk)),
    ("elasticsearch", |section| {
        sink_http::elasticsearch(section).map(Box::new).map(SinkKind::Elasticsearch)
    }),
    ("otlp", |section| sink_http::otlp(section).map(Box::new).map(SinkKind::Otlp)),
    ("syslog", |section| sink_stream::syslog(section).map(SinkKind::Syslog)),
    ("nats", |section| sink_stream::nats(section).map(SinkKind::Nats)),
    ("kafka", |section| sink_stream::kafka(section).map(SinkKind::Kafka)),
];

fn file(section: &mut Section<'_, '_>) -> Option<FileConfig> {
    keys! { section, "sink file", RELOAD;
        /// Absolute path of the file. It is created with mode 0600, and can be rotated by
        /// renaming it, or by `max_size` and `max_age`. A batch of alerts is synced to
        /// disk (`fdatasync`) before it counts as delivered.
        path: absolute_path() => required("an absolute path in quotes");
        /// The file is rotated before it exceeds this size.
        max_size: size(1 << 10..=1 << 50) => optional("no limit");
        /// The file is rotated before a write if it is older than this.
        max_age: duration(MINUTE..=3650 * DAY) => optional("no limit");
        /// Number of rotated files that are retained, `PATH.1` (the latest) to
        /// `PATH.KEEP`. Rotations and deletions are counted (`files_rotated`,
        /// `rotated_files_deleted`).
        keep: number(1..=1000) => default(FileConfig::KEEP);
    }
    if !section.has("max_size") && !section.has("max_age") {
        section.refuse(&["keep"], "is of no use alone; set max_size or max_age too");
    }
    Some(FileConfig { path: path?, max_bytes: max_size, max_age, keep })
}

fn parquet(section: &mut Section<'_, '_>) -> Option<ParquetConfig> {
    keys! { section, "sink parquet", RELOAD;
        /// Absolute path of a directory for the files, used by this sink only, created
        /// with mode 0700.
        path: absolute_path() => required("an absolute path in quotes");
        /// Maximum number of rows in a file.
        file_rows: number(1..=10_000_000) => default(ParquetConfig::FILE_ROWS);
        /// Maximum time from the first row of a file until it is written.
        file_age: duration(SECOND..=DAY) => default(ParquetConfig::FILE_AGE);
        /// When the files exceed this size together, the oldest are deleted.
        max_size: size(1 << 20..=1 << 50) => default(ParquetConfig::MAX_BYTES);
        /// Files whose first row is older are deleted.
        max_age: duration(HOUR..=3650 * DAY) => default(ParquetConfig::MAX_AGE);
    }
    Some(ParquetConfig { folder: path?, file_rows, file_age, max_bytes: max_size, max_age })
}
