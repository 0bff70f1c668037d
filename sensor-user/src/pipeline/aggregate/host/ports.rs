//! `BoundPorts`: listening ports and the counts of their inbound connections, one minute at a time.
//!
//! The key of a port is process, local address, port, protocol and network namespace: two containers
//! that listen on the same port have two rows. Connections count to the address that they were
//! accepted on, so a row of a wildcard (`0.0.0.0`, `::`) has no activity. It is omitted if an address
//! that it covers has a row of the same process, port and protocol; that row has `IsWildcardBind`.
//! `::` also covers IPv4, unless the process also listens on `0.0.0.0`.
//!
//! Invariants.
//! - The bytes of the ports of a process in a minute are those of its inbound `VMConnection` rows
//!   (except for a close that is reported a minute before its open).
//! - For each port, `LinksLive(t) = LinksLive(t-1) + LinksEstablished - LinksTerminated`.
//! - A minute has at most `max` ports; further ones are counted.
//!
//! A bound UDP socket has a row only if it had datagrams: the kernel does not show whether an idle
//! one is a server or a client.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::super::change::{Change, Guess};
use super::super::flow::Direction;
use super::super::rows::{Counted, LONG_MAX, MinuteCounts, RowIdentity, move_link};
use super::{ListeningSocket, Minute};
use crate::base::collections::{FastMap, FastSet};
use crate::base::counters::Stats;
use crate::base::protocol::Protocol;
use crate::base::stable_id::stable_id;
use crate::pipeline::enrich::Process;
use crate::schema::BoundPortRow;
use crate::schema::SOURCE_SYSTEM;

/// All listening sockets of an executable on one port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Service {
    netns: u32,
    /// Path of the executable, or its name if the path is unknown.
    executable: String,
    port: u16,
    protocol: Protocol,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct PortKey {
    service: Service,
    address: IpAddr,
}

/// State of a port with open connections.
#[derive(Debug)]
struct LivePort {
    links: u64,
    /// Closes that were reported before their opens, since clocks differ a little.
    early_closes: u64,
    process: Arc<Process>,
}

/// Counts of ports by minute.
#[derive(Debug)]
pub(super) struct BoundPorts {
    /// Network namespace of the agent; that of records without a namespace.
    own_netns: u32,
    max: usize,
    /// Open minutes by their number since 1970.
    minutes: BTreeMap<i64, FastMap<PortKey, MinuteCounts>>,
    /// Ports with open connections at the end of the last closed minute.
    live: FastMap<PortKey, LivePort>,
    stats: Arc<Stats>,
}

/// Counts of a port in a closed minute.
#[derive(Debug)]
struct ClosedCounts {
    counts: MinuteCounts,
    links_live: u64,
}

impl BoundPorts {
    pub(super) fn new(own_netns: u32, max: usize, stats: Arc<Stats>) -> Self {
        Self { own_netns, max, minutes: BTreeMap::new(), live: FastMap::default(), stats }
    }

    /// Counts a change whose connection row is in `minute`.
    pub(super) fn observe(&mut self, change: &Change, minute: i64) {
        let flow = &change.flow;
        if flow.direction != Direction::Inbound {
            return;
        }
        let key = self.key(change, &flow.process);
        // Bounded, since each port has a row in the table of `VMConnection`, which is.
        let ports = self.minutes.entry(minute).or_default();
        ports.entry(key).or_insert_with(|| MinuteCounts::new(&flow.process)).add(change);
    }

    /// Moves a connection from the port of a guessed process to that of its owner.
    pub(super) fn reattribute(&mut self, change: &Change, guess: &Guess, counted: Counted) {
        if change.flow.direction != Direction::Inbound {
            return;
        }
        let (old, new) = (self.key(change, &guess.process), self.key(change, &change.flow.process));
        let has_old = self.live.contains_key(&old);
        let ports = self.minutes.entry(counted.minute).or_default();
        let new = ports.entry(new).or_insert_with(|| MinuteCounts::new(&change.flow.process));
        new.add_link(&change.flow.process);
        let before = ports.entry(old.clone()).or_insert_with(|| MinuteCounts::new(&guess.process));
        if move_link(before, counted.is_moved) && !has_old {
            ports.remove(&old);
        }
    }

