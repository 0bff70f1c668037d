//! Telemetry of the agent: log, metrics, control socket, loss ledger.

pub mod control;
pub mod log;
pub mod loss_ledger;
pub mod metrics;
