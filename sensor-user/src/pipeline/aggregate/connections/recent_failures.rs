//! Connects that fail before a SYN is sent: opened and failed at once.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::change::Change;
use super::super::flow::{Attribution, Direction};
use super::{ConnectionOwner, ConnectionTable};
use crate::pipeline::decode::Tcp;
use crate::pipeline::enrich::Process;

/// Maximum number of remembered failures; the oldest is evicted first.
const FAILURES_MAX: usize = 256;
/// Maximum time between the last state change of a socket and the return of its connect, ns.
const SAME_CALL_NS: u64 = 100_000_000;

/// Sockets whose connection failed a moment ago. A connect may fail after the socket went to
/// `SYN_SENT` (no free port): the state change and the call's result are then one failure.
#[derive(Debug, Default)]
pub(super) struct RecentFailures(VecDeque<(u64, u64)>);

impl RecentFailures {
    pub(super) fn add(&mut self, sk: u64, boot_ns: u64) {
        if self.0.len() >= FAILURES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((sk, boot_ns));
    }

    /// True if the failure of this connect has been reported already; removes it.
    fn take(&mut self, sk: u64, boot_ns: u64) -> bool {
        let same = |&(known, when): &(u64, u64)| {
            known == sk && boot_ns.saturating_sub(when) < SAME_CALL_NS
        };
        let Some(at) = self.0.iter().rposition(same) else { return false };
        self.0.remove(at).is_some()
    }
}

impl ConnectionTable {
    pub(super) fn connect_failed(
        &mut self,
        time: Timestamp,
        tcp: &Tcp,
        process: Option<Arc<Process>>,
        changes: &mut Vec<Change>,
    ) {
        if self.recent_failures.take(tcp.sk, tcp.boot_ns) {
            return;
        }
        let owner = ConnectionOwner { process, attribution: Attribution::Connect };
        self.open(time, tcp, Direction::Outbound, owner, changes);
        self.emit_opened(tcp.sk, changes);
        if let Some(connection) = self.connections.pop(&tcp.sk) {
            changes.push(self.closed_change(&connection, time, Some(tcp)));
        }
    }
}
