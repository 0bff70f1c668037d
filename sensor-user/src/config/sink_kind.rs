//! The keys of a `[[sink]]` that only some kinds have. A key that a kind does not ask for is told as
//! one that has no meaning for it.

use std::collections::BTreeMap;

use super::environment::Place;
use super::reader::Section;
use super::remote::{self, UsualToken};
use super::sections::{DAY, HOUR, MINUTE, SECOND};
use super::{sink_stream, values};
use crate::deliver::{FileConfig, HttpConfig, ParquetConfig, ServerConfig, SinkKind};
use crate::web::TOKEN_HEADER;

/// All kinds.
pub(super) const KINDS: [&str; 7] =
    ["stdout", "readable", "file", "http", "syslog", "nats", "parquet"];

/// The kinds that post to a server.
const POSTING: &[&str] = &["http"];

/// Keys of single kinds, and of which; the first kind has the key that an example shows.
const OWNED: &[(&str, &[&str])] = &[
    ("path", &["file", "parquet"]),
    ("file_rows", &["parquet"]),
    ("file_age", &["parquet"]),
    ("max_size", &["file", "parquet"]),
    ("max_age", &["file", "parquet"]),
    ("keep", &["file"]),
    ("url", POSTING),
    ("body", &["http"]),
    ("timeout", POSTING),
    ("compress", POSTING),
    ("timeout", &["syslog", "nats"]),
    ("address", &["syslog"]),
    ("tls", &["syslog", "nats"]),
    ("servers", &["nats"]),
    ("user", &["nats"]),
    ("password", &["nats"]),
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

/// Keys of several kinds that belong together, and of which.
const SHARED: &[(&[&str], &[&str])] = &[
    (&remote::LOGIN, POSTING),
    (&remote::WAY, POSTING),
    (&remote::CERTIFICATES, &["syslog", "nats"]),
];

/// What only one kind has.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    kind: &str,
    place: Place<'_>,
) -> Option<SinkKind> {
    for (key, owners) in owners() {
        if !owners.contains(&kind) {
            let owners: Vec<String> = owners.iter().map(|owner| format!("{owner:?}")).collect();
            section.refuse(key, kind, &owners.join(" or "));
        }
    }
    match kind {
        "stdout" => Some(SinkKind::Stdout),
        "readable" => Some(SinkKind::Readable),
        "file" => file(section).map(SinkKind::File),
        "http" => http(section, place).map(SinkKind::Http),
        "nats" => sink_stream::nats(section, place).map(SinkKind::Nats),
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
    place: Place<'_>,
) -> ServerConfig {
    let timeout = section.read("timeout", values::duration(SECOND..=10 * MINUTE));
    let asked = section.read("compress", values::boolean);
    ServerConfig {
        access: remote::access(section, usual, place),
        timeout: timeout.unwrap_or(ServerConfig::TIMEOUT),
        compress: asked.unwrap_or(compress),
    }
}

fn http(section: &mut Section<'_, '_>, place: Place<'_>) -> Option<HttpConfig> {
    let url = section.require("url", "an http: or https: URL", values::http_url);
    let body = section.read("body", |value| values::word(&["array", "lines"], value));
    let server = server(section, (TOKEN_HEADER, "Bearer"), false, place);
    url.map(|url| HttpConfig { url, lines: body == Some(1), server })
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
