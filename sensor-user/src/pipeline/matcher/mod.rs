//! Matcher stage: `Flow` to `Hit`. (`match` is a keyword, hence the name.)
//!
//! A hit is a live indicator whose prefix covers the remote address and whose ports fit the
//! connection, in either direction, established or not. An indicator also hits if it covers an
//! address that the remote address embeds or is mapped to: see [`Via`].

mod via;

pub use via::{Via, covering, covering_addresses, embedded_ipv4};

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;

use super::aggregate::{Flow, Phase, RowIndicator, RowRemote};
use crate::base::counters::Stats;
use crate::intel::{Indicator, IndicatorSet, canonical};

/// Indicator that covers the remote end of a connection.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Indicator that was hit.
    pub indicator: Arc<Indicator>,
    /// Relation of the covered address to the remote end.
    pub via: Via,
    /// Covered address, in canonical form.
    pub address: IpAddr,
}

/// Addresses and networks that never raise an alert, whatever a feed contains.
#[derive(Debug, Default)]
pub struct AllowList {
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
}

impl AllowList {
    /// Creates a list of networks. IPv4-mapped networks are stored as IPv4.
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

    /// True if a network of the list contains `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.get_lpm(&Ipv4Net::from(v4)).is_some(),
            IpAddr::V6(v6) => self.v6.get_lpm(&Ipv6Net::from(v6)).is_some(),
        }
    }
}

/// Matches flows with the current indicator set, except for the allow-list and the agent's own
/// traffic.
#[derive(Debug)]
pub struct Matcher {
    set: Arc<ArcSwap<IndicatorSet>>,
    /// Content of `set` at the last [`Matcher::refresh`].
    current: Arc<IndicatorSet>,
    allow: AllowList,
    /// Processes of the agent itself, whose traffic is recorded but raises no alert.
    own: HashSet<u32>,
    stats: Arc<Stats>,
}

impl Matcher {
    /// Creates a matcher that loads `set` at each [`Matcher::refresh`]. Flows of the processes `own` never alert.
    pub fn new(
        set: Arc<ArcSwap<IndicatorSet>>,
        allow: AllowList,
        own: HashSet<u32>,
        stats: Arc<Stats>,
    ) -> Self {
        let current = set.load_full();
        Self { set, current, allow, own, stats }
    }

    /// Switches to the newest set. True if it has changed.
    pub fn refresh(&mut self) -> bool {
        let newest = self.set.load();
        if Arc::ptr_eq(&newest, &self.current) {
            return false;
        }
        self.current = Arc::clone(&newest);
        true
    }

    /// Replaces the allow-list for later flows.
    pub fn set_allowed(&mut self, allow: AllowList) {
        self.allow = allow;
    }

    /// Returns the set in use.
    pub fn current(&self) -> &IndicatorSet {
        &self.current
    }

    /// True if a flow belongs to the agent itself.
    pub fn is_own(&self, flow: &Flow) -> bool {
        flow.process.pid.is_some_and(|pid| self.own.contains(&pid))
    }

    /// Sets the process id of the agent in the initial PID namespace, once known. In a nested PID
    /// namespace the id that the agent reads for itself is that of another process.
    pub fn set_own(&mut self, pid: u32) {
        if !self.own.contains(&pid) {
            self.own = HashSet::from([pid]);
        }
    }

    /// Returns the hits of a flow. Once its NAT mapping is known, these are the hits on the mapped
    /// address. Suppressed hits are counted once per connection, at first sight.
    pub fn hits(&self, flow: &Flow) -> Vec<Hit> {
        let set = &*self.current;
        let mut hits: Vec<Hit> = covering(set, flow.peer())
            .filter(|it| it.indicator.counts(flow.time, flow.time))
            // Hits on the address of the socket were raised when the connection opened.
            .filter(|it| flow.phase != Phase::Translated || it.via == Via::Conntrack)
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

    /// Returns the best indicator that covers the remote end of a row now (see [`RowIndicator`]), by
    /// the same rules as the hits of a flow.
    pub fn row_indicator(&self, remote: &RowRemote) -> Option<RowIndicator> {
        if remote.pid.is_some_and(|pid| self.own.contains(&pid)) {
            return None;
        }
        let set = &*self.current;
        let translated = remote.peer.translated.map(|translated| translated.ip());
        covering(set, remote.peer)
            .filter(|it| it.indicator.counts(remote.since, remote.since))
            .filter(|it| !self.is_allowed(it.via, remote.peer.address, translated))
            .map(|it| RowIndicator { indicator: it.indicator, address: it.address })
            .max_by(RowIndicator::rank)
    }

    /// True if the allow-list contains the end that was hit: the covered address, or the address that
    /// embeds it. The two sides of a NAT mapping are different ends: an allowed service address does
    /// not allow the backend behind it.
    fn is_allowed(&self, via: Via, remote: IpAddr, translated: Option<IpAddr>) -> bool {
        let end = match (via, translated) {
            (Via::Conntrack, Some(translated)) => translated.to_canonical(),
            _ => remote,
        };
        self.allow.contains(end)
            || embedded_ipv4(end).is_some_and(|(_, v4)| self.allow.contains(v4.into()))
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

    /// Matcher with one indicator for all `prefixes`, restricted to port 443.
    fn matcher(prefixes: &[&str]) -> Matcher {
        let indicator = |prefix: &&str| {
            let ports =
                Ports { remote: vec![PortRange { first: 443, last: 443 }], local: Vec::new() };
            let blank = Indicator::blank(parse_prefix(prefix).unwrap());
            Arc::new(Indicator { id: "indicator--1".to_owned(), ports, ..blank })
        };
        let set = IndicatorSet::from_indicators(prefixes.iter().map(indicator).collect());
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
            let remote = RowRemote { peer: flow.peer(), since: flow.time, pid: None };
            assert_eq!(matcher.row_indicator(&remote).is_some(), hits == 1, "{remote_port:?}");
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
            // Hits on the address of the socket were raised before.
            let flow = Flow { phase: Phase::Translated, ..flow };
            assert_eq!(matcher.hits(&flow).len(), later, "{port} {translated:?}");
        }
        let address = "203.0.113.9".parse().unwrap();
        let translated = Some("198.51.100.9:443".parse().unwrap());
        let peer = Peer { address, port: None, local_port: Some(443), translated };
        let remote = RowRemote { peer, since: jiff::Timestamp::UNIX_EPOCH, pid: None };
        let found = matcher.row_indicator(&remote).unwrap();
        assert_eq!(found.address.to_string(), "198.51.100.9");
    }
}
