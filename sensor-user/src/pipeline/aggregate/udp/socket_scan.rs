//! UDP sockets that were connected before the agent started. Their flows open at the initial socket
//! scan. The kernel counts them from their next datagram on.
//!
//! UDP has no initiating end. A connected socket is outbound, unless another, unconnected socket is
//! bound to its address and port: that is a server which connects a socket for each client.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::UdpTable;
use super::flow::TrackedFlow;
use crate::pipeline::aggregate::change::Change;
use crate::pipeline::aggregate::flow::Direction;
use crate::pipeline::capture::{OpenSocket, OpenSockets};
use crate::pipeline::decode::FlowKey;
use crate::pipeline::enrich::Process;

impl UdpTable {
    /// Opens flows for the connected sockets of a scan at `time` that have none. `owner` returns the
    /// owner of the socket with an inode number.
    pub fn apply_scan(
        &mut self,
        open: &OpenSockets,
        time: Timestamp,
        owner: &mut dyn FnMut(u32) -> Option<Arc<Process>>,
        changes: &mut Vec<Change>,
    ) {
        let servers = servers(open);
        for socket in open.udp.iter().filter(|socket| socket.ends.remote_port != 0) {
            let key = key(socket);
            if self.flows.contains(&key) {
                continue;
            }
            if self.flows.len() >= self.max {
                self.stats.sockets_dropped_full.increment();
                continue;
            }
            self.stats.connections_found_by_scan.increment();
            self.last_number = self.last_number.saturating_add(1);
            let process = if socket.inode == 0 { None } else { owner(socket.inode) };
            let direction =
                if is_served(socket, &servers) { Direction::Inbound } else { Direction::Outbound };
            let (number, boot_ns) = (self.last_number, open.began_boot_ns);
            let tracked = TrackedFlow::from_scan(socket, number, time, boot_ns, direction, process);
            self.flows.push(key, tracked);
            let of_socket = self.sockets.entry(key.cookie).or_default();
            of_socket.all.insert(key);
            self.emit_opened(&key, changes);
            self.emit_established(&key, changes);
        }
    }

    /// Sets the cookie of a flow from a scan without cookies (/proc), at its first datagram.
    pub(super) fn set_cookie(&mut self, key: &FlowKey) {
        let without_cookie = FlowKey { cookie: 0, ..*key };
        if let Some(flow) = self.flows.pop(&without_cookie) {
            self.flows.push(*key, flow);
            self.sockets.entry(key.cookie).or_default().all.insert(*key);
            if let Some(socket) = self.sockets.get_mut(&0) {
                socket.all.remove(&without_cookie);
            }
        }
    }
}

const fn key(socket: &OpenSocket) -> FlowKey {
    let ends = socket.ends;
    FlowKey {
        cookie: socket.cookie,
        remote: ends.remote,
        remote_port: ends.remote_port,
        local_port: ends.local_port,
    }
}

/// Namespace, port and address of the sockets that are bound but not connected.
fn servers(open: &OpenSockets) -> HashSet<(u32, u16, IpAddr)> {
    let bound = open.udp.iter().filter(|socket| socket.ends.remote_port == 0);
    bound.map(|socket| (socket.netns, socket.ends.local_port, socket.ends.local)).collect()
}

fn is_served(socket: &OpenSocket, servers: &HashSet<(u32, u16, IpAddr)>) -> bool {
    let local = socket.ends.local;
    let all = [local, IpAddr::from([0_u8; 4]), IpAddr::from([0_u16; 8])];
    // `::` also accepts IPv4; 0.0.0.0 does not accept IPv6.
    all.iter().any(|at| {
        (at.is_ipv6() || local.is_ipv4())
            && servers.contains(&(socket.netns, socket.ends.local_port, *at))
    })
}
