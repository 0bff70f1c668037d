//! Deliver: alerts and rows leave the host here, and only here.

use std::path::PathBuf;
use std::time::Duration;

/// Where a sink writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkKind {
    /// JSON lines on standard output.
    Stdout,
    /// JSON lines appended to a file.
    File(PathBuf),
    /// JSON array, or JSON lines, by POST.
    Http {
        /// Where to post.
        url: reqwest::Url,
        /// `application/x-ndjson` lines instead of one array.
        lines: bool,
        /// Limit of one request.
        timeout: Duration,
    },
}

/// One sink, checked and with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkConfig {
    /// Unique name, used in logs and counters.
    pub name: String,
    /// Where it writes.
    pub kind: SinkKind,
    /// Takes alerts.
    pub alerts: bool,
    /// Takes rows.
    pub rows: bool,
    /// Items that wait for this sink at most, alerts and rows each.
    pub queue: usize,
    /// Items in one request at most.
    pub batch: usize,
}
