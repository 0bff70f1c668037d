//! Effective configuration as text, for `netsensor check-config`.

use std::fmt::Write as _;

use crate::base::escape::escaped;
use crate::config::{Config, values};
use crate::deliver::spool::SpoolConfig;
use crate::deliver::{
    AzureLogin, FileConfig, Format, LogsIngestionConfig, NatsLogin, ServerConfig, SinkConfig,
    SinkKind,
};
use crate::http::{Access, HeaderText, Login, Proxy, redacted_url};
use crate::intel::{FeedConfig, FeedQuery, FeedSource};
use crate::inventory::ImdsMode;
use crate::pipeline::history::HistoryConfig;
use crate::telemetry::log::LogTarget;
use crate::telemetry::metrics::{Listen, MetricsConfig};

/// The configuration as text: a line per subject, in the order of the data path.
pub fn describe(config: &Config) -> String {
    let mut out = String::new();
    let mut line = |label: &str, text: String| {
        let _infallible = writeln!(out, "{label:<12}{text}");
    };
    line("state", config.agent.state_dir.display().to_string());
    let computer = config.agent.computer.as_deref().unwrap_or("this host's name");
    line("control", config.agent.control_socket().display().to_string());
    line("computer", escaped(computer, 255));
    line("log", format!("{}, to {}", config.agent.log, log_target(config.log_target)));
    if !config.agent.confine {
        line("confine", "off".to_owned());
    }
    let object = config.capture.object.as_ref();
    let object = object.map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
    let btf = config.capture.btf.as_ref();
    let btf = btf.map_or_else(|| "the kernel's".to_owned(), |path| path.display().to_string());
    let ring = values::size_text(config.capture.ring_bytes.into());
    let conntrack = if config.capture.conntrack { "on" } else { "off" };
    line("capture", format!("ring {ring}, object {object}, types {btf}, conntrack {conntrack}"));
    let every = humantime::format_duration(config.capture.scan_interval);
    line("scan", format!("open sockets at start and every {every}"));
    let idle = humantime::format_duration(config.capture.udp_idle);
    line("udp", format!("{} flows at most, ended after {idle} idle", config.capture.udp_flows));
    for program in &config.capture.disable {
        line("disable", program.clone());
    }
    line(
        "tables",
        format!(
            "{} connections, {} processes at most",
            config.max_connections, config.max_processes
        ),
    );
    line("names", format!("{} at most", config.max_names));
    if let Some(database) = &config.geo {
        line("geo", database.display().to_string());
    }
    if config.rows.enabled {
        let max_keys = config.rows.max_keys_per_minute;
        line("rows", format!("on, {max_keys} keys a minute at most"));
    } else {
        line("rows", "off".to_owned());
    }
    line("history", history(config.history.as_ref()));
    let every = humantime::format_duration(config.health.canary_interval);
    line("canary", format!("every {every}"));
    line("metrics", metrics(config.metrics.as_ref()));
    let imds = match config.azure.imds {
        ImdsMode::Auto => "queried on virtual machines of Azure",
        ImdsMode::On => "queried",
        ImdsMode::Off => "not queried",
    };
    line("azure", format!("instance metadata {imds}"));
    for each in &config.feeds {
        line("feed", feed(each));
    }
    if config.feeds.is_empty() {
        line("feed", "none: nothing will alert".to_owned());
    }
    for network in &config.allow.networks {
        line("allow", network.to_string());
    }
    for path in &config.allow.files {
        line("allow", format!("networks in file {}", path.display()));
    }
    let window = humantime::format_duration(config.dedup.window);
    line("dedup", format!("window {window}, {} keys at most", config.dedup.max_keys));
    line("spool", spool(&config.spool));
    for each in &config.sinks {
        line("sink", sink(each));
    }
    out
}

fn history(history: Option<&HistoryConfig>) -> String {
    let Some(history) = history else {
        return "off: indicators match no earlier connection".to_owned();
    };
    let lookback = humantime::format_duration(history.lookback.unsigned_abs());
    let (entries, size) = (history.max_entries, values::size_text(history.max_bytes));
    format!("of {lookback}, {entries} kinds of connections and {size} at most")
}

fn metrics(metrics: Option<&MetricsConfig>) -> String {
    let Some(metrics) = metrics else { return "off".to_owned() };
    let group = metrics.group.as_ref().map(|group| format!(", for group {}", escaped(group, 64)));
    match &metrics.listen {
        Listen::Unix(path) => format!("on {}{}", path.display(), group.unwrap_or_default()),
        Listen::Loopback(address) => format!("on {address}"),
    }
}

