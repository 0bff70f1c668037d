//! `Config`: the checked and typed configuration, with its defaults.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::key::SectionKeys;
use crate::deliver::SinkConfig;
use crate::deliver::spool::SpoolConfig;
use crate::intel::FeedConfig;
use crate::inventory::AzureConfig;
use crate::pipeline::capture::CaptureConfig;
use crate::pipeline::history::HistoryConfig;
use crate::telemetry::log::LogTarget;
use crate::telemetry::metrics::MetricsConfig;

/// Configuration of an agent, checked and with its defaults. Its keys are declared in `sections.rs`,
/// `feed.rs` and `sink*.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Identity, state, log level and confinement.
    pub agent: AgentConfig,
    /// Destination of the log.
    pub log_target: LogTarget,
    /// Probes, connection tracking and socket scans.
    pub capture: CaptureConfig,
    /// Sources of indicators, with unique names. Without any, nothing alerts.
    pub feeds: Vec<FeedConfig>,
    /// Remote networks that never alert.
    pub allow: AllowConfig,
    /// Suppression of repeated hits.
    pub dedup: DedupConfig,
    /// `VMConnection` rows.
    pub rows: RowsConfig,
    /// Retained connections of the lookback period; `None` if disabled.
    pub history: Option<HistoryConfig>,
    /// Health checks of the agent itself.
    pub health: HealthConfig,
    /// Metrics endpoint; `None` if disabled.
    pub metrics: Option<MetricsConfig>,
    /// Metadata of the Azure VM.
    pub azure: AzureConfig,
    /// Maximum number of tracked connections.
    pub max_connections: usize,
    /// Maximum number of tracked processes.
    pub max_processes: usize,
    /// Maximum number of DNS names of remote addresses; 0 disables names.
    pub max_names: usize,
    /// Path of a geolocation database in the `MaxMind` format, absolute.
    pub geoip: Option<PathBuf>,
    /// Alerts on disk, which the sinks read.
    pub spool: SpoolConfig,
    /// Destinations of alerts and rows, with unique names; at least one.
    pub sinks: Vec<SinkConfig>,
    /// All keys with their values in force, without secrets.
    pub settings: Vec<SectionKeys>,
}

/// Configuration section `[allow]`: remote networks that never alert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowConfig {
    /// Networks in the configuration itself.
    pub networks: Vec<IpNet>,
    /// Absolute paths of files of networks, and of directories of MISP warning lists.
    pub files: Vec<PathBuf>,
}

/// Configuration section `[agent]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Directory of the agent's identity and state, an absolute path.
    pub state_dir: PathBuf,
    /// Socket for `netsensor status` and local readers, if it is not `netsensor.sock` in the state
    /// directory.
    pub control_socket: Option<PathBuf>,
    /// Value of the `Computer` column in place of the host's name.
    pub computer: Option<String>,
    /// Valid log filter (`tracing`'s directives).
    pub log: String,
    /// True to drop privileges that are no longer needed; false only for troubleshooting.
    pub confine: bool,
}

impl AgentConfig {
    /// Default log filter.
    pub const LOG: &str = "info";

    /// Directory of the alerts on disk.
    pub fn spool_dir(&self) -> PathBuf {
        self.state_dir.join("spool")
    }

    /// Path of the control socket.
    pub fn control_socket(&self) -> PathBuf {
        let default = || self.state_dir.join("netsensor.sock");
        self.control_socket.clone().unwrap_or_else(default)
    }
}

/// Configuration section `[dedup]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupConfig {
    /// Time after an alert in which hits of its key are counted instead of raised.
    pub window: Duration,
    /// Maximum number of keys with an open window.
    pub max_keys: usize,
}

/// Configuration section `[rows]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsConfig {
    /// True if rows are emitted.
    pub enabled: bool,
    /// Maximum number of group keys in one minute.
    pub max_keys_per_minute: usize,
}

impl RowsConfig {
    /// Default maximum number of group keys.
    pub const MAX_KEYS_PER_MINUTE: usize = 65_536;
}

/// Configuration section `[health]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// Interval between canaries.
    pub canary_interval: Duration,
}
