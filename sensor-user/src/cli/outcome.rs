//! How a command ends, and what the commands share.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;

use crate::base::environment::Environment;
use crate::config::{Config, ConfigError, SERVICE_FILE, Source};

/// How a command that did its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Done, but some input was rejected.
    Rejected,
    /// The running agent is degraded.
    Degraded,
    /// What was looked at is damaged.
    Damaged,
    /// `--fail-on-alert`, and there was one; tells more than `Rejected` and wins over it.
    Alerted,
}

impl Outcome {
    /// The process's exit status.
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

/// The configuration of the agent that is asked: that at `path`, else that of the host's service
/// where there is one.
pub(super) fn config_of_agent(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    let service = Path::new(SERVICE_FILE);
    config(path.or_else(|| service.exists().then_some(service)), environment)
}

/// The configuration at `path`, or what the agent does without one.
pub(super) fn config(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    Source { path: path.map(Path::to_owned), environment: environment.clone() }.read()
}