fn feed(feed: &FeedConfig) -> String {
    let kind = feed.kind.name();
    let source = match &feed.source {
        FeedSource::File(path) => format!("file {}", path.display()),
        FeedSource::Http(_) => feed.source.shown(),
        FeedSource::Embedded(_) => "the built-in example".to_owned(),
    };
    let interval = humantime::format_duration(feed.interval);
    let mut text = format!("{}: {kind}, {source}, every {interval}", feed.name);
    let mut add = |more: String| {
        text.push_str(", ");
        text.push_str(&escaped(&more, 200));
    };
    if let Some(min) = feed.min_confidence {
        add(format!("confidence {min} or more"));
    }
    if !feed.quarantine {
        add("never quarantined".to_owned());
    }
    feed_query(&feed.query, &mut add);
    server_access(&feed.access, &mut add);
    text
}

/// Requested part of a feed, if not the whole feed.
fn feed_query(query: &FeedQuery, add: &mut impl FnMut(String)) {
    match query {
        FeedQuery::Document => {}
        FeedQuery::Taxii(query) if query.collections.is_empty() => {
            add("all collections".to_owned());
        }
        FeedQuery::Taxii(query) => add(format!("collections {}", query.collections.join(" "))),
        FeedQuery::Misp(query) => {
            add(format!("types {}", query.types.join(" ")));
            for (name, value) in &query.filter {
                add(format!("{name} {value}"));
            }
        }
        FeedQuery::CrowdSec(query) => {
            for (name, words) in [("scopes", &query.scopes), ("origins", &query.origins)] {
                if !words.is_empty() {
                    add(format!("{name} {}", words.join(" ")));
                }
            }
        }
        FeedQuery::Sentinel(query) => {
            add(format!("workspace {}", query.workspace));
            add(format!("client {} with the secret in {}", query.client_id, query.client_secret));
        }
    }
}

/// Credentials, headers, certificates and proxy of a server; secrets by their location.
fn server_access(access: &Access, add: &mut impl FnMut(String)) {
    match &access.login {
        Login::None => {}
        Login::Basic { user, password } => {
            add(format!("user {user} with the password in {password}"));
        }
        Login::Token { header, token, .. } => add(format!("{header} with the token in {token}")),
    }
    for (name, value) in &access.headers {
        match value {
            HeaderText::Plain(text) => add(format!("{name} {text}")),
            HeaderText::Secret(secret) => add(format!("{name} from {secret}")),
        }
    }
    if let Some(certificate) = &access.certificate {
        add(format!("certificate {}", certificate.chain.display()));
    }
    if let Some(path) = &access.ca_file {
        add(format!("authorities {}", path.display()));
    }
    match &access.proxy {
        Proxy::Environment => {}
        Proxy::None => add("no proxy".to_owned()),
        Proxy::Url { url, login: None } => add(format!("proxy {url}")),
        Proxy::Url { url, login: Some((user, secret)) } => {
            add(format!("proxy {url} as {user} with the password in {secret}"));
        }
    }
}

/// Items that are sent by HTTP POST, with the URL and the access to the server.
fn http_post(form: &str, url: &reqwest::Url, server: &ServerConfig) -> String {
    let mut text = format!("{form} to {}", redacted_url(url));
    let mut add = |more: String| {
        text.push_str(", ");
        text.push_str(&escaped(&more, 200));
    };
    if server.compress {
        add("gzipped".to_owned());
    }
    server_access(&server.access, &mut add);
    text
}

fn spool(spool: &SpoolConfig) -> String {
    let size = values::size_text(spool.max_bytes);
    let age = humantime::format_duration(spool.max_age);
    format!("{size} and {age} on disk, {} alerts in memory at most", spool.queue)
}

