//! Matcher: Flow to Hit. (`match` is a keyword, hence the name.)
//!
//! Every live indicator whose prefix covers the remote address, and whose ports the connection has,
//! is a hit, whatever the direction and whether or not the connection came about. So is one that covers what that address stands
//! for: see [`Via`].

mod via;

pub use via::{Covering, Via, carried, covering, covering_addresses};

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;

use super::aggregate::{Flag, Flow, Phase, Remote};
use crate::base::counters::Stats;
use crate::intel::{Indicator, IndicatorSet, canonical};

/// A connection's remote end is covered by this indicator.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Which indicator.
    pub indicator: Arc<Indicator>,
    /// By which of the remote end's addresses.
    pub via: Via,
    /// That address, canonical.
    pub address: IpAddr,
}

/// Addresses and networks that never alert, whatever a feed says.
#[derive(Debug, Default)]
pub struct AllowList {
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
}

impl AllowList {
    /// A list of these networks (IPv4-mapped ones are IPv4).
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut list = Self::default();
        for network in networks {
            match canonical(network.trunc()) {
                IpNet::V4(network) => list.v4.insert(network),
                IpNet::V6(network) => list.v6.insert(network),
            };
        }
        list
    }

    /// Whether a network of the list contains `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.get_lpm(&Ipv4Net::from(v4)).is_some(),
            IpAddr::V6(v6) => self.v6.get_lpm(&Ipv6Net::from(v6)).is_some(),
        }
    }
}

/// Holds the set that is swapped under it, and what never alerts.
#[derive(Debug)]
pub struct Matcher {
    set: Arc<ArcSwap<IndicatorSet>>,
    /// What `set` held at the last [`Matcher::refresh`].
    current: Arc<IndicatorSet>,
    allow: AllowList,
    /// Processes whose traffic is recorded but never alerts: the agent itself.
    own: HashSet<u32>,
    stats: Arc<Stats>,
}

impl Matcher {
    /// SocketScanner up in what `set` holds at each [`Matcher::refresh`]; flows of the processes `own` never alert.
    pub fn new(
        set: Arc<ArcSwap<IndicatorSet>>,
        allow: AllowList,
        own: HashSet<u32>,
        stats: Arc<Stats>,
    ) -> Self {
        let current = set.load_full();
        Self { set, current, allow, own, stats }
    }

    /// Goes over to the newest set; true where that is another one.
    pub fn refresh(&mut self) -> bool {
        let newest = self.set.load();
        if Arc::ptr_eq(&newest, &self.current) {
            return false;
        }
        self.current = Arc::clone(&newest);
        true
    }

    /// Nothing but `allow` is held back from here on.
    pub fn set_allowed(&mut self, allow: AllowList) {
        self.allow = allow;
    }

    /// The set that is looked up in.
    pub fn current(&self) -> &IndicatorSet {
        &self.current
    }

    /// Whether a flow is of the agent itself.
    pub fn is_own(&self, flow: &Flow) -> bool {
        flow.process.pid.is_some_and(|pid| self.own.contains(&pid))
    }

    /// The agent's own process as the kernel numbers it, once that is known: in a pid namespace it
    /// is not the number that the agent has for itself, which is another process's.
    pub fn set_own(&mut self, pid: u32) {
        if !self.own.contains(&pid) {
            self.own = HashSet::from([pid]);
        }
    }

    /// All hits of a flow; when its translation is told, those by it. What is held back by policy is
    /// counted once, at first sight.
    pub fn hits(&self, flow: &Flow) -> Vec<Hit> {
        let set = &*self.current;
        let mut hits: Vec<Hit> = covering(set, flow.peer())
            .filter(|it| it.indicator.counts(flow.time, flow.time))
            // What the connection itself met was a hit when it opened.
            .filter(|it| flow.phase != Phase::Translated || it.via == Via::Conntrack)
            .map(Covering::hit)
            .collect();
        if hits.is_empty() {
            return hits;
        }
        let count = |hits: &[Hit]| {
            if flow.phase.is_first_sight() { hits.len() as u64 } else { 0 }
        };
        if self.is_own(flow) {
            self.stats.hits_suppressed_own_traffic.add(count(&hits));
            return Vec::new();
        }
        let found = count(&hits);
        let translated = flow.translated.map(|translated| translated.remote_ip);
        hits.retain(|hit| !self.is_allowed(hit.via, flow.remote, translated));
        let left = count(&hits);
        self.stats.hits_suppressed_allow_list.add(found.saturating_sub(left));
        self.stats.hits_found.add(left);
        hits
    }

