//! `Change`: something happened to a connection. Rows count changes, the matcher sees their flows,
//! `record` writes them down, and replay reads them back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flow::Flow;
use super::response_times::Responses;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Seen for the first time.
    Opened,
    /// The handshake is complete.
    Established,
    /// It is open, and this is what it moved since the last change of it.
    Active,
    /// It is known by now that the kernel translates it (NAT): the flow says how. It may have ended
    /// already.
    Translated,
    /// It ended before the handshake was complete.
    Failed,
    /// It ended after it.
    Closed,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    /// This host: it was first to send a FIN, or it aborted.
    Local,
    /// The other end: it was first to send a FIN, or it reset the connection.
    Remote,
    /// Nobody: the other end was silent for too long.
    Timeout,
    /// Not ended yet, not known, or a protocol without an end (UDP that fell idle).
    #[default]
    Unknown,
}

/// One change of one connection. A connection has `Opened` first and then either `Failed`, or
/// `Established`, any number of `Active`, and `Closed`; `Translated` comes once, at any time after
/// `Opened`, where the translation was not known from the beginning. Counts are since the change before: their
/// sum is the connection's.
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
    /// Smoothed round-trip time, microseconds, while it lives and at the end; 0 when unknown.
    pub rtt_us: u32,
    /// From opened to the end; zero before.
    pub duration: Duration,
    /// Who ended it.
    pub closed_by: ClosedBy,
    /// Datagrams sent (UDP; 0 for TCP).
    pub packets_sent: u64,
    /// Datagrams received (UDP; 0 for TCP).
    pub packets_received: u64,
    /// Answers since the change before (TCP).
    pub responses: Responses,
}

impl Change {
    /// `what` happened to `flow`, and no more is known.
    pub const fn new(what: What, flow: Flow, number: u64, netns: u32) -> Self {
        Self {
            what,
            flow,
            number,
            netns,
            error: 0,
            rtt_us: 0,
            duration: Duration::ZERO,
            closed_by: ClosedBy::Unknown,
            packets_sent: 0,
            packets_received: 0,
            responses: Responses::NONE,
        }
    }
}
