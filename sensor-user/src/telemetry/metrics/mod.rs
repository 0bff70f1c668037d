//! Prometheus metrics of the agent, over HTTP/1.1 on a unix socket or a loopback address (`[metrics]`;
//! disabled by default).
//!
//! Invariants. The pipeline never waits: a page shows the pipeline's last snapshot, and is generated at
//! most once a second. Clients are bounded in number, bytes and time; a new client is always served,
//! and disconnects the oldest if too many are connected. Metric names are fixed. Label values come from
//! the configuration and from fixed lists, never from traffic or feeds.

mod counters;
mod page;
mod process;
mod server;
mod text;

pub use server::{Exporter, Listen, MetricsConfig, MetricsError, MetricsSource};

#[cfg(test)]
mod tests;
