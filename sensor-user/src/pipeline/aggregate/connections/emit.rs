//! Changes of a connection that are emitted: opened, established, closed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::change::{Change, ChangeKind};
use super::super::flow::{Attribution, Direction, Flow};
use super::close_reason::closed_by;
use super::{Connection, ConnectionTable};
use crate::base::protocol::Protocol;
use crate::pipeline::decode::Tcp;

impl ConnectionTable {
    /// Emits a connection as opened, once. An inbound one without an owner gets that of its listener.
    pub(super) fn emit_opened(&mut self, sk: u64, changes: &mut Vec<Change>) {
        let Some(connection) = self.connections.get_mut(&sk) else { return };
        if connection.emitted {
            return;
        }
        connection.emitted = true;
        if connection.process.is_none() && connection.direction == Direction::Inbound {
            let key = (connection.netns, connection.ends.local_port);
            connection.process = self.listeners.owner(key, connection.ends.local);
            if connection.process.is_some() {
                connection.attribution = Attribution::Listener;
            }
        }
        let Some(connection) = self.connections.peek(&sk) else { return };
        changes.push(self.change(connection, ChangeKind::Opened, connection.opened));
        if let Some(established) = connection.established {
            changes.push(self.change(connection, ChangeKind::Established, established));
        }
    }

    pub(super) fn emit_established(&mut self, sk: u64, time: Timestamp, changes: &mut Vec<Change>) {
        let Some(connection) = self.connections.get_mut(&sk) else { return };
        if connection.established.is_some() {
            return;
        }
        connection.established = Some(time);
        let Some(connection) = self.connections.peek(&sk) else { return };
        changes.push(self.change(connection, ChangeKind::Established, time));
    }

    pub(super) fn change(
        &self,
        connection: &Connection,
        kind: ChangeKind,
        time: Timestamp,
    ) -> Change {
        let port = |port: u16| (port != 0).then_some(port);
        let flow = Flow {
            time,
            phase: kind.phase(),
            computer: Arc::clone(&self.computer),
            direction: connection.direction,
            protocol: Protocol::Tcp,
            local: connection.ends.local,
            local_port: port(connection.ends.local_port),
            remote: connection.ends.remote,
            remote_port: port(connection.ends.remote_port),
            process: Arc::clone(connection.process.as_ref().unwrap_or(&self.unknown_process)),
            attribution: connection.attribution,
            connections: 1,
            preexisting: connection.scan.preexisting,
            translated: None,
            bytes_sent: 0,
            bytes_received: 0,
        };
        Change::new(kind, flow, connection.number, connection.netns)
    }

    /// The close of a connection, with its counts if the kernel reported them.
    pub(super) fn closed_change(
        &self,
        connection: &Connection,
        time: Timestamp,
        tcp: Option<&Tcp>,
    ) -> Change {
        let kind = match connection.established {
            Some(_) => ChangeKind::Closed,
            None => ChangeKind::Failed,
        };
        let mut change = self.change(connection, kind, time);
        change.responses = connection.scan.responses;
        if let Some(tcp) = tcp {
            (change.flow.bytes_sent, change.flow.bytes_received) = connection.scan.unreported(tcp);
            change.error = tcp.error;
            change.rtt_us = tcp.srtt_us;
            let ns = tcp.boot_ns.saturating_sub(connection.opened_boot_ns);
            change.duration = Duration::from_nanos(ns);
            change.closed_by = closed_by(tcp.old_state, tcp.error);
        }
        change
    }
}
