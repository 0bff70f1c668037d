//! The keys of a `[[sink]]` that only some kinds have. A key that a kind does not ask for is told as
//! one that has no meaning for it.

use std::collections::BTreeMap;

use super::base_dirs::BaseDirs;
use super::reader::Section;
use super::remote;
use super::remote::UsualToken;
use super::sections::{DAY, HOUR, MINUTE, SECOND};
use super::{sink_azure, sink_kafka, sink_stream, values};
use crate::deliver::{
    ElasticsearchConfig, FileConfig, HttpConfig, OtlpConfig, ParquetConfig, ServerConfig, SinkKind,
    SplunkConfig,
};
use crate::http::TOKEN_HEADER;

/// All kinds.
pub(super) const KINDS: [&str; 12] = [
    "stdout",
    "console",
    "file",
    "http",
    "parquet",
    "azure",
    "splunk",
    "elasticsearch",
    "otlp",
    "syslog",
    "nats",
    "kafka",
];

/// The kinds that post to a server.
const POSTING: &[&str] = &["http", "azure", "splunk", "elasticsearch", "otlp"];
/// Those that wait for an answer, or for a send, so long.
const TIMED: &[&str] =
    &["http", "azure", "splunk", "elasticsearch", "otlp", "syslog", "nats", "kafka"];
/// Those that post and are told where by `url`.
const AT_URL: &[&str] = &["http", "splunk", "elasticsearch", "otlp"];
/// Those of them to which the agent says who it is as the operator wants.
const LOGGED_IN: &[&str] = &["http", "elasticsearch", "otlp"];

/// Keys of single kinds, and of which.
const OWNED: &[(&str, &[&str])] = &[
    ("path", &["file", "parquet"]),
    ("file_rows", &["parquet"]),
    ("file_age", &["parquet"]),
    ("max_size", &["file", "parquet"]),
    ("max_age", &["file", "parquet"]),
    ("keep", &["file"]),
    ("url", AT_URL),
    ("body", &["http"]),
    ("timeout", TIMED),
    ("compress", POSTING),
    ("token", AT_URL),
    ("index", &["splunk"]),
    ("source", &["splunk"]),
    ("sourcetype", &["splunk"]),
    ("acknowledge", &["splunk"]),
    ("ack_timeout", &["splunk"]),
    ("alerts_index", &["elasticsearch"]),
    ("rows_index", &["elasticsearch"]),
    ("health_index", &["elasticsearch"]),
    ("service_name", &["otlp"]),
    ("address", &["syslog"]),
    ("tls", &["syslog", "nats", "kafka"]),
    ("servers", &["nats", "kafka"]),
    ("alerts_topic", &["kafka"]),
    ("rows_topic", &["kafka"]),
    ("health_topic", &["kafka"]),
    ("properties", &["kafka"]),
    ("user", &["nats", "kafka"]),
    ("password", &["nats", "kafka"]),
    ("sasl_mechanism", &["kafka"]),
    ("token", &["nats"]),
    ("nkey", &["nats"]),
    ("credentials", &["nats"]),
    ("subject_prefix", &["nats"]),
    ("site", &["nats"]),
    ("create_stream", &["nats"]),
    ("stream", &["nats"]),
    ("server_name", &["syslog"]),
    ("framing", &["syslog"]),
    ("facility", &["syslog"]),
    ("app_name", &["syslog"]),
    ("hostname", &["syslog"]),
    ("sd_id", &["syslog"]),
];

/// The keys of a login but for `token`, which Splunk has too.
const LOGIN: [&str; 4] = ["user", "password", "token_header", "token_scheme"];

/// Keys of several kinds that belong together, and of which.
const SHARED: &[(&[&str], &[&str])] = &[
    (&LOGIN, LOGGED_IN),
    (&remote::WAY, POSTING),
    (&remote::CERTIFICATES, &["syslog", "nats", "kafka"]),
    (&sink_azure::KEYS, &["azure"]),
];