    /// The best of the indicators that cover the remote end of a row now (see [`Flag`]), by what
    /// makes a hit of a flow.
    pub fn flag(&self, remote: &Remote) -> Option<Flag> {
        if remote.pid.is_some_and(|pid| self.own.contains(&pid)) {
            return None;
        }
        let set = &*self.current;
        let translated = remote.peer.translated.map(|translated| translated.ip());
        covering(set, remote.peer)
            .filter(|it| it.indicator.counts(remote.since, remote.since))
            .filter(|it| !self.is_allowed(it.via, remote.peer.address, translated))
            .map(|it| Flag { indicator: it.indicator, address: it.address })
            .max_by(Flag::rank)
    }

    /// Whether the allow-list names the end that a hit is about: by the address that the indicator
    /// covers, or by the one that carries it. The two ends of a translation are not the same end:
    /// an allowed service address does not excuse what is behind it.
    fn is_allowed(&self, via: Via, remote: IpAddr, translated: Option<IpAddr>) -> bool {
        let end = match (via, translated) {
            (Via::Conntrack, Some(translated)) => translated.to_canonical(),
            _ => remote,
        };
        self.allow.contains(end)
            || carried(end).is_some_and(|(_, v4)| self.allow.contains(v4.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::protocol::Protocol;
    use crate::intel::{PortRange, Ports, parse_prefix};
    use crate::pipeline::aggregate::{Attribution, Direction, NatMapping, Peer};
    use crate::pipeline::enrich::Process;

    fn flow(remote_port: Option<u16>, local_port: Option<u16>) -> Flow {
        Flow {
            time: jiff::Timestamp::UNIX_EPOCH,
            phase: Phase::Opened,
            computer: "host.example".into(),
            direction: Direction::Outbound,
            protocol: Protocol::Tcp,
            local: "192.0.2.1".parse().unwrap(),
            local_port,
            remote: "203.0.113.7".parse().unwrap(),
            remote_port,
            process: Arc::new(Process::default()),
            attribution: Attribution::Connect,
            connections: 1,
            preexisting: false,
            translated: None,
            bytes_sent: 0,
            bytes_received: 0,
        }
    }

    /// Of `prefixes`, which all are of one indicator that asks for port 443.
    fn matcher(prefixes: &[&str]) -> Matcher {
        let indicator = |prefix: &&str| {
            let ports =
                Ports { remote: vec![PortRange { first: 443, last: 443 }], local: Vec::new() };
            let blank = Indicator::blank(parse_prefix(prefix).unwrap());
            Arc::new(Indicator { id: "indicator--1".to_owned(), ports, ..blank })
        };
        let set = IndicatorSet::build(prefixes.iter().map(indicator).collect());
        let set = Arc::new(ArcSwap::from_pointee(set));
        Matcher::new(set, AllowList::default(), HashSet::new(), Arc::default())
    }

    #[test]
    fn an_indicator_with_ports_is_a_hit_where_the_port_is_known_and_right() {
        let matcher = matcher(&["203.0.113.7", "203.0.113.0/24"]);
        for (remote_port, local_port, hits) in
            [(Some(443), None, 1), (Some(80), Some(443), 0), (None, None, 0), (Some(0), None, 0)]
        {
            let flow = flow(remote_port, local_port);
            assert_eq!(matcher.hits(&flow).len(), hits, "{remote_port:?}");
            let remote = Remote { peer: flow.peer(), since: flow.time, pid: None };
            assert_eq!(matcher.flag(&remote).is_some(), hits == 1, "{remote_port:?}");
        }
    }

    #[test]
    fn the_translated_port_counts_for_the_translated_address_and_the_hit_comes_once() {
        let behind = |remote_port| NatMapping {
            local_ip: "192.0.2.1".parse().unwrap(),
            local_port: 7,
            remote_ip: "198.51.100.9".parse().unwrap(),
            remote_port,
        };
        let matcher = matcher(&["203.0.113.7", "198.51.100.9"]);
        for (port, translated, opened, later) in [
            (443, None, 1, 0),
            (443, Some(behind(443)), 1, 0),
            (80, Some(behind(443)), 1, 1),
            (80, Some(behind(80)), 0, 0),
        ] {
            let flow = Flow { translated, ..flow(Some(port), None) };
            assert_eq!(matcher.hits(&flow).len(), opened, "{port} {translated:?}");
            // What the connection itself met was told before.
            let flow = Flow { phase: Phase::Translated, ..flow };
            assert_eq!(matcher.hits(&flow).len(), later, "{port} {translated:?}");
        }
        let address = "203.0.113.9".parse().unwrap();
        let translated = Some("198.51.100.9:443".parse().unwrap());
        let peer = Peer { address, port: None, local_port: Some(443), translated };
        let remote = Remote { peer, since: jiff::Timestamp::UNIX_EPOCH, pid: None };
        let flag = matcher.flag(&remote).unwrap();
        assert_eq!(flag.address.to_string(), "198.51.100.9");
    }
}
