//! The `Computer` column.

use std::sync::Arc;

use crate::config::Config;

/// The `Computer` column: the configured name, or the host's own.
pub(super) fn computer(config: &Config) -> Arc<str> {
    let own = || hostname::get().map(|name| name.to_string_lossy().into_owned());
    match &config.agent.computer {
        Some(name) => name.as_str().into(),
        None => own().unwrap_or_default().into(),
    }
}