/// What only one kind has.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    kind: &str,
    place: BaseDirs<'_>,
) -> Option<SinkKind> {
    for (key, owners) in owners() {
        if !owners.contains(&kind) {
            let owners: Vec<String> = owners.iter().map(|owner| format!("{owner:?}")).collect();
            section.refuse(key, kind, &owners.join(" or "));
        }
    }
    match kind {
        "stdout" => Some(SinkKind::Stdout),
        "console" => Some(SinkKind::Console),
        "file" => file(section).map(SinkKind::File),
        "http" => http(section, place).map(SinkKind::Http),
        "kafka" => sink_kafka::kafka(section, place).map(SinkKind::Kafka),
        "nats" => sink_stream::nats(section, place).map(SinkKind::Nats),
        "azure" => {
            let server = server(section, (TOKEN_HEADER, "Bearer"), true, place);
            let config = sink_azure::read(section, server, place)?;
            Some(SinkKind::Azure(Box::new(config)))
        }
        "splunk" => splunk(section, place).map(|config| SinkKind::Splunk(Box::new(config))),
        "elasticsearch" => {
            elasticsearch(section, place).map(|config| SinkKind::Elasticsearch(Box::new(config)))
        }
        "otlp" => otlp(section, place).map(|config| SinkKind::Otlp(Box::new(config))),
        "syslog" => sink_stream::syslog(section).map(SinkKind::Syslog),
        "parquet" => parquet(section).map(SinkKind::Parquet),
        _ => None,
    }
}

/// Each key of some kinds only, once, with all of these.
fn owners() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for (key, owners) in owned() {
        all.entry(key).or_default().extend(owners);
    }
    all
}

/// Keys of some kinds only, with these.
fn owned() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let shared =
        SHARED.iter().flat_map(|(keys, owners)| keys.iter().map(move |key| (*key, *owners)));
    OWNED.iter().copied().chain(shared)
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

/// The keys of every kind that posts to a server.
fn server(
    section: &mut Section<'_, '_>,
    usual: UsualToken,
    compress: bool,
    place: BaseDirs<'_>,
) -> ServerConfig {
    let timeout = section.read("timeout", values::duration(SECOND..=10 * MINUTE));
    let asked = section.read("compress", values::boolean);
    ServerConfig {
        access: remote::access(section, usual, place),
        timeout: timeout.unwrap_or(ServerConfig::TIMEOUT),
        compress: asked.unwrap_or(compress),
    }
}

fn http(section: &mut Section<'_, '_>, place: BaseDirs<'_>) -> Option<HttpConfig> {
    let url = section.require("url", "an http: or https: URL", values::http_url);
    let body = section.read("body", |value| values::word(&["array", "lines"], value));
    let server = server(section, (TOKEN_HEADER, "Bearer"), false, place);
    url.map(|url| HttpConfig { url, lines: body == Some(1), server: Box::new(server) })
}

fn splunk(section: &mut Section<'_, '_>, place: BaseDirs<'_>) -> Option<SplunkConfig> {
    let url = section.require("url", "the http: or https: URL of the collector", values::http_url);
    if !section.has("token") {
        let form = "{ file = \"/path\" } or { credential = \"NAME\" }";
        section.note("token", &format!("is missing; set it to {form}"));
    }
    let index = section.read("index", values::text);
    let source = section.read("source", values::text);
    let sourcetype = section.read("sourcetype", values::text);
    let acknowledge = section.read("acknowledge", values::boolean).unwrap_or(false);
    let limit = section.read("ack_timeout", values::duration(SECOND..=HOUR));
    if !acknowledge {
        section.refuse_here("ack_timeout", "is of no use without acknowledge = true");
    }
    let server = server(section, (TOKEN_HEADER, "Splunk"), true, place);
    Some(SplunkConfig {
        url: url?,
        index,
        source: source.unwrap_or_else(|| SplunkConfig::SOURCE.to_owned()),
        sourcetype,
        acknowledge: acknowledge.then(|| limit.unwrap_or(SplunkConfig::ACK_TIMEOUT)),
        server,
    })
}

fn elasticsearch(
    section: &mut Section<'_, '_>,
    place: BaseDirs<'_>,
) -> Option<ElasticsearchConfig> {
    let url = section.require("url", "the http: or https: URL of the server", values::http_url);
    let mut index = |key, usual: &str| {
        let named = section.read(key, values::path_word);
        named.unwrap_or_else(|| usual.to_owned())
    };
    let alerts_index = index("alerts_index", ElasticsearchConfig::ALERTS_INDEX);
    let rows_index = index("rows_index", ElasticsearchConfig::ROWS_INDEX);
    let health_index = index("health_index", ElasticsearchConfig::HEALTH_INDEX);
    let server = server(section, (TOKEN_HEADER, "ApiKey"), true, place);
    Some(ElasticsearchConfig { url: url?, alerts_index, rows_index, health_index, server })
}

fn otlp(section: &mut Section<'_, '_>, place: BaseDirs<'_>) -> Option<OtlpConfig> {
    let url = section.require("url", "the http: or https: URL of the server", values::http_url);
    let service_name = section.read("service_name", values::text);
    let server = server(section, (TOKEN_HEADER, "Bearer"), true, place);
    let usual = || OtlpConfig::SERVICE_NAME.to_owned();
    Some(OtlpConfig { url: url?, service_name: service_name.unwrap_or_else(usual), server })
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
