//! Requests and responses of the worker `nat`.

use serde::{Deserialize, Serialize};

use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::NatMapping;
use crate::pipeline::capture::Tuple;

/// Key of a connection, over all protocols: protocol and connection number.
pub(super) type ConnectionKey = (Protocol, u64);

/// Lookup of one connection; a request is a batch of lookups.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NatLookup {
    pub(super) key: ConnectionKey,
    pub(super) netns: u32,
    /// Processes that may be in that network namespace.
    pub(super) pids: [Option<u32>; 2],
    pub(super) tuple: Tuple,
}

/// Mapping of one connection; `None` if it has none.
pub(super) type NatResult = (ConnectionKey, Option<NatMapping>);

/// Response to a batch of lookups.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NatResponse {
    pub(super) results: Vec<NatResult>,
    /// True if a network namespace of the batch tracks connections.
    pub(super) is_tracking: bool,
    /// Counters that the worker has incremented since the last response.
    pub(super) counters: Vec<u64>,
}
