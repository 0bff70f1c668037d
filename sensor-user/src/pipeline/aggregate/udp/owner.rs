//! Owners of flows: resolved while a flow is held, or corrected after it was reported with a guess.

use std::sync::Arc;

use jiff::Timestamp;

use super::UdpTable;
use crate::pipeline::aggregate::change::{Change, ChangeKind, Guess};
use crate::pipeline::aggregate::flow::Direction;
use crate::pipeline::decode::{FlowKey, UdpOwner};
use crate::pipeline::enrich::Process;

impl UdpTable {
    /// Sets the owner of one flow; with port 0, of all unresolved flows of the socket in that direction.
    pub(super) fn set_owner(
        &mut self,
        owner: &UdpOwner,
        time: Timestamp,
        process: Option<&Arc<Process>>,
        changes: &mut Vec<Change>,
    ) {
        let keys =
            if owner.key.remote_port == 0 { self.unresolved_flows(owner) } else { vec![owner.key] };
        for key in keys {
            let Some(flow) = self.flows.peek_mut(&key) else { continue };
            if (flow.direction == Direction::Inbound) != owner.inbound {
                continue;
            }
            if let Some(socket) = self.sockets.get_mut(&key.cookie) {
                socket.unresolved.remove(&key);
            }
            let Some(process) = process else {
                self.emit_opened(&key, changes);
                continue;
            };
            if !flow.emitted {
                flow.set_owner(process, owner.source);
                self.emit_opened(&key, changes);
                // A refusal is reported before the owner.
                self.emit_established(&key, changes);
            } else if flow.is_guessed() {
                let before = flow.set_owner(process, owner.source);
                let unknown = || Arc::clone(&self.unknown_process);
                let guess = Guess { process: before.unwrap_or_else(unknown), since: flow.opened };
                self.stats.owners_corrected.increment();
                let first = changes.len();
                self.change(&key, ChangeKind::Attributed, time, changes);
                if let Some(change) = changes.get_mut(first) {
                    change.guess = Some(guess);
                }
            }
        }
    }

    /// Unresolved flows of a socket to which an owner applies.
    fn unresolved_flows(&self, owner: &UdpOwner) -> Vec<FlowKey> {
        let unresolved = self.sockets.get(&owner.key.cookie).map(|socket| &socket.unresolved);
        let all: Vec<FlowKey> = unresolved.into_iter().flatten().copied().collect();
        let on_cpu = |key: &&FlowKey| {
            self.flows.peek(key).is_some_and(|flow| flow.on_cpu_tgid == owner.task.tgid)
        };
        let own: Vec<FlowKey> = all.iter().filter(on_cpu).copied().collect();
        if owner.inbound || own.is_empty() { all } else { own }
    }
}
