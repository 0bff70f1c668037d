//! Changes of a flow that are reported: opened, established, closed.

use jiff::Timestamp;

use super::UdpTable;
use crate::pipeline::aggregate::change::{Change, ChangeKind};
use crate::pipeline::aggregate::flow::Direction;
use crate::pipeline::decode::FlowKey;

/// `EPERM`, `errno(3)`: a program or a firewall of this host refused each datagram.
const EPERM: u32 = 1;

impl UdpTable {
    /// Reports a flow as opened, once. An outbound one is established after its hold: until then the kernel
    /// may refuse its datagram.
    pub(super) fn emit_opened(&mut self, key: &FlowKey, changes: &mut Vec<Change>) {
        let Some(flow) = self.flows.peek_mut(key) else { return };
        if std::mem::replace(&mut flow.emitted, true) {
            return;
        }
        let (opened, is_certain) = (flow.opened, flow.direction == Direction::Inbound);
        self.change(key, ChangeKind::Opened, opened, changes);
        if is_certain {
            self.emit_established(key, changes);
        }
    }

    /// Reports a flow as established, once, unless all of its datagrams were refused.
    pub(super) fn emit_established(&mut self, key: &FlowKey, changes: &mut Vec<Change>) {
        let Some(time) = self.flows.peek_mut(key).and_then(super::TrackedFlow::establish) else {
            return;
        };
        self.change(key, ChangeKind::Established, time, changes);
    }

    /// Records that the kernel refused the datagram of a flow without any other.
    pub(super) fn refuse(&mut self, key: &FlowKey) {
        if let Some(flow) = self.flows.peek_mut(key) {
            flow.refuse();
        }
    }

    /// Reports a flow as closed, with its unreported counts, or as failed, and removes it.
    pub(super) fn close(&mut self, key: &FlowKey, time: Timestamp, changes: &mut Vec<Change>) {
        self.emit_established(key, changes);
        if self.flows.peek(key).is_some_and(super::TrackedFlow::is_established) {
            self.change(key, ChangeKind::Closed, time, changes);
        } else {
            let first = changes.len();
            self.change(key, ChangeKind::Failed, time, changes);
            if let Some(change) = changes.get_mut(first) {
                change.error = EPERM;
            }
        }
        self.flows.pop(key);
        if let Some(socket) = self.sockets.get_mut(&key.cookie) {
            socket.all.remove(key);
            socket.unresolved.remove(key);
            if socket.all.is_empty() {
                self.sockets.remove(&key.cookie);
            }
        }
    }

    pub(super) fn change(
        &mut self,
        key: &FlowKey,
        kind: ChangeKind,
        time: Timestamp,
        changes: &mut Vec<Change>,
    ) {
        if let Some(flow) = self.flows.peek_mut(key) {
            let change = flow.change(kind, time, &self.computer, &self.unknown_process);
            changes.push(Change { cookie: key.socket_id(), ..change });
        }
    }
}
