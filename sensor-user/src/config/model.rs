//! `Config`: what the agent does, checked and typed.

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

/// What the agent does, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The agent itself.
    pub agent: AgentConfig,
    /// Where the log goes.
    pub log_target: LogTarget,
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
    /// Connections of the lookback period; `None` if none are retained.
    pub history: Option<HistoryConfig>,
    /// Health checks of the agent itself.
    pub health: HealthConfig,
    /// The metrics endpoint, if there is one.
    pub metrics: Option<MetricsConfig>,
    /// Metadata of the Azure VM.
    pub azure: AzureConfig,
    /// Connections tracked at once at most.
    pub max_connections: usize,
    /// Processes known at once at most.
    pub max_processes: usize,
    /// Names of remote addresses kept at once at most; 0 for none.
    pub max_names: usize,
    /// Path of a geolocation database in the `MaxMind` format, absolute.
    pub geo: Option<PathBuf>,
    /// Alerts on disk, from where they go to the sinks.
    pub spool: SpoolConfig,
    /// Where alerts and rows go, with unique names; at least one.
    pub sinks: Vec<SinkConfig>,
    /// All keys with their values in force, without secrets.
    pub settings: Vec<SectionKeys>,
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
    pub canary_interval: Duration,
}
