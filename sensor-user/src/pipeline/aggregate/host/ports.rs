//! `BoundPorts`: what listens, and what its inbound connections did, a minute at a time.
//!
//! A port is told by process, local address, port, protocol and network namespace: two containers
//! that listen on the same port are two. Connections count to the address that they came to, so a
//! row of a wildcard (`0.0.0.0`, `::`) has no activity; it is left out where an address that it
//! covers has a row of the same process, port and protocol, and that row says `IsWildcardBind`.
//! `::` covers IPv4 too, unless the process listens on `0.0.0.0` beside it.
//!
//! Invariants. What a process's ports moved in a minute is what its inbound `VMConnection` rows
//! moved (but for an end that is told a minute before its beginning). For a port over time `LinksLive(t) = LinksLive(t-1) + LinksEstablished -
//! LinksTerminated`. In one minute at most `max` ports are told; further ones are counted.
//!
//! Bound UDP sockets are told where they had datagrams: which of the idle ones wait for somebody
//! and which have only asked, the kernel does not say.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::super::change::Change;
use super::super::flow::Direction;
use super::super::rows::{LONG_MAX, MinuteCounts, RowIdentity};
use super::{Listening, Minute};
use crate::base::collections::{FastMap, FastSet};
use crate::base::counters::Stats;
use crate::base::protocol::Protocol;
use crate::base::stable_id::stable_id;
use crate::pipeline::enrich::Process;
use crate::schema::BoundPortRow;
use crate::schema::Resource;
use crate::schema::SOURCE_SYSTEM;

/// All sockets of a process that wait on one port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Service {
    netns: u32,
    /// Path of the executable, or its name where no path is known.
    executable: String,
    port: u16,
    protocol: Protocol,
}

type Port = (Service, IpAddr);

#[derive(Debug)]
struct Live {
    links: u64,
    /// Ends that came before their beginnings, by clocks that differ a little.
    owed: u64,
    process: Arc<Process>,
}

/// Ports in the making.
#[derive(Debug)]
pub(super) struct BoundPorts {
    /// The agent's own namespace; records that know none are taken for its.
    home: u32,
    max: usize,
    /// Open minutes by their number since 1970.
    minutes: BTreeMap<i64, FastMap<Port, MinuteCounts>>,
    /// Ports with open connections at the end of the last closed minute.
    live: FastMap<Port, Live>,
    stats: Arc<Stats>,
}

/// What is told of a port in a minute.
#[derive(Debug)]
struct Told {
    counts: MinuteCounts,
    links_live: u64,
}

impl BoundPorts {
    pub(super) fn new(home: u32, max: usize, stats: Arc<Stats>) -> Self {
        Self { home, max, minutes: BTreeMap::new(), live: FastMap::default(), stats }
    }

    /// MinuteCounts a change that is in a row of that minute.
    pub(super) fn observe(&mut self, change: &Change, minute: i64) {
        let flow = &change.flow;
        if flow.direction != Direction::Inbound {
            return;
        }
        let service = Service {
            netns: self.netns(change.netns),
            executable: flow.process.executable().to_owned(),
            port: flow.local_port.unwrap_or(0),
            protocol: flow.protocol,
        };
        // Each has a row of `VMConnection`, whose table is bounded.
        let ports = self.minutes.entry(minute).or_default();
        ports
            .entry((service, flow.local))
            .or_insert_with(|| MinuteCounts::new(&flow.process))
            .add(change);
    }

    /// Whether a minute has something.
    pub(super) fn has(&self, minute: i64) -> bool {
        self.minutes.contains_key(&minute)
    }

    /// The first minute that has something.
    pub(super) fn first_minute(&self) -> Option<i64> {
        self.minutes.first_key_value().map(|(minute, _)| *minute)
    }

    /// The last one.
    pub(super) fn last_minute(&self) -> Option<i64> {
        self.minutes.last_key_value().map(|(minute, _)| *minute)
    }

    /// Closes a minute in which `listening` listened.
    pub(super) fn close(
        &mut self,
        minute: Minute,
        listening: Vec<Listening>,
        identity: &RowIdentity,
    ) -> Vec<BoundPortRow> {
        let counts = self.minutes.remove(&minute.number).unwrap_or_default();
        let mut told = self.settle(counts);
        let wildcards = self.add_listening(&mut told, listening);
        let resource = identity.resource();
        let mut rows = Vec::with_capacity(told.len());
        for ((service, address), port) in &told {
            let wildcard = wildcards.covers(service, *address);
            let is_idle_wildcard = address.is_unspecified() && port.counts.is_empty();
            if is_idle_wildcard && wildcards.is_covering_one_of(service, *address, &told) {
                continue;
            }
            let is_wildcard = (service.protocol == Protocol::Tcp).then_some(wildcard);
            let at = (minute, service, *address);
            rows.push(self.row(at, port, is_wildcard, (identity, &resource)));
        }
        rows
    }

