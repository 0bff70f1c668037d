//! Start of the log, from the command line and the configuration.

use std::sync::Arc;

use crate::base::clock::SystemClock;
use crate::base::environment::Environment;
use crate::config::Config;
use crate::telemetry::log::{self, LogError, LogHandle, LogOptions, LogTarget};

/// Starts the log with the filter of the command line, or that of the configuration.
pub(super) fn start_as_configured(
    config: &mut Config,
    option: Option<&str>,
    environment: &Environment,
) -> Result<LogHandle, LogError> {
    if let Some(filter) = option {
        filter.clone_into(&mut config.agent.log);
    }
    let (filter, target) = (config.agent.log.as_str(), config.log_target);
    log::start(
        LogOptions { command_line: option, filter, target, environment },
        Arc::new(SystemClock),
    )
}

/// Starts the log with the filter of the command line, or `filter`.
pub(super) fn start_log(
    option: Option<&str>,
    filter: &str,
    target: LogTarget,
    environment: &Environment,
) -> anyhow::Result<LogHandle> {
    let options = LogOptions { command_line: option, filter, target, environment };
    Ok(log::start(options, Arc::new(SystemClock))?)
}