    fn key(&self, change: &Change, process: &Process) -> PortKey {
        let flow = &change.flow;
        let service = Service {
            netns: self.netns(change.netns),
            executable: process.executable().to_owned(),
            port: flow.local_port.unwrap_or(0),
            protocol: flow.protocol,
        };
        PortKey { service, address: flow.local }
    }

    /// True if a minute has changes.
    pub(super) fn has(&self, minute: i64) -> bool {
        self.minutes.contains_key(&minute)
    }

    /// First minute with changes.
    pub(super) fn first_minute(&self) -> Option<i64> {
        self.minutes.first_key_value().map(|(minute, _)| *minute)
    }

    /// Last minute with changes.
    pub(super) fn last_minute(&self) -> Option<i64> {
        self.minutes.last_key_value().map(|(minute, _)| *minute)
    }

    /// Closes a minute, during which the sockets `listening` listened.
    pub(super) fn close(
        &mut self,
        minute: Minute,
        listening: Vec<ListeningSocket>,
        identity: &RowIdentity,
    ) -> Vec<BoundPortRow> {
        let counts = self.minutes.remove(&minute.number).unwrap_or_default();
        let mut ports = self.close_counts(counts);
        let wildcards = self.add_listening(&mut ports, listening);
        let resource = identity.resource();
        let mut rows = Vec::with_capacity(ports.len());
        for (key, port) in &ports {
            let is_wildcard = wildcards.covers(key);
            let is_idle_wildcard = key.address.is_unspecified() && port.counts.is_empty();
            if is_idle_wildcard && wildcards.is_covering_one_of(key, &ports) {
                continue;
            }
            let is_wildcard = (key.service.protocol == Protocol::Tcp).then_some(is_wildcard);
            rows.push(BoundPortRow {
                resource_id: resource.id.clone(),
                subscription_id: resource.subscription.clone(),
                ..self.row(minute, key, port, is_wildcard, identity)
            });
        }
        rows
    }

    /// Updates the gauges for the minute. Returns all ports that have or had connections.
    fn close_counts(
        &mut self,
        mut counts: FastMap<PortKey, MinuteCounts>,
    ) -> BTreeMap<PortKey, ClosedCounts> {
        for (port, live) in &self.live {
            if !counts.contains_key(port) {
                counts.insert(port.clone(), MinuteCounts::new(&live.process));
            }
        }
        let mut ports = BTreeMap::new();
        for (port, mut counts) in counts {
            let (before, early) =
                self.live.get(&port).map_or((0, 0), |live| (live.links, live.early_closes));
            let open = before.saturating_add(counts.established);
            let closes = counts.terminated.saturating_add(early);
            counts.terminated = closes.min(open);
            let links = open - counts.terminated;
            // A close waits one minute for its open.
            let early_closes = closes.saturating_sub(open).saturating_sub(early);
            if links == 0 && early_closes == 0 {
                self.live.remove(&port);
            } else {
                let process = Arc::clone(&counts.process);
                self.live.insert(port.clone(), LivePort { links, early_closes, process });
            }
            ports.insert(port, ClosedCounts { counts, links_live: links });
        }
        ports
    }

    /// Adds the listening sockets without connections.
    fn add_listening(
        &self,
        ports: &mut BTreeMap<PortKey, ClosedCounts>,
        listening: Vec<ListeningSocket>,
    ) -> Wildcards {
        let mut wildcards = Wildcards::default();
        for socket in listening {
            let service = Service {
                netns: self.netns(socket.netns),
                executable: socket.process.executable().to_owned(),
                port: socket.port,
                protocol: Protocol::Tcp,
            };
            let key = PortKey { service, address: socket.address };
            wildcards.add(&key);
            if ports.contains_key(&key) {
                continue;
            }
            if ports.len() >= self.max {
                self.stats.bound_ports_dropped_full.increment();
                continue;
            }
            let counts = MinuteCounts::new(&socket.process);
            ports.insert(key, ClosedCounts { counts, links_live: 0 });
        }
        wildcards
    }

    const fn netns(&self, reported: u32) -> u32 {
        if reported == 0 { self.own_netns } else { reported }
    }

