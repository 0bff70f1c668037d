//! `Change`: something happened to a connection. Rows count changes, the matcher sees their flows,
//! `record` writes them down, and replay reads them back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flow::Flow;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Seen for the first time.
    Opened,
    /// The handshake is complete.
    Established,
    /// It ended before the handshake was complete.
    Failed,
    /// It ended after it.
    Closed,
}

/// One change of one connection. A connection has `Opened` first and then either `Failed`, or
/// `Established` and `Closed`.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub what: What,
    /// The connection, at that time.
    pub flow: Flow,
    /// Numbers the connections of one run, from 1.
    pub number: u64,
    /// Inode number of the network namespace; 0 when unknown.
    pub netns: u32,
    /// errno of a failure or of an abnormal end; 0 for none.
    pub error: u32,
    /// Smoothed round-trip time, microseconds, at the end; 0 when unknown.
    pub rtt_us: u32,
    /// From opened to the end; zero before.
    pub duration: Duration,
}
