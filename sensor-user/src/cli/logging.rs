//! The log as the command line and the configuration ask for it.

use std::sync::Arc;

use crate::base::clock::SystemClock;
use crate::base::environment::Environment;
use crate::config::Config;
use crate::telemetry::log::{self, Handle, LogError, Options, Target};

/// Logs as the configuration says, or as was typed.
pub(super) fn start_as_configured(
    config: &mut Config,
    typed: Option<&str>,
    environment: &Environment,
) -> Result<Handle, LogError> {
    if let Some(filter) = typed {
        filter.clone_into(&mut config.agent.log);
    }
    let (filter, target) = (config.agent.log.as_str(), config.log_target);
    log::start(Options { asked: typed, filter, target, environment }, Arc::new(SystemClock))
}

/// Logs from here on: what was typed, else what `filter` says.
pub(super) fn start_log(
    asked: Option<&str>,
    filter: &str,
    (target, environment): (Target, &Environment),
) -> anyhow::Result<Handle> {
    let options = Options { asked, filter, target, environment };
    Ok(log::start(options, Arc::new(SystemClock))?)
}
