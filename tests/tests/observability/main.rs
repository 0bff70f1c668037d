//! Metrics, alert rules and dashboard, with a running agent and the tools of Prometheus. Needs
//! root, because the agent loads its probes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends with a panic")]

mod harness;

/// The metrics page, its formats and access control.
mod page;

/// Slow and hostile HTTP clients.
mod clients;

/// Metric names in rules and dashboard, and a real Prometheus that evaluates them.
mod prometheus;

/// The output of `netsensor status`.
mod status;
