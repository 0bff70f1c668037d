//! `ConfigSource`: location of the configuration, which a reload reads again.

use std::path::PathBuf;

use serde_json::Value;

use super::{Config, ConfigError, Key};
use crate::base::environment::Environment;

/// Location of a configuration, and the environment that it depends on.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// Path of the file; `None` for the embedded configuration.
    pub path: Option<PathBuf>,
    /// Process environment.
    pub environment: Environment,
}

impl ConfigSource {
    /// Reads and checks the configuration.
    pub fn read(&self) -> Result<Config, ConfigError> {
        match &self.path {
            Some(path) => Config::load(path, &self.environment),
            None => Config::embedded(self.environment.state_dir().ok_or(ConfigError::NoStateDir)?),
        }
    }
}

impl Config {
    /// True if a sink takes rows.
    pub fn takes_rows(&self) -> bool {
        self.sinks.iter().any(|sink| sink.rows)
    }

    /// Names of the keys that differ in `new`, and that a running agent does not apply.
    pub fn needs_restart(&self, new: &Self) -> Vec<String> {
        let values = |config: &Self| -> Vec<(String, Value)> {
            let name =
                |section: &str, key: &Key| (format!("{section}.{}", key.name), key.value.clone());
            let sections = config.settings.iter();
            let keys = sections.flat_map(|it| it.keys.iter().map(|key| (it.section, key)));
            keys.filter(|(_, key)| !key.reloads).map(|(section, key)| name(section, key)).collect()
        };
        let pairs = values(self).into_iter().zip(values(new));
        pairs.filter(|(old, new)| old != new).map(|((name, _), _)| name).collect()
    }
}
