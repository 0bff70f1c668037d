//! `Listeners`: who listens where, to name an owner for what nobody has touched yet.

use std::net::IpAddr;
use std::sync::Arc;

use lru::LruCache;

use crate::bounded;
use crate::enrich::Process;
use crate::stats::Stats;

/// Ports (in all network namespaces) with a listener at most.
const PORTS_MAX: usize = 65_536;
/// Listeners of one port at most (`SO_REUSEPORT` groups); the oldest leaves first.
const PER_PORT_MAX: usize = 256;

#[derive(Debug)]
struct Listener {
    sk: u64,
    address: IpAddr,
    process: Arc<Process>,
}

/// Listeners by network namespace and port.
#[derive(Debug)]
pub(super) struct Listeners {
    ports: LruCache<(u32, u16), Vec<Listener>>,
    stats: Arc<Stats>,
}

impl Listeners {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self { ports: bounded::table(PORTS_MAX), stats }
    }

    pub(super) fn add(
        &mut self,
        (netns, port): (u32, u16),
        sk: u64,
        address: IpAddr,
        process: Arc<Process>,
    ) {
        let key = (netns, port);
        let listener = Listener { sk, address, process };
        if let Some(listeners) = self.ports.get_mut(&key) {
            listeners.retain(|known| known.sk != sk);
            if listeners.len() >= PER_PORT_MAX {
                listeners.remove(0);
                self.stats.listeners_evicted.increment();
            }
            listeners.push(listener);
        } else if let Some((_, evicted)) = self.ports.push(key, vec![listener]) {
            self.stats.listeners_evicted.add(evicted.len() as u64);
        }
    }

    /// Removes a listener that goes by either of two keys.
    pub(super) fn remove(&mut self, (netns, port): (u32, u16), (sk, or): (u64, Option<u64>)) {
        let Some(listeners) = self.ports.get_mut(&(netns, port)) else { return };
        listeners.retain(|known| known.sk != sk && Some(known.sk) != or);
        if listeners.is_empty() {
            self.ports.pop(&(netns, port));
        }
    }

    /// The process that listens there: on that address rather than on all; the latest of several.
    pub(super) fn owner(&mut self, key: (u32, u16), address: IpAddr) -> Option<Arc<Process>> {
        let listeners = self.ports.get(&key)?;
        let exact = listeners.iter().rev().find(|known| known.address == address);
        // `::` takes IPv4 in too, 0.0.0.0 takes no IPv6.
        let covers = |any: IpAddr| any.is_unspecified() && (any.is_ipv6() || address.is_ipv4());
        let any = || listeners.iter().rev().find(|known| covers(known.address));
        exact.or_else(any).map(|known| Arc::clone(&known.process))
    }
}
