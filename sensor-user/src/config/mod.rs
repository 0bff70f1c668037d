//! Config: what the agent is told to do. `Config` cannot be wrong: text is checked, defaulted and
//! typed here, once, and every problem is `path:line: section.key: what is wrong; what to use`.

mod describe;
mod environment;
mod feed;
mod feed_kind;
mod file;
mod metrics;
mod reader;
mod remote;
mod sections;
mod sink;
mod sink_azure;
mod sink_kafka;
mod sink_kind;
mod sink_stream;
mod source;
mod values;

pub use describe::describe;
pub use environment::Environment;
pub use file::SERVICE_FILE;
pub use reader::Problem;
pub use source::Source;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use crate::deliver::spool::SpoolConfig;
use crate::deliver::{SinkConfig, SinkKind};
use crate::history::HistoryConfig;
use crate::intel::{FeedConfig, FeedKind, FeedSource};
use crate::inventory::AzureConfig;
use crate::metrics::MetricsConfig;
use environment::Place;
use file::MAX_FILE;
use reader::{Problems, Section};

/// What the agent does, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The agent itself.
    pub agent: AgentConfig,
    /// Where the log goes.
    pub log_target: crate::log::Target,
    /// The kernel side.
    pub capture: CaptureConfig,
    /// Sources of indicators, with unique names. None means that nothing alerts.
    pub feeds: Vec<FeedConfig>,
    /// What never alerts.
    pub allow: AllowConfig,
    /// How repeated hits are held back.
    pub dedup: DedupConfig,
    /// `VMConnection` rows.
    pub rows: RowsConfig,
    /// The connections of the look-back; `None` for none.
    pub history: Option<HistoryConfig>,
    /// How the agent looks after itself.
    pub health: HealthConfig,
    /// Where metrics are told; `None` where they are not.
    pub metrics: Option<MetricsConfig>,
    /// What is asked of Azure.
    pub azure: AzureConfig,
    /// Connections tracked at once at most.
    pub max_connections: usize,
    /// Processes known at once at most.
    pub max_processes: usize,
    /// Names of remote addresses kept at once at most; 0 for none.
    pub max_names: usize,
    /// A database of places in the format of `MaxMind`, absolute.
    pub geo: Option<PathBuf>,
    /// Alerts on disk, from where they go to the sinks.
    pub spool: SpoolConfig,
    /// Where alerts and rows go, with unique names; at least one.
    pub sinks: Vec<SinkConfig>,
}

/// `[allow]`: remote networks that never alert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowConfig {
    /// Named one by one.
    pub networks: Vec<IpNet>,
    /// Files of networks, and folders of MISP warning lists; absolute.
    pub files: Vec<PathBuf>,
}

/// `[agent]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Folder of the agent's id and state, absolute.
    pub state_dir: PathBuf,
    /// Where the agent answers `netsensor status` and streams; `netsensor.sock` in the state
    /// directory unless set.
    pub control_socket: Option<PathBuf>,
    /// Replaces the host's name in the `Computer` column.
    pub computer: Option<String>,
    /// Log filter (`tracing`'s directives), already known to parse.
    pub log: String,
    /// Whether the agent gives up what it does not need; without, only to find out why.
    pub confine: bool,
}

impl AgentConfig {
    /// Log filter unless set.
    pub const LOG: &str = "info";

    /// Where alerts are on disk.
    pub fn spool_dir(&self) -> PathBuf {
        self.state_dir.join("spool")
    }

    /// Where the control socket is.
    pub fn control_socket(&self) -> PathBuf {
        let usual = || self.state_dir.join("netsensor.sock");
        self.control_socket.clone().unwrap_or_else(usual)
    }
}

/// `[capture]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureConfig {
    /// Size of the ring between kernel and agent, bytes; a power of two.
    pub ring_bytes: u32,
    /// A BPF object to load in place of the built-in one.
    pub object: Option<PathBuf>,
    /// A description of the kernel's types (BTF) in place of the kernel's own.
    pub btf: Option<PathBuf>,
    /// Programs that are not attached, by their names in the object.
    pub disable: Vec<String>,
    /// Of a million records of the kernel, how many are dropped before they are read
    /// (`--simulate-drops`; not in the file).
    pub drops_per_million: u32,
    /// Whether the kernel's connection tracking is asked for translated addresses.
    pub conntrack: bool,
    /// Time between two looks at what is open.
    pub look_every: Duration,
    /// UDP flows that are counted in the kernel at once at most.
    pub udp_flows: u32,
    /// A UDP flow without a datagram for this long is over.
    pub udp_idle: Duration,
}

