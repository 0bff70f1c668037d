//! `Change`: a change of state of a connection. Rows count changes, the matcher matches their flows,
//! `record` writes them to a file, and `replay --live` reads them back.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::flow::{Flow, Phase};
use super::response_times::ResponseTimes;
use crate::pipeline::enrich::Process;

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The connection is seen for the first time.
    Opened,
    /// The handshake is complete.
    Established,
    /// The connection is open; the counts are those since its last change.
    Active,
    /// The NAT mapping of the connection is known now; the flow has it. The connection may be closed
    /// already.
    Translated,
    /// The process of the connection is known now; before, it was a guess.
    Attributed,
    /// The connection ended before the handshake was complete, or the kernel refused to send each of its
    /// datagrams (UDP).
    Failed,
    /// The connection ended after the handshake.
    Closed,
}

impl ChangeKind {
    /// Phase of the flow of such a change.
    pub(super) const fn phase(self) -> Phase {
        match self {
            Self::Opened | Self::Established => Phase::Opened,
            Self::Active | Self::Attributed => Phase::Active,
            Self::Translated => Phase::Translated,
            Self::Failed | Self::Closed => Phase::Closed,
        }
    }
}

/// The end that closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    /// This host: it sent the first FIN, or aborted the connection.
    Local,
    /// The remote end: it sent the first FIN, or reset the connection.
    Remote,
    /// Neither: the remote end did not respond in time.
    Timeout,
    /// Still open, unknown, or a protocol without a close (UDP after its idle timeout).
    #[default]
    Unknown,
}

/// One change of one connection. The first change is `Opened`. Then comes either `Failed`, or
/// `Established`, any number of `Active`, and `Closed`. `Translated` comes at most once, at any time
/// after `Opened`, if the NAT mapping was not known at open, and `Attributed` at most once, if the process
/// was a guess. Counts are since the previous change:
/// their sum is that of the connection.
#[derive(Debug, Clone)]
pub struct Change {
    /// Kind of the change.
    pub kind: ChangeKind,
    /// The connection at the time of the change.
    pub flow: Flow,
    /// Number of the connection in this run, from 1.
    pub number: u64,
    /// Inode number of the network namespace; 0 if unknown.
    pub netns: u32,
    /// Identifies the socket with its port (UDP; 0 if unknown, and for TCP).
    pub cookie: u64,
    /// errno of a failure or of an abnormal close; 0 for none.
    pub error: u32,
    /// Smoothed round-trip time, microseconds, while it is open and at its close; 0 if unknown.
    pub rtt_us: u32,
    /// Time from open to close; zero before the close.
    pub duration: Duration,
    /// The end that closed the connection.
    pub closed_by: ClosedBy,
    /// Datagrams sent (UDP; 0 for TCP).
    pub packets_sent: u64,
    /// Datagrams received (UDP; 0 for TCP).
    pub packets_received: u64,
    /// Responses since the previous change (TCP).
    pub responses: ResponseTimes,
    /// In a change of kind `Attributed`: the guess that it corrects.
    pub guess: Option<Guess>,
}

/// Process that a connection was attributed to until its owner was known.
#[derive(Debug, Clone)]
pub struct Guess {
    /// The guessed process.
    pub process: Arc<Process>,
    /// Time at which the connection was opened and established.
    pub since: Timestamp,
}

impl Change {
    /// Creates a change of `flow` without further facts.
    pub const fn new(kind: ChangeKind, flow: Flow, number: u64, netns: u32) -> Self {
        Self {
            kind,
            flow,
            number,
            netns,
            cookie: 0,
            error: 0,
            rtt_us: 0,
            duration: Duration::ZERO,
            closed_by: ClosedBy::Unknown,
            packets_sent: 0,
            packets_received: 0,
            responses: ResponseTimes::NONE,
            guess: None,
        }
    }
}
