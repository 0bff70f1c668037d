//! UDP sockets that were connected before the agent: told at the first look, and ended when two
//! looks in a row do not find them. The kernel keeps no counts of them.
//!
//! UDP has no side that began. A connected socket is outbound, unless another, unconnected socket
//! is bound to its address and port: that is a server which connects a socket for each client.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Change, Connection, ConnectionTable, Direction, Protocol, What};
use crate::capture::{OpenSocket, OpenSockets};
use crate::enrich::Process;

/// Opens those that are connected.
pub(super) fn open(
    table: &mut ConnectionTable,
    open: &OpenSockets,
    time: Timestamp,
    owner: &mut dyn FnMut(u32) -> Option<Arc<Process>>,
    changes: &mut Vec<Change>,
) {
    let servers: HashSet<(u32, u16, IpAddr)> = open
        .udp
        .iter()
        .filter(|socket| socket.ends.remote_port == 0)
        .map(|socket| (socket.netns, socket.ends.local_port, socket.ends.local))
        .collect();
    let is_served = |socket: &OpenSocket| {
        let local = socket.ends.local;
        let all = [local, IpAddr::from([0_u8; 4]), IpAddr::from([0_u16; 8])];
        // `::` takes IPv4 in too, 0.0.0.0 takes no IPv6.
        all.iter().any(|at| {
            (at.is_ipv6() || local.is_ipv4())
                && servers.contains(&(socket.netns, socket.ends.local_port, *at))
        })
    };
    for socket in open.udp.iter().filter(|socket| socket.ends.remote_port != 0) {
        let times = (time, open.began_boot_ns);
        let Some((_, mut connection)) = table.new_found(socket, times, owner) else { return };
        if is_served(socket) {
            connection.direction = Direction::Inbound;
        }
        connection.seen.preexisting = true;
        for what in [What::Opened, What::Established] {
            changes.push(change(table, &connection, what, time));
        }
        table.looks.udp.push((*socket, connection));
    }
}

/// Ends those that are open no more.
pub(super) fn end(
    table: &mut ConnectionTable,
    open: &OpenSockets,
    time: Timestamp,
    changes: &mut Vec<Change>,
) {
    if table.looks.udp.is_empty() {
        return;
    }
    let key = |socket: &OpenSocket| (socket.netns, socket.cookie, socket.ends);
    let here: HashSet<_> = open.udp.iter().map(key).collect();
    let all = std::mem::take(&mut table.looks.udp);
    for (socket, mut connection) in all {
        let missed = open.namespaces.contains(&socket.netns) && !here.contains(&key(&socket));
        if missed && connection.seen.missed {
            changes.push(change(table, &connection, What::Closed, time));
            continue;
        }
        connection.seen.missed = missed;
        table.looks.udp.push((socket, connection));
    }
}

fn change(table: &ConnectionTable, connection: &Connection, what: What, time: Timestamp) -> Change {
    let mut change = table.change(connection, what, time);
    change.flow.protocol = Protocol::Udp;
    change
}
