//! Control: the agent's unix socket. A caller sends one line, `status`, `feeds`, `feeds rejects` or `stream`, and gets one
//! JSON document, or JSON lines until it hangs up (docs/configuration.md).
//!
//! Only root and the agent's own user are answered. The pipeline never waits for a caller.

mod client;
mod delivery;
pub mod feeds;
mod server;
mod snapshot;
pub mod status;
mod stream;

pub use client::{request_feeds, request_status};
pub use delivery::{DeliveryReport, SpoolReport};
pub use feeds::{FeedReport, RejectReport};
pub use snapshot::{
    HistoryReport, LedgerReport, LossReport, PipelineSnapshot, SetReport, TableReport,
};

pub use server::{ControlError, Hold, Server};
pub use status::{Probe, ReloadReport, Status, StatusReport};
pub use stream::{READERS_MAX, Stream};

/// Asks for the state of the agent.
const STATUS: &str = "status";
/// Asks how the feeds are.
const FEEDS: &str = "feeds";
/// The same, with what of them is not used.
const REJECTS: &str = "feeds rejects";
/// Asks for what changes.
const STREAM: &str = "stream";
