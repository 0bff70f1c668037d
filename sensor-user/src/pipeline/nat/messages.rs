//! Requests and responses of the worker `nat`.

use serde::{Deserialize, Serialize};

use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::NatMapping;
use crate::pipeline::capture::Tuple;

/// Key of a connection, over all protocols: protocol and connection number.
pub(crate) type ConnectionKey = (Protocol, u64);

/// Lookup of one connection; a request is a batch of lookups.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NatLookup {
    pub(crate) key: ConnectionKey,
    pub(crate) netns: u32,
    /// Processes that may be in that network namespace.
    pub(crate) pids: [Option<u32>; 2],
    pub(crate) tuple: Tuple,
}

/// Mapping of one connection; `None` if it has none.
pub(crate) type NatResult = (ConnectionKey, Option<NatMapping>);

/// Response to a batch of lookups.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NatResponse {
    pub(crate) results: Vec<NatResult>,
    /// True if a network namespace of the batch tracks connections.
    pub(crate) is_tracking: bool,
    /// Counters that the worker has incremented since the last response.
    pub(crate) counters: Vec<u64>,
}
