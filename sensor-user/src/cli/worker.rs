//! Hidden commands: the worker processes that the agent starts.

use std::path::Path;

use anyhow::Context as _;

use super::logging::start_log;
use super::outcome::Outcome;
use crate::base::environment::Environment;
use crate::config::AgentConfig;
use crate::intel::run_feed_parser;
use crate::pipeline::enrich::proc_worker::serve_process_facts;
use crate::pipeline::nat::serve_nat_lookups;
use crate::pipeline::socket_scan::serve_scans;
use crate::privsep::{WorkerKind, run_spawner, run_worker};
use crate::telemetry::log::LogTarget;

/// Runs a worker until the agent closes its socket. `feeds` is the directory that children of the
/// launcher may write to.
pub(super) fn worker(
    kind: WorkerKind,
    feeds: Option<&Path>,
    log: Option<&str>,
    environment: &Environment,
) -> anyhow::Result<Outcome> {
    let log = log.unwrap_or(AgentConfig::LOG);
    let _log = start_log(None, log, LogTarget::Auto, environment)?;
    let result = match kind {
        WorkerKind::Launcher | WorkerKind::Supervisor => run_spawner(kind, feeds, log),
        WorkerKind::SocketScan => run_worker(kind, serve_scans),
        WorkerKind::Nat => run_worker(kind, serve_nat_lookups),
        WorkerKind::Proc => run_worker(kind, serve_process_facts),
    };
    result.with_context(|| format!("worker {}", kind.name()))?;
    Ok(Outcome::Done)
}

/// Parses the documents of one pull of a feed.
pub(super) fn feed_parser() -> anyhow::Result<Outcome> {
    run_feed_parser().context("feed parser")?;
    Ok(Outcome::Done)
}
