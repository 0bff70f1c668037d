//! Outcome of a command, and functions that commands share.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;

use crate::base::environment::Environment;
use crate::config::{Config, ConfigError, ConfigSource, SERVICE_FILE};

/// Outcome of a command without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Success.
    Done,
    /// Success, but some input was rejected.
    Rejected,
    /// The running agent is degraded.
    Degraded,
    /// The inspected files are damaged.
    Damaged,
    /// An alert, with `--fail-on-alert`; takes precedence over `Rejected`.
    Alerted,
}

impl Outcome {
    /// Exit status of the process.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Degraded | Self::Damaged => 1,
            Self::Rejected => 3,
            Self::Alerted => 4,
        }
    }
}

pub(super) fn print(text: &[u8]) -> anyhow::Result<Outcome> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).context("write standard output")?;
    Ok(Outcome::Done)
}

/// Configuration of a running agent: that at `path`, else that of the host's service if there is one.
pub(super) fn config_of_agent(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    let service = Path::new(SERVICE_FILE);
    config(path.or_else(|| service.exists().then_some(service)), environment)
}

/// The configuration at `path`, or the built-in configuration.
pub(super) fn config(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    ConfigSource { path: path.map(Path::to_owned), environment: environment.clone() }.read()
}
