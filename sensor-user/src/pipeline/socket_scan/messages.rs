//! Requests and responses of the worker `socket-scan`.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::pipeline::aggregate::ScanKind;
use crate::pipeline::capture::{OpenSocket, OpenSockets};
use crate::pipeline::enrich::SocketOwners;

/// A request, and the maximum number of sockets in its result.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ScanRequest {
    pub(super) sockets_max: usize,
    pub(super) scan: Scan,
}

/// A response, and the counters that the worker has incremented since the last one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ScanResponse {
    pub(super) result: ScanResult,
    pub(super) counters: Vec<u64>,
}

/// Scope of a scan.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Scan {
    /// All open sockets, with their owners.
    Initial,
    /// Open sockets of these network namespaces (`None`: of all).
    Periodic(Option<HashSet<u32>>),
    /// Owners of sockets that a scan found which began at this time.
    Owners { sockets: Vec<OpenSocket>, began_boot_ns: u64 },
}

impl Scan {
    pub(super) const fn kind(&self) -> ScanKind {
        match self {
            Self::Initial => ScanKind::Initial,
            Self::Periodic(_) => ScanKind::Periodic,
            Self::Owners { .. } => ScanKind::Owners,
        }
    }
}

/// Open sockets, and the owners of those that were requested.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ScanResult {
    pub(crate) kind: ScanKind,
    pub(crate) open: OpenSockets,
    pub(crate) owners: SocketOwners,
}
