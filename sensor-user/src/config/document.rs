//! Reads a whole configuration file into a `Config`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::form::{BaseDirs, hint};
use super::key::SectionKeys;
use super::model::Config;
use super::section::{Problem, Problems, Section};
use super::{feed, retired, sections, sink, sink_kind, sink_paths};
use crate::base::environment::Environment;
use crate::intel::FeedSource;

/// The small list of documentation addresses that an agent without configuration matches.
const EXAMPLE_INDICATORS: &str = include_str!("../../../examples/indicators.txt");

/// The configuration of an agent without a file; the feed is replaced by the embedded indicators.
const EMBEDDED: &str = "[[feed]]\nname = 'example'\nkind = 'list'\nurl = 'file:embedded'\n\
    [[sink]]\nname = 'stdout'\nkind = 'stdout'\n[[sink]]\nname = 'console'\nkind = 'console'\n";

/// The sink of a file without one.
const DEFAULT_SINK: &str = "[[sink]]\nname = 'stdout'\nkind = 'stdout'\n";

impl Config {
    /// Reads `text`, the content of the file at `path`, which need not exist.
    pub fn parse(text: &str, path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let dirs = BaseDirs {
            folder: path.parent().unwrap_or_else(|| Path::new("")),
            credentials: environment.credentials_directory.as_ref().map(Path::new),
        };
        let invalid = |problems| ConfigError::Invalid { path: path.to_owned(), problems };
        let mut config = read(text, dirs).map_err(&invalid)?;
        if config.agent.state_dir.as_os_str().is_empty() {
            let state_dir = environment.state_dir().ok_or(ConfigError::NoStateDir)?;
            config = config.with_state_dir(state_dir);
        }
        let problems = sink_paths::check(&config, path, text);
        if problems.is_empty() { Ok(config) } else { Err(invalid(problems)) }
    }

    /// The configuration of an agent without a file: the example indicators, alerts as JSON lines on
    /// standard output and as human-readable lines on standard error.
    pub fn embedded(state_dir: PathBuf) -> Result<Self, ConfigError> {
        let dirs = BaseDirs { folder: Path::new(""), credentials: None };
        let invalid = |problems| ConfigError::Invalid { path: "embedded".into(), problems };
        let mut config = read(EMBEDDED, dirs).map_err(invalid)?;
        for feed in &mut config.feeds {
            feed.source = FeedSource::Embedded(EXAMPLE_INDICATORS);
        }
        for feed in config.settings.iter_mut().filter(|section| section.section == "feed") {
            feed.set("url", json!("embedded"));
        }
        Ok(config.with_state_dir(state_dir))
    }

    fn with_state_dir(mut self, state_dir: PathBuf) -> Self {
        self.agent.state_dir = state_dir;
        if let Some(agent) = self.settings.iter_mut().find(|it| it.section == "agent") {
            agent.set("state_dir", json!(self.agent.state_dir.display().to_string()));
        }
        self
    }
}

/// The declarations of all keys: an entry for each section, and for each kind of feeds and sinks.
pub fn declarations() -> Vec<SectionKeys> {
    let entry = |section: &str, kind: &str| format!("[[{section}]]\nkind = '{kind}'\n");
    let feeds = feed::KINDS.iter().map(|kind| entry("feed", kind.name()));
    let sinks = sink_kind::KINDS.iter().map(|(kind, _)| entry("sink", kind));
    let text: String = feeds.chain(sinks).collect();
    let mut problems = Problems::new(&text);
    // The missing keys are problems that do not matter here.
    let config = DeTable::parse(&text).ok().map(|table| {
        let dirs = BaseDirs { folder: Path::new(""), credentials: None };
        Document::new(table.get_ref(), dirs, &mut problems).config()
    });
    config.map(|config| config.settings).unwrap_or_default()
}

fn read(text: &str, dirs: BaseDirs<'_>) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::new(text);
    let config = match DeTable::parse(text) {
        Ok(table) => Some(Document::new(table.get_ref(), dirs, &mut problems).config()),
        Err(error) => {
            let message = error.message().replace('\n', ", ");
            problems.add(&error.span().unwrap_or_default(), format!("not TOML: {message}"));
            None
        }
    };
    let problems = problems.into_list();
    config.filter(|_| problems.is_empty()).ok_or(problems)
}

