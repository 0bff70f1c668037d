//! The kinds of `[[sink]]`, and the keys of those that write files or send HTTP POST requests.

use super::access::{TokenHeader, access, login};
use super::form::{
    self, DAY, HOUR, MINUTE, SECOND, absolute_path, boolean, choice, duration, number, path_word,
    secret, size, text,
};
use super::key::keys;
use super::section::Section;
use super::{sink_azure, sink_stream};
use crate::deliver::{
    ElasticsearchConfig, FileConfig, HttpConfig, OtlpConfig, ParquetConfig, ServerConfig, SinkKind,
    SplunkConfig,
};
use crate::http::{Login, TOKEN_HEADER};

/// Reads the keys of a kind; returns `None` if one that it needs is missing or invalid.
type ReadKind = fn(&mut Section<'_, '_>) -> Option<SinkKind>;

/// The values of `sink.kind`.
pub(super) const KINDS: [(&str, ReadKind); 12] = [
    ("stdout", |_| Some(SinkKind::Stdout)),
    ("console", |_| Some(SinkKind::Console)),
    ("file", |section| file(section).map(SinkKind::File)),
    ("http", |section| http(section).map(SinkKind::Http)),
    ("parquet", |section| parquet(section).map(SinkKind::Parquet)),
    ("azure", |section| sink_azure::azure(section).map(Box::new).map(SinkKind::Azure)),
    ("splunk", |section| splunk(section).map(Box::new).map(SinkKind::Splunk)),
    ("elasticsearch", |section| elasticsearch(section).map(Box::new).map(SinkKind::Elasticsearch)),
    ("otlp", |section| otlp(section).map(Box::new).map(SinkKind::Otlp)),
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

/// Keys of the kinds that send HTTP POST requests.
pub(super) fn server(section: &mut Section<'_, '_>, login: Login, compress: bool) -> ServerConfig {
    keys! { section, "sink server", RELOAD;
        /// Limit of one request.
        timeout: timeout() => default(ServerConfig::TIMEOUT);
        /// Compresses bodies with gzip.
        compress: boolean() => default(compress);
    }
    ServerConfig { access: access(section, "sink server", "sink tls", login), timeout, compress }
}

/// Limit of a request or of a send.
pub(super) fn timeout() -> form::Form<std::time::Duration> {
    duration(SECOND..=10 * MINUTE)
}

/// The key `url`.
fn url(section: &mut Section<'_, '_>) -> Option<reqwest::Url> {
    keys! { section, "sink server", RELOAD;
        /// `http:` or `https:`. Redirects are not followed: they would send alerts to an
        /// address that is not configured.
        url: form::http_url() => required("an http: or https: URL");
    }
    url
}

fn http(section: &mut Section<'_, '_>) -> Option<HttpConfig> {
    let url = url(section);
    keys! { section, "sink server", RELOAD;
        /// `"array"`: `application/json`, one array. `"lines"`: `application/x-ndjson`.
        body: choice(&[("array", false), ("lines", true)]) => default(false);
    }
    let login = login(section, "sink server", TokenHeader::authorization("Bearer"));
    let server = server(section, login, false);
    Some(HttpConfig { url: url?, lines: body, server: Box::new(server) })
}

fn splunk(section: &mut Section<'_, '_>) -> Option<SplunkConfig> {
    let url = url(section);
    keys! { section, "sink server", RELOAD;
        /// Token of the collector.
        token: secret() => required(form::SECRET);
    }
    keys! { section, "sink splunk", RELOAD;
        /// Index of the events.
        index: text() => optional("that of the token");
        /// `source` of the events.
        source: text() => default(SplunkConfig::SOURCE.to_owned());
        /// `sourcetype` of the events; by default it depends on the type of the item.
        sourcetype: text() => optional("`netsensor:alert`, `netsensor:vmconnection`, …");
        /// Counts a batch as delivered only when the indexer acknowledges it. Enable
        /// indexer acknowledgement for the token too.
        acknowledge: boolean() => default(false);
        /// Limit of the wait for an acknowledgement; then the batch is sent again, and may
        /// be indexed twice.
        ack_timeout: duration(SECOND..=HOUR) => default(SplunkConfig::ACK_TIMEOUT);
    }
    if !acknowledge {
        section.refuse(&["ack_timeout"], "is of no use without acknowledge = true");
    }
    let scheme = "Splunk".to_owned();
    let header = TOKEN_HEADER.to_owned();
    let login = token.map_or(Login::None, |token| Login::Token { header, scheme, token });
    Some(SplunkConfig {
        server: server(section, login, true),
        url: url?,
        index,
        source,
        sourcetype,
        acknowledge: acknowledge.then_some(ack_timeout),
    })
}

fn elasticsearch(section: &mut Section<'_, '_>) -> Option<ElasticsearchConfig> {
    let url = url(section);
    keys! { section, "sink elasticsearch", RELOAD;
        /// Index or data stream of alerts.
        alerts_index: path_word() => default(ElasticsearchConfig::ALERTS_INDEX.to_owned());
        /// Index or data stream of rows.
        rows_index: path_word() => default(ElasticsearchConfig::ROWS_INDEX.to_owned());
        /// Index or data stream of the agent's health lines.
        health_index: path_word() => default(ElasticsearchConfig::HEALTH_INDEX.to_owned());
    }
    let login = login(section, "sink server", TokenHeader::authorization("ApiKey"));
    let server = server(section, login, true);
    Some(ElasticsearchConfig { url: url?, alerts_index, rows_index, health_index, server })
}

fn otlp(section: &mut Section<'_, '_>) -> Option<OtlpConfig> {
    let url = url(section);
    keys! { section, "sink otlp", RELOAD;
        /// `service.name` of the resource.
        service_name: text() => default(OtlpConfig::SERVICE_NAME.to_owned());
    }
    let login = login(section, "sink server", TokenHeader::authorization("Bearer"));
    let server = server(section, login, true);
    Some(OtlpConfig { url: url?, service_name, server })
}