impl CaptureConfig {
    /// Ring size unless set: 4 MiB.
    pub const RING_BYTES: u32 = sensor_ebpf::maps::RECORDS_BYTES;
    /// Time between two looks unless set: a minute, as rows have.
    pub const LOOK_EVERY: Duration = Duration::from_mins(1);
    /// UDP flows unless set: 65,536, about 10 MB of the kernel's memory.
    pub const UDP_FLOWS: u32 = sensor_ebpf::maps::UDP_FLOWS_MAX;
    /// Idle time of a UDP flow unless set: 60 s.
    pub const UDP_IDLE: Duration = Duration::from_mins(1);
    const MIN_RING: u64 = 64 << 10;
    const MAX_RING: u64 = 1 << 30;
}

/// `[dedup]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupConfig {
    /// Hits of one key within this time after its alert are counted, not raised.
    pub window: Duration,
    /// Keys with an open window at most.
    pub max_keys: usize,
}

/// `[rows]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsConfig {
    /// Whether rows are made at all.
    pub enabled: bool,
    /// Group keys in one minute at most.
    pub max_keys_per_minute: usize,
}

impl RowsConfig {
    /// Group keys unless set.
    pub const MAX_KEYS_PER_MINUTE: usize = 65_536;
}

/// `[health]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// Time between two canaries.
    pub canary_every: Duration,
}

/// Why there is no `Config`. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others than the file's owner can change what the agent does.
    #[error(
        "{}: can be written by its group or by everybody (mode {mode:04o}); run chmod go-w {}",
        path.display(),
        path.display()
    )]
    Writable {
        /// The file, or its folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is not one that a person wrote.
    #[error("{}: is over {MAX_FILE} bytes; is this the configuration file?", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// The file says something that cannot be.
    #[error("{}", reader::lines(path, problems))]
    Invalid {
        /// Which.
        path: PathBuf,
        /// All that is wrong, in the order of the file; at least one.
        problems: Vec<Problem>,
    },
    /// Neither configuration nor environment names a state directory.
    #[error(
        "agent.state_dir: not set, and neither XDG_STATE_HOME nor HOME is an absolute path; set one of them"
    )]
    NoStateDir,
}

impl Config {
    /// Checks `text`, which stands (or would stand) at `path`.
    pub fn parse(text: &str, path: &Path, environment: &Environment) -> Result<Self, ConfigError> {
        let mut problems = Problems::new(text);
        let config = match DeTable::parse(text) {
            Ok(document) => {
                let folder = path.parent().unwrap_or_else(|| Path::new(""));
                let credentials = environment.credentials_directory.as_ref().map(Path::new);
                let place = Place { folder, credentials };
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
            None => environment.state_dir()?,
        };
        Ok(config)
    }

    /// What the agent does without a file: the example indicators, alerts as JSON lines on
    /// standard output and as readable lines on standard error.
    pub fn embedded(state_dir: PathBuf) -> Self {
        let mut problems = Problems::new("");
        let (_, mut config) = document_config(&DeTable::new(), Place::default(), &mut problems);
        config.agent.state_dir = state_dir;
        let source = FeedSource::Embedded(EXAMPLE_INDICATORS);
        config.feeds.push(FeedConfig::new("example".to_owned(), FeedKind::List, source));
        config.sinks.push(SinkConfig::new("readable".to_owned(), SinkKind::Readable));
        config
    }
}

/// The small list of documentation addresses that an agent without configuration matches.
pub const EXAMPLE_INDICATORS: &str = include_str!("../../../examples/indicators.txt");

/// The state directory as configured, and all the rest (its `state_dir` is still empty).
fn document_config<'t>(
    document: &DeTable<'t>,
    place: Place<'_>,
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
        sink.ask_machine_at(config.azure.imds_url.as_ref());
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
