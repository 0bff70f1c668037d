//! Matcher: Flow to Hit. (`match` is a keyword, hence the name.)
//!
//! Every live indicator whose prefix covers the remote address is a hit, whatever the direction
//! and whether or not the connection came about.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;

use crate::aggregate::{Flow, Phase};
use crate::intel::{Indicator, IndicatorSet, canonical};
use crate::stats::Stats;

/// A connection's remote address is covered by this indicator.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Which indicator.
    pub indicator: Arc<Indicator>,
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
    allow: AllowList,
    /// Processes whose traffic is recorded but never alerts: the agent itself.
    own: HashSet<u32>,
    stats: Arc<Stats>,
}

impl Matcher {
    /// Looks up in whatever `set` holds at that moment; flows of the processes `own` never alert.
    pub fn new(
        set: Arc<ArcSwap<IndicatorSet>>,
        allow: AllowList,
        own: HashSet<u32>,
        stats: Arc<Stats>,
    ) -> Self {
        Self { set, allow, own, stats }
    }

    /// All hits of a flow. What is held back by policy is counted once, when the flow opens.
    pub fn hits(&self, flow: &Flow) -> Vec<Hit> {
        let set = self.set.load();
        let hits: Vec<Hit> = set
            .covering(flow.remote)
            .filter(|indicator| indicator.expires.is_none_or(|expires| flow.time < expires))
            .map(|indicator| Hit { indicator: Arc::clone(indicator) })
            .collect();
        if hits.is_empty() {
            return hits;
        }
        let count = if flow.phase == Phase::Opened { hits.len() as u64 } else { 0 };
        if flow.process.pid.is_some_and(|pid| self.own.contains(&pid)) {
            self.stats.hits_held_own_traffic.add(count);
            return Vec::new();
        }
        if self.allow.contains(flow.remote) {
            self.stats.hits_held_allowed.add(count);
            return Vec::new();
        }
        self.stats.hits_found.add(count);
        hits
    }
}