fn sink(sink: &SinkConfig) -> String {
    let destination = match &sink.kind {
        SinkKind::Stdout => "JSON lines on standard output".to_owned(),
        SinkKind::Console => "text lines on standard error".to_owned(),
        SinkKind::File(file) => format!("lines to file {}{}", file.path.display(), rotation(file)),
        SinkKind::Kafka(kafka) => {
            let topics = [&kafka.alerts_topic, &kafka.rows_topic, &kafka.health_topic];
            let topics = topics.map(|topic| escaped(topic, 64)).join(", ");
            let servers = escaped(&kafka.servers.join(" "), 255);
            let transport = if kafka.tls.is_some() { " over TLS" } else { "" };
            let login = kafka.login.as_ref().map(|login| {
                let (user, password) = (escaped(&login.user, 64), &login.password);
                format!(" as {user} with the password in {password}")
            });
            let login = login.unwrap_or_default();
            format!("messages to topics {topics} of kafka at {servers}{transport}{login}")
        }
        SinkKind::Nats(nats) => {
            let subjects = format!("{}.*.{}", nats.prefix, nats.site);
            let servers = escaped(&nats.servers.join(" "), 255);
            format!(
                "messages on {} to nats at {servers}{}",
                escaped(&subjects, 255),
                nats_login(&nats.login)
            )
        }
        SinkKind::Syslog(syslog) => {
            let transport = if syslog.tls.is_some() { "TLS" } else { "TCP" };
            format!("syslog over {transport} to {}", escaped(&syslog.address, 255))
        }
        SinkKind::Parquet(parquet) => format!("Parquet files in {}", parquet.folder.display()),
        SinkKind::Http(http) => {
            let form = if http.lines { "JSON lines" } else { "JSON arrays" };
            http_post(form, &http.url, &http.server)
        }
        SinkKind::Azure(config) => azure(config),
        SinkKind::Splunk(splunk) => {
            let index = splunk.index.as_deref().unwrap_or("the token's");
            let acknowledged = if splunk.acknowledge.is_some() { "acknowledged " } else { "" };
            let form = format!("{acknowledged}events of Splunk's index {}", escaped(index, 100));
            http_post(&form, &splunk.url, &splunk.server)
        }
        SinkKind::Elasticsearch(elastic) => {
            http_post("documents of Elasticsearch", &elastic.url, &elastic.server)
        }
        SinkKind::Otlp(otlp) => http_post("log records of OpenTelemetry", &otlp.url, &otlp.server),
    };
    let takes = [("alerts", sink.alerts), ("rows", sink.rows), ("health", sink.health)];
    let takes: Vec<&str> =
        takes.iter().filter(|(_, takes)| *takes).map(|(word, _)| *word).collect();
    let takes = takes.join(" and ");
    let format = match sink.format {
        Format::Native => String::new(),
        other => format!(" in format {}", other.as_str()),
    };
    format!("{}: {takes} as {destination}{format}, {} waiting at most", sink.name, sink.queue)
}

fn azure(azure: &LogsIngestionConfig) -> String {
    let form = format!("records of rule {} of Azure Monitor", azure.dcr);
    let login = match &azure.login {
        AzureLogin::Application { client_id, client_secret, .. } => {
            format!("client {client_id} with the secret in {client_secret}")
        }
        AzureLogin::ManagedIdentity { client_id: Some(client_id), .. } => {
            format!("managed identity {client_id}")
        }
        AzureLogin::ManagedIdentity { client_id: None, .. } => "managed identity".to_owned(),
    };
    let destination = http_post(&form, &azure.endpoint, &azure.server);
    format!("{destination}, {}", escaped(&login, 200))
}

/// Limits at which a file is rotated, and the number of retained files.
fn rotation(file: &FileConfig) -> String {
    let size = file.max_bytes.map(|bytes| format!("with {}", values::size_text(bytes)));
    let age = file.max_age.map(|age| format!("after {}", humantime::format_duration(age)));
    let when: Vec<String> = size.into_iter().chain(age).collect();
    if when.is_empty() {
        return String::new();
    }
    format!(", rotated {}, {} kept", when.join(" or "), file.keep)
}

fn log_target(target: LogTarget) -> &'static str {
    match target {
        LogTarget::Auto => "the journal if standard error is connected to it, else standard error",
        LogTarget::Stderr => "standard error",
        LogTarget::Journald => "the journal",
    }
}

/// Login of a NATS client; a secret by its location.
fn nats_login(login: &NatsLogin) -> String {
    match login {
        NatsLogin::None => String::new(),
        NatsLogin::Password { user, password } => {
            format!(" as {} with the password in {password}", escaped(user, 64))
        }
        NatsLogin::Token(secret) => format!(" with the token in {secret}"),
        NatsLogin::Nkey(secret) => format!(" with the nkey in {secret}"),
        NatsLogin::Credentials(secret) => format!(" with the credentials in {secret}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::environment::Environment;

    #[test]
    fn secrets_are_described_by_their_location() {
        let text = "[[feed]]\nname = 'a'\nkind = 'taxii2'\nurl = 'https://h/t?k=hunter2'\nuser = 'u'\npassword = { file = '/p' }\nproxy = 'none'";
        let environment = Environment { home: Some("/h".into()), ..Environment::default() };
        let config = Config::parse(text, Path::new("/etc/n.toml"), &environment).unwrap();
        let text = describe(&config);
        assert!(text.contains("a: taxii2, https://h/t?…, every 1h, all collections, user u with the password in file /p, no proxy\n"), "{text}");
    }
}
