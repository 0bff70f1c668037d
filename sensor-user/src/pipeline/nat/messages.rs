//! Requests and responses of the worker `nat`.

use serde::{Deserialize, Serialize};

use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::{Change, Direction};
use crate::pipeline::capture::Tuple;

/// Key of a connection, over all protocols: protocol and connection number.
pub(super) type ConnectionKey = (Protocol, u64);

/// Lookup of one connection; a request is a batch of lookups.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NatLookup {
    pub(super) key: ConnectionKey,
    pub(super) netns: u32,
    /// Processes that may be in that network namespace.
    pub(super) pids: [Option<u32>; 2],
    /// Ends of the connection, this host's first.
    pub(super) tuple: Tuple,
    /// True if the ends are those of a packet that has left the socket's namespace, so that they are
    /// behind its NAT: the first datagram of an outbound UDP flow.
    pub(super) is_behind_nat: bool,
    /// True if the connection is not looked up again when no table has it. (The client's alone.)
    #[serde(skip)]
    pub(super) is_last: bool,
}

impl NatLookup {
    /// The lookup of a connection by its first change with both addresses and ports.
    pub(super) fn of(change: &Change) -> Option<Self> {
        let flow = &change.flow;
        if flow.translated.is_some() {
            return None;
        }
        let tuple = Tuple {
            protocol: flow.protocol,
            source: (flow.local, flow.local_port?).into(),
            destination: (flow.remote, flow.remote_port?).into(),
        };
        Some(Self {
            key: (flow.protocol, change.number),
            netns: change.netns,
            pids: [flow.process.pid, flow.process.parent_pid],
            tuple,
            // A scan shows the ends of the socket; the first datagram shows those of the packet.
            is_behind_nat: flow.protocol == Protocol::Udp
                && flow.direction == Direction::Outbound
                && !flow.preexisting,
            is_last: false,
        })
    }
}

/// Translation of one connection, as seen from its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Translation {
    /// Ends of the socket, this host's first.
    pub(super) socket: Tuple,
    /// Ends of its packets outside this host.
    pub(super) outside: Tuple,
    /// True if the socket's end initiated the connection; `None` if its namespace does not track it.
    pub(super) is_initiator: Option<bool>,
}

/// Response to a batch of lookups.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct NatResponse {
    /// The connections that are translated.
    pub(super) translations: Vec<(ConnectionKey, Translation)>,
    /// The connections of which a namespace tracks others, but no table has them.
    pub(super) missing: Vec<ConnectionKey>,
    /// Each network namespace of the batch, and whether it tracks connections.
    pub(super) namespaces: Vec<(u32, bool)>,
    /// True if the agent's network namespace tracks connections.
    pub(super) is_own_tracking: bool,
    /// Counters that the worker has incremented since the last response.
    pub(super) counters: Vec<u64>,
}