    /// Brings the gauges up to the minute; gives all ports that had, or have, connections.
    fn settle(&mut self, mut counts: FastMap<Port, MinuteCounts>) -> BTreeMap<Port, Told> {
        for (port, live) in &self.live {
            if !counts.contains_key(port) {
                counts.insert(port.clone(), MinuteCounts::new(&live.process));
            }
        }
        let mut told = BTreeMap::new();
        for (port, mut counts) in counts {
            let (before, owed) =
                self.live.get(&port).map_or((0, 0), |live| (live.links, live.owed));
            let open = before.saturating_add(counts.established);
            let ends = counts.terminated.saturating_add(owed);
            counts.terminated = ends.min(open);
            let links = open - counts.terminated;
            // An end waits one minute for its beginning.
            let owed = ends.saturating_sub(open).saturating_sub(owed);
            if links == 0 && owed == 0 {
                self.live.remove(&port);
            } else {
                let process = Arc::clone(&counts.process);
                self.live.insert(port.clone(), Live { links, owed, process });
            }
            told.insert(port, Told { counts, links_live: links });
        }
        told
    }

    /// Adds what listened and had no connections.
    fn add_listening(
        &self,
        told: &mut BTreeMap<Port, Told>,
        listening: Vec<Listening>,
    ) -> Wildcards {
        let mut wildcards = Wildcards::default();
        for socket in listening {
            let service = Service {
                netns: self.netns(socket.netns),
                executable: socket.process.executable().to_owned(),
                port: socket.port,
                protocol: Protocol::Tcp,
            };
            wildcards.add(&service, socket.address);
            let port = (service, socket.address);
            if told.contains_key(&port) {
                continue;
            }
            if told.len() >= self.max {
                self.stats.bound_ports_dropped_full.increment();
                continue;
            }
            told.insert(port, Told { counts: MinuteCounts::new(&socket.process), links_live: 0 });
        }
        wildcards
    }

    const fn netns(&self, told: u32) -> u32 {
        if told == 0 { self.home } else { told }
    }

    fn row(
        &self,
        (minute, service, address): (Minute, &Service, IpAddr),
        told: &Told,
        is_wildcard_bind: Option<bool>,
        (identity, resource): (&RowIdentity, &Resource),
    ) -> BoundPortRow {
        let Told { counts, links_live } = told;
        let process = &counts.process;
        let (machine, process_id) = (identity.machine(), identity.process(&service.executable));
        let (ip, port) = (address.to_string(), service.port.to_string());
        let protocol = service.protocol.as_str();
        // A container's id outlives its namespace; the host's own goes without saying.
        let place = match (service.netns == self.home, process.container_id.as_str()) {
            (true, _) => String::new(),
            (false, "") => service.netns.to_string(),
            (false, container) => container.to_owned(),
        };
        let mut parts = vec![machine.as_str(), &process_id, &ip, &port, protocol];
        parts.extend((!place.is_empty()).then_some(place.as_str()));
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
            resource_id: resource.id.clone(),
            subscription_id: resource.subscription.clone(),
            container_id: process.container_id.clone(),
            network_namespace: (service.netns != 0).then_some(service.netns.into()),
            ..BoundPortRow::default()
        }
    }
}

/// The sockets of a minute that take every address.
#[derive(Debug, Default)]
struct Wildcards {
    /// By their owner.
    owned: FastSet<Port>,
    /// Services that listen at all.
    services: FastSet<Service>,
    /// Whoever owns them: who accepts need not be who listens (socket activation).
    any: HashSet<(u32, u16, IpAddr)>,
}

impl Wildcards {
    fn add(&mut self, service: &Service, address: IpAddr) {
        self.services.insert(service.clone());
        if address.is_unspecified() {
            self.owned.insert((service.clone(), address));
            self.any.insert((service.netns, service.port, address));
        }
    }

    /// Whether a wildcard takes what comes to `address` of that service: its own, or somebody's
    /// where it has no socket on that port itself.
    fn covers(&self, service: &Service, address: IpAddr) -> bool {
        if self.services.contains(service) {
            return covers(address, |any| self.owned.contains(&(service.clone(), any))).is_some();
        }
        let port = (service.netns, service.port);
        covers(address, |any| self.any.contains(&(port.0, port.1, any))).is_some()
    }

    /// Whether `wildcard` covers another address of the service that is told.
    fn is_covering_one_of(
        &self,
        service: &Service,
        wildcard: IpAddr,
        told: &BTreeMap<Port, Told>,
    ) -> bool {
        let first = (service.clone(), IpAddr::from([0_u8; 4]));
        let same = told.range(first..).take_while(|((other, _), _)| other == service);
        let mut addresses = same.map(|((_, address), _)| *address);
        let owned = |any| self.owned.contains(&(service.clone(), any));
        addresses.any(|it| !it.is_unspecified() && covers(it, owned) == Some(wildcard))
    }
}

/// The wildcard, of those that `exist`, which takes what comes to `address`.
fn covers(address: IpAddr, exist: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (v4, v6) = (IpAddr::from([0_u8; 4]), IpAddr::from([0_u16; 8]));
    let first = if address.is_ipv4() { v4 } else { v6 };
    [first, v6].into_iter().find(|any| exist(*any))
}
