//! Config: what the agent is told to do. `Config` cannot be wrong: text is checked, defaulted and
//! typed here, once, and every problem is `path:line: section.key: what is wrong; what to use`.

mod base_dirs;
mod error;
mod feed;
mod feed_kind;
mod file;
mod kind;
mod metrics;
mod model;
mod reader;
mod remote;
mod retired;
mod sections;
mod sink;
mod sink_azure;
mod sink_kafka;
mod sink_kind;
mod sink_stream;
mod source;
pub mod values;

pub use error::ConfigError;
pub use file::SERVICE_FILE;
pub use model::{AgentConfig, AllowConfig, Config, DedupConfig, HealthConfig, RowsConfig};
pub use reader::Problem;
pub use source::Source;

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::base::environment::Environment;
use crate::deliver::{SinkConfig, SinkKind};
use crate::intel::{FeedConfig, FeedKind, FeedSource};
use base_dirs::BaseDirs;
use reader::{Problems, Section};

impl Config {
    /// Checks `text`, which stands (or would stand) at `path`.
    pub fn parse(text: &str, path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let mut problems = Problems::new(text);
        let config = match DeTable::parse(text) {
            Ok(document) => {
                let folder = path.parent().unwrap_or_else(|| Path::new(""));
                let credentials = environment.credentials_directory.as_ref().map(Path::new);
                let place = BaseDirs { folder, credentials };
                Some(document_config(document.get_ref(), place, &mut problems))
            }
            Err(error) => {
                let line = problems.line(&error.span().unwrap_or_default());
                let message = error.message().replace('\n', ", ");
                problems.note(line, format!("not TOML: {message}"));
                None
            }
        };
        let problems = problems.into_list();
        let Some((state_dir, mut config)) = config.filter(|_| problems.is_empty()) else {
            return Err(ConfigError::Invalid { path: path.to_owned(), problems });
        };
        config.agent.state_dir = match state_dir {
            Some(state_dir) => state_dir,
            None => environment.state_dir().ok_or(ConfigError::NoStateDir)?,
        };
        Ok(config)
    }

    /// What the agent does without a file: the example indicators, alerts as JSON lines on
    /// standard output and as text lines on standard error.
    pub fn embedded(state_dir: PathBuf) -> Self {
        let mut problems = Problems::new("");
        let (_, mut config) = document_config(&DeTable::new(), BaseDirs::default(), &mut problems);
        config.agent.state_dir = state_dir;
        let source = FeedSource::Embedded(EXAMPLE_INDICATORS);
        config.feeds.push(FeedConfig::new("example".to_owned(), FeedKind::List, source));
        config.sinks.push(SinkConfig::new("console".to_owned(), SinkKind::Console));
        config
    }
}

/// The small list of documentation addresses that an agent without configuration matches.
pub const EXAMPLE_INDICATORS: &str = include_str!("../../../examples/indicators.txt");

/// The state directory as configured, and all the rest (its `state_dir` is still empty).
fn document_config<'t>(
    document: &DeTable<'t>,
    place: BaseDirs<'_>,
    problems: &mut Problems<'t>,
) -> (Option<PathBuf>, Config) {
    for (key, _) in document {
        let name = key.get_ref().as_ref();
        if !sections::ALL.contains(&name) {
            let hint = reader::hint(name, &sections::ALL);
            problems.note(problems.line(&key.span()), format!("unknown section {name:?}; {hint}"));
        }
    }
    let (state_dir, agent) = sections::agent(single(document, "agent", problems));
    let mut config = Config {
        agent,
        log_target: sections::log(single(document, "log", problems)),
        capture: sections::capture(single(document, "capture", problems)),
        feeds: Vec::new(),
        allow: sections::allow(single(document, "allow", problems)),
        dedup: sections::dedup(single(document, "dedup", problems)),
        rows: sections::rows(single(document, "rows", problems)),
        history: sections::history(single(document, "history", problems)),
        health: sections::health(single(document, "health", problems)),
        metrics: metrics::metrics(single(document, "metrics", problems)),
        azure: sections::azure(single(document, "azure", problems)),
        max_connections: sections::most(single(document, "connections", problems), 262_144),
        max_processes: sections::most(single(document, "processes", problems), 131_072),
        max_names: sections::names(single(document, "names", problems)),
        geo: sections::geo(single(document, "geo", problems)),
        spool: sections::spool(single(document, "spool", problems)),
        sinks: Vec::new(),
    };
    let feeds = many(document, "feed", problems, |section| feed::feed(section, place));
    let names = feeds.iter().map(|(feed, line)| (feed.name.as_str(), *line)).collect();
    unique("feed", names, problems);
    config.feeds = feeds.into_iter().map(|(feed, _)| feed).collect();
    if let Some(history) = &mut config.history {
        history.private = config.feeds.iter().any(|feed| feed.allow_private);
    }
    let sinks = many(document, "sink", problems, |section| sink::sink(section, place));
    let names = sinks.iter().map(|(sink, line)| (sink.name.as_str(), *line)).collect();
    unique("sink", names, problems);
    config.sinks = sinks.into_iter().map(|(sink, _)| sink).collect();
    for sink in &mut config.sinks {
        sink.set_imds_url(config.azure.imds_url.as_ref());
    }
    if config.sinks.is_empty() {
        config.sinks.push(SinkConfig::new("stdout".to_owned(), SinkKind::Stdout));
    }
    (state_dir, config)
}

/// The section `[name]`; an empty one where it is absent, or is something else (noted).
fn single<'d, 't>(
    document: &'d DeTable<'t>,
    name: &'static str,
    problems: &'d mut Problems<'t>,
) -> Section<'d, 't> {
    let table = document.get(name).and_then(|value| {
        let table = value.get_ref().as_table().map(|table| (table, value.span()));
        if table.is_none() {
            let line = problems.line(&value.span());
            problems.note(line, format!("{name}: is not a section; write [{name}] on a line"));
        }
        table
    });
    Section::new(name, table, problems)
}

/// Every `[[name]]`, read by `read`.
fn many<'t, T>(
    document: &DeTable<'t>,
    name: &'static str,
    problems: &mut Problems<'t>,
    read: impl Fn(Section<'_, 't>) -> Option<T>,
) -> Vec<T> {
    let Some(value) = document.get(name) else { return Vec::new() };
    let DeValue::Array(array) = value.get_ref() else {
        let line = problems.line(&value.span());
        problems.note(line, format!("{name}: is not a list of sections; write [[{name}]]"));
        return Vec::new();
    };
    let mut all = Vec::new();
    for value in array {
        let Some(table) = value.get_ref().as_table() else {
            let line = problems.line(&value.span());
            problems.note(line, format!("{name}: is not a list of sections; write [[{name}]]"));
            continue;
        };
        all.extend(read(Section::new(name, Some((table, value.span())), problems)));
    }
    all
}

/// Notes every name that was used before.
fn unique(section: &str, names: Vec<(&str, usize)>, problems: &mut Problems<'_>) {
    let mut first = std::collections::BTreeMap::new();
    for (name, line) in names {
        let before = *first.entry(name).or_insert(line);
        if before != line {
            problems.note(
                line,
                format!("{section}.name: {name:?} is taken by line {before}; use another name"),
            );
        }
    }
}

#[cfg(test)]
mod feed_tests;
#[cfg(test)]
mod sink_stream_tests;
#[cfg(test)]
mod sink_tests;
#[cfg(test)]
mod tests;
