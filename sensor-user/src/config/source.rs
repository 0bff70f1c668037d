//! Where the configuration is, to be read again while the agent runs.

use std::path::PathBuf;

use super::{Config, ConfigError};
use crate::base::environment::Environment;

/// A configuration's file and what else it depends on.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file; `None` for what the agent does without one.
    pub path: Option<PathBuf>,
    /// The rest.
    pub environment: Environment,
}

impl Source {
    /// Reads and checks it.
    pub fn read(&self) -> Result<Config, ConfigError> {
        match &self.path {
            Some(path) => Config::load(path, &self.environment),
            None => {
                Ok(Config::embedded(self.environment.state_dir().ok_or(ConfigError::NoStateDir)?))
            }
        }
    }
}

impl Config {
    /// Whether a sink takes rows.
    pub fn takes_rows(&self) -> bool {
        self.sinks.iter().any(|sink| sink.rows)
    }

    /// What differs in `new` and takes a restart, by its name in the file.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old_agent, new_agent) = (&self.agent, &new.agent);
        let differs = [
            ("agent.state_dir", old_agent.state_dir != new_agent.state_dir),
            ("agent.control_socket", old_agent.control_socket != new_agent.control_socket),
            ("agent.confine", old_agent.confine != new_agent.confine),
            ("agent.computer", old_agent.computer != new_agent.computer),
            ("log.target", self.log_target != new.log_target),
            ("capture", self.capture != new.capture),
            ("dedup.max_keys", self.dedup.max_keys != new.dedup.max_keys),
            ("rows", self.rows != new.rows),
            ("history.enabled", self.history.is_some() != new.history.is_some()),
            ("health", self.health != new.health),
            ("metrics", self.metrics != new.metrics),
            ("azure", self.azure != new.azure),
            ("connections.max", self.max_connections != new.max_connections),
            ("processes.max", self.max_processes != new.max_processes),
            ("names.max", self.max_names != new.max_names),
            ("geo.database", self.geo != new.geo),
            ("spool", self.spool != new.spool),
        ];
        differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }
}
