//! Control socket: the agent's unix socket for other commands. A client sends one line, `status`, `feeds`,
//! `feeds rejects` or `stream`. The response is one JSON document; for `stream`, JSON lines until the
//! client disconnects (docs/configuration.md).
//!
//! Only root and the agent's own user may connect. The pipeline never waits for a client.

mod client;
mod delivery;
pub mod feeds;
mod server;
mod snapshot;
pub mod status;
mod stream;

pub use client::{request_feeds, request_status};
pub use delivery::{DeliveryReport, SpoolReport};
pub use feeds::{FeedReport, PullReport, RejectReport};
pub use server::{AgentLock, ControlError, ControlServer};
pub use snapshot::{
    ConntrackReport, HistoryReport, LedgerReport, LossReport, PipelineSnapshot, SetReport,
    TableReport,
};
pub use status::{Probe, ReloadReport, Status, StatusReport};
pub use stream::{READERS_MAX, Stream};

/// Requests the status report.
const STATUS: &str = "status";
/// Requests the state of the feeds.
const FEEDS: &str = "feeds";
/// Requests the state of the feeds, with their rejected entries.
const REJECTS: &str = "feeds rejects";
/// Requests a stream of changes and agent events.
const STREAM: &str = "stream";
