//! Owners of connections: the process that accepted or first used an inbound one, that of the other
//! subflows of an MPTCP connection, and that which restored a connection.

use std::sync::Arc;

use jiff::Timestamp;
use sensor_ebpf::record::OwnerSource;

use super::super::change::{Change, ChangeKind, Guess};
use super::super::flow::{Attribution, Direction};
use super::{Connection, ConnectionOwner, ConnectionTable};
use crate::pipeline::decode::Tcp;
use crate::pipeline::enrich::Process;

/// Maximum number of subflows of an MPTCP socket that are known: more than the path manager of the kernel
/// opens (`ip-mptcp(8)`, `limits`).
const SUBFLOWS_MAX: usize = 16;

impl Connection {
    /// True if the connection was reported, with a process that is only a guess.
    fn is_guessed(&self) -> bool {
        self.emitted && self.direction == Direction::Inbound && self.attribution.is_guess()
    }
}

impl ConnectionTable {
    /// Sets the owner of an inbound connection, or corrects the guess that was reported.
    pub(super) fn set_owner(
        &mut self,
        time: Timestamp,
        tcp: &Tcp,
        source: OwnerSource,
        process: Option<Arc<Process>>,
        changes: &mut Vec<Change>,
    ) {
        let attribution = match source {
            OwnerSource::Accept => Attribution::Accept,
            OwnerSource::FirstIo => Attribution::FirstIo,
        };
        let owner = ConnectionOwner { process, attribution };
        // An MPTCP socket stands for its subflows.
        for sk in self.subflows_of(tcp.sk) {
            let subflow = Tcp { sk, ..tcp.clone() };
            self.set_owner(time, &subflow, source, owner.process.clone(), changes);
        }
        if let Some(connection) = self.connections.get_mut(&tcp.sk) {
            if connection.is_guessed() {
                self.correct_owner(time, tcp.sk, owner, changes);
                return;
            }
            if connection.emitted || connection.direction != Direction::Inbound {
                return;
            }
            (connection.process, connection.attribution) = (owner.process, attribution);
        } else if !tcp.remote.is_unspecified() {
            // With TCP Fast Open a connection is accepted before the handshake is complete.
            self.open(time, tcp, Direction::Inbound, owner, changes);
        }
        self.emit_opened(tcp.sk, changes);
    }

    /// Replaces a guessed process by the owner, and reports that.
    fn correct_owner(
        &mut self,
        time: Timestamp,
        sk: u64,
        owner: ConnectionOwner,
        changes: &mut Vec<Change>,
    ) {
        let Some(process) = owner.process else { return };
        let unknown = &self.unknown_process;
        let Some(connection) = self.connections.get_mut(&sk) else { return };
        let guess = connection.process.replace(process);
        connection.attribution = owner.attribution;
        let since = connection.established.unwrap_or(connection.opened);
        let guess = Guess { process: guess.unwrap_or_else(|| Arc::clone(unknown)), since };
        self.stats.owners_corrected.increment();
        let Some(connection) = self.connections.peek(&sk) else { return };
        let mut change = self.change(connection, ChangeKind::Attributed, time);
        change.guess = Some(guess);
        changes.push(change);
    }

    /// Opens a connection that a process restores with the state of an earlier one (`TCP_REPAIR`): one
    /// that is older than its record. The end that a listener covers is the called one.
    pub(super) fn restore(
        &mut self,
        time: Timestamp,
        tcp: &Tcp,
        process: Option<Arc<Process>>,
        changes: &mut Vec<Change>,
    ) {
        let owner = ConnectionOwner::of(process, Attribution::Scan);
        let listener = self.listeners.owner((tcp.netns, tcp.local_port), tcp.local);
        let direction = match listener {
            Some(_) => Direction::Inbound,
            None => Direction::Outbound,
        };
        self.open(time, tcp, direction, owner, changes);
        if let Some(connection) = self.connections.get_mut(&tcp.sk) {
            connection.scan.preexisting = true;
        }
        self.emit_opened(tcp.sk, changes);
    }

    /// Owner of a new connection. A further subflow of an MPTCP connection, which the kernel opens or
    /// accepts by itself, belongs to the owner of the others.
    pub(super) fn owner_of_subflow(
        &mut self,
        tcp: &Tcp,
        owner: ConnectionOwner,
    ) -> ConnectionOwner {
        if tcp.mptcp == 0 {
            return owner;
        }
        let others = self.subflows_of(tcp.mptcp);
        let owned = others.iter().filter_map(|sk| self.connections.peek(sk));
        let mut owned = owned
            .filter(|it| it.process.is_some())
            .map(|it| ConnectionOwner { process: it.process.clone(), attribution: it.attribution });
        let inherited = owned.next_back();
        let all = others.into_iter().filter(|sk| *sk != tcp.sk).chain([tcp.sk]).collect();
        self.subflows.push(tcp.mptcp, all);
        match inherited {
            Some(inherited) if owner.process.is_none() => inherited,
            _ => owner,
        }
    }

    /// Open subflows of an MPTCP socket, the latest ones.
    fn subflows_of(&mut self, mptcp: u64) -> Vec<u64> {
        let all = self.subflows.get(&mptcp).map(Vec::as_slice).unwrap_or_default();
        let is_open = |sk: &&u64| self.connections.peek(sk).is_some_and(|it| it.mptcp == mptcp);
        let open: Vec<u64> = all.iter().filter(is_open).copied().collect();
        let first = open.len().saturating_sub(SUBFLOWS_MAX);
        open.into_iter().skip(first).collect()
    }
}
