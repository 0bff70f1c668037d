//! UDP sockets that were connected before the agent: flows that are told at the first look, and end
//! as any other does. The kernel's counts of them begin with their next datagram.
//!
//! UDP has no side that began. A connected socket is outbound, unless another, unconnected socket
//! is bound to its address and port: that is a server which connects a socket for each client.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::UdpTable;
use super::flow::Tracked;
use crate::pipeline::aggregate::change::Change;
use crate::pipeline::aggregate::flow::Direction;
use crate::pipeline::capture::{OpenSocket, OpenSockets};
use crate::pipeline::decode::FlowKey;
use crate::pipeline::enrich::Process;

impl UdpTable {
    /// Opens what a look at `time` found connected and no record has told. `owner` gives the holder
    /// of the socket with an inode number.
    pub fn found(
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
            let times = (time, open.began_boot_ns);
            let tracked = Tracked::found(socket, self.last_number, times, (direction, process));
            self.flows.push(key, tracked);
            let of_socket = self.sockets.entry(key.cookie).or_default();
            of_socket.remotes.insert((key.remote, key.remote_port));
            self.tell(&key, changes);
        }
    }

    /// A flow that a look found without its cookie (in /proc) gets it with its first datagram.
    pub(super) fn name_found(&mut self, key: &FlowKey, local_port: u16) {
        let unnamed = FlowKey { cookie: 0, ..*key };
        if self.flows.peek(&unnamed).is_none_or(|flow| flow.local_port != local_port) {
            return;
        }
        if let Some(flow) = self.flows.pop(&unnamed) {
            self.flows.push(*key, flow);
            let remote = (key.remote, key.remote_port);
            self.sockets.entry(key.cookie).or_default().remotes.insert(remote);
            if let Some(socket) = self.sockets.get_mut(&0) {
                socket.remotes.remove(&remote);
            }
        }
    }
}

const fn key(socket: &OpenSocket) -> FlowKey {
    let ends = socket.ends;
    FlowKey { cookie: socket.cookie, remote: ends.remote, remote_port: ends.remote_port }
}

/// Namespace, port and address of the sockets that are bound and not connected.
fn servers(open: &OpenSockets) -> HashSet<(u32, u16, IpAddr)> {
    let bound = open.udp.iter().filter(|socket| socket.ends.remote_port == 0);
    bound.map(|socket| (socket.netns, socket.ends.local_port, socket.ends.local)).collect()
}

fn is_served(socket: &OpenSocket, servers: &HashSet<(u32, u16, IpAddr)>) -> bool {
    let local = socket.ends.local;
    let all = [local, IpAddr::from([0_u8; 4]), IpAddr::from([0_u16; 8])];
    // `::` takes IPv4 in too, 0.0.0.0 takes no IPv6.
    all.iter().any(|at| {
        (at.is_ipv6() || local.is_ipv4())
            && servers.contains(&(socket.netns, socket.ends.local_port, *at))
    })
}
