//! Metrics, alert rules and dashboard, with a running agent and the tools of Prometheus. Needs root,
//! since the agent loads its probes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends with a panic")]

mod harness;

/// What is served, and to whom.
mod served;

/// Callers that mean no good.
mod callers;

/// What rules and dashboard name, and what Prometheus makes of all of it.
mod prometheus;

/// One screen of `netsensor status`.
mod status;