/// A file while it is read.
#[derive(Debug)]
struct Document<'d, 't> {
    table: &'d DeTable<'t>,
    dirs: BaseDirs<'d>,
    problems: &'d mut Problems<'t>,
    /// The sections that were read.
    settings: Vec<SectionKeys>,
}

impl<'d, 't> Document<'d, 't> {
    fn new(table: &'d DeTable<'t>, dirs: BaseDirs<'d>, problems: &'d mut Problems<'t>) -> Self {
        Self { table, dirs, problems, settings: Vec::new() }
    }

    fn config(mut self) -> Config {
        let mut config = Config {
            agent: self.single("agent", sections::agent),
            log_target: self.single("log", sections::log),
            capture: self.single("capture", sections::capture),
            feeds: self.list("feed", feed::feed),
            allow: self.single("allow", sections::allow),
            dedup: self.single("dedup", sections::dedup),
            rows: self.single("rows", sections::rows),
            history: self.single("history", sections::history),
            health: self.single("health", sections::health),
            metrics: self.single("metrics", sections::metrics),
            azure: self.single("azure", sections::azure),
            max_connections: self.single("connections", sections::connections),
            max_processes: self.single("processes", sections::processes),
            max_names: self.single("dns", sections::dns),
            geoip: self.single("geoip", sections::geoip),
            spool: self.single("spool", sections::spool),
            sinks: self.list("sink", sink::sink),
            settings: Vec::new(),
        };
        self.refuse_unknown();
        if let Some(history) = &mut config.history {
            history.private = config.feeds.iter().any(|feed| feed.allow_private);
        }
        if !self.table.contains_key("sink")
            && let Ok(table) = DeTable::parse(DEFAULT_SINK)
        {
            let mut problems = Problems::new(DEFAULT_SINK);
            let mut default = Document::new(table.get_ref(), self.dirs, &mut problems);
            config.sinks = default.list("sink", sink::sink);
            self.settings.extend(default.settings);
        }
        for sink in &mut config.sinks {
            sink.set_imds_url(config.azure.imds_url.as_ref());
        }
        config.settings = self.settings;
        config
    }

    /// The section `[name]`; one without keys if it is missing.
    fn single<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Section<'_, 't>) -> T) -> T {
        let value = self.table.get(name);
        let table = value.and_then(|value| value.get_ref().as_table());
        let span = value.map(toml::Spanned::span).unwrap_or_default();
        if value.is_some() && table.is_none() {
            let text = format!("{name}: is not a section; write [{name}] on a line");
            self.problems.add(&span, text);
        }
        let mut section = Section::new(name, table, span, self.dirs, self.problems);
        let value = read(&mut section);
        self.settings.push(section.finish(|_| Vec::new()));
        value
    }

    /// Every `[[name]]`. Their names are unique.
    fn list<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&mut Section<'_, 't>) -> Option<T>,
    ) -> Vec<T> {
        let mut all = Vec::new();
        let Some(value) = self.table.get(name) else { return all };
        let not_list = format!("{name}: is not a list of sections; write [[{name}]]");
        let DeValue::Array(array) = value.get_ref() else {
            self.problems.add(&value.span(), not_list);
            return all;
        };
        let mut lines = BTreeMap::new();
        for value in array {
            let span = value.span();
            let Some(table) = value.get_ref().as_table() else {
                self.problems.add(&span, not_list.clone());
                continue;
            };
            let mut section = Section::new(name, Some(table), span, self.dirs, self.problems);
            section.keys.is_list = true;
            all.extend(read(&mut section));
            section.check_unique("name", &mut lines);
            let kinds_with = |key: &str| {
                let all = declarations();
                let mut with = all.iter().filter(|it| it.section == name && it.get(key).is_some());
                with.by_ref().filter_map(|it| it.kind).collect()
            };
            self.settings.push(section.finish(kinds_with));
        }
        all
    }

    fn refuse_unknown(&mut self) {
        let mut known: Vec<&str> = self.settings.iter().map(|section| section.section).collect();
        known.extend(["feed", "sink"]);
        known.dedup();
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let text = match retired::replacement(name) {
                    Some(new) => format!("section {name:?} was renamed; use {new}"),
                    None => format!("unknown section {name:?}; {}", hint(name, &known)),
                };
                self.problems.add(&key.span(), text);
            }
        }
    }
}