    fn row(
        &self,
        minute: Minute,
        PortKey { service, address }: &PortKey,
        ClosedCounts { counts, links_live }: &ClosedCounts,
        is_wildcard_bind: Option<bool>,
        identity: &RowIdentity,
    ) -> BoundPortRow {
        let process = &counts.process;
        let (machine, process_id) = (identity.machine(), identity.process(&service.executable));
        let (ip, port) = (address.to_string(), service.port.to_string());
        let protocol = service.protocol.as_str();
        // The id of a container is stable, the number of its namespace is not. The namespace of the
        // agent is the default.
        let namespace = match (service.netns == self.own_netns, process.container_id.as_str()) {
            (true, _) => String::new(),
            (false, "") => service.netns.to_string(),
            (false, container) => container.to_owned(),
        };
        let mut parts = vec![machine.as_str(), &process_id, &ip, &port, protocol];
        parts.extend((!namespace.is_empty()).then_some(namespace.as_str()));
        let [responses, response_time_min, response_time_max, response_time_sum] =
            counts.responses.columns();
        BoundPortRow {
            time_generated: minute.start(),
            computer: identity.computer.to_string(),
            agent_id: identity.agent_id.clone(),
            port_id: stable_id(&parts),
            machine,
            process: process_id,
            process_name: process.name.clone(),
            ip,
            port: service.port,
            protocol: protocol.to_owned(),
            is_wildcard_bind,
            links_established: counts.established,
            links_terminated: counts.terminated,
            links_live: *links_live,
            bytes_sent: counts.bytes_sent.min(LONG_MAX),
            bytes_received: counts.bytes_received.min(LONG_MAX),
            responses,
            response_time_min,
            response_time_max,
            response_time_sum,
            source_system: SOURCE_SYSTEM.to_owned(),
            r#type: BoundPortRow::TABLE.name.to_owned(),
            container_id: process.container_id.clone(),
            network_namespace: (service.netns != 0).then_some(service.netns.into()),
            ..BoundPortRow::default()
        }
    }
}

/// Wildcard sockets of a minute.
#[derive(Debug, Default)]
struct Wildcards {
    /// Wildcard sockets by their owner.
    owned: FastSet<PortKey>,
    /// Services with any listening socket.
    services: FastSet<Service>,
    /// Wildcard sockets of any owner: with socket activation another process may accept.
    any: HashSet<(u32, u16, IpAddr)>,
}

impl Wildcards {
    fn add(&mut self, key: &PortKey) {
        let PortKey { service, address } = key;
        self.services.insert(service.clone());
        if address.is_unspecified() {
            self.owned.insert(key.clone());
            self.any.insert((service.netns, service.port, *address));
        }
    }

    fn is_owned(&self, service: &Service, address: IpAddr) -> bool {
        self.owned.contains(&PortKey { service: service.clone(), address })
    }

    /// True if a wildcard socket accepts connections to the address of the key: one of the same
    /// service, or of any owner if the service has no socket on that port.
    fn covers(&self, PortKey { service, address }: &PortKey) -> bool {
        let has_socket = self.services.contains(service);
        let exists = |any| {
            if has_socket {
                self.is_owned(service, any)
            } else {
                self.any.contains(&(service.netns, service.port, any))
            }
        };
        covering_wildcard(*address, exists).is_some()
    }

    /// True if the wildcard covers another address of the same service that has counts.
    fn is_covering_one_of(
        &self,
        wildcard: &PortKey,
        ports: &BTreeMap<PortKey, ClosedCounts>,
    ) -> bool {
        let service = &wildcard.service;
        let first = PortKey { service: service.clone(), address: IpAddr::from([0_u8; 4]) };
        let same = ports.range(first..).take_while(|(key, _)| key.service == *service);
        let mut addresses = same.map(|(key, _)| key.address);
        addresses.any(|it| {
            !it.is_unspecified()
                && covering_wildcard(it, |any| self.is_owned(service, any))
                    == Some(wildcard.address)
        })
    }
}

/// Wildcard address that accepts connections to `address`, among those that `exist`.
fn covering_wildcard(address: IpAddr, exist: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (v4, v6) = (IpAddr::from([0_u8; 4]), IpAddr::from([0_u16; 8]));
    let first = if address.is_ipv4() { v4 } else { v6 };
    [first, v6].into_iter().find(|any| exist(*any))
}
