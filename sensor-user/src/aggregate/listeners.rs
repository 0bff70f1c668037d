//! `Listeners`: who listens where, to name an owner for what nobody has touched yet.
//!
//! A listener outlives the program that made it: a process that becomes another one (exec) is the
//! listener's owner under its new name.

use std::collections::HashMap;
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
    /// How many of them each process id has: nearly no process that execs has one.
    counts: HashMap<u32, usize>,
    stats: Arc<Stats>,
}

impl Listeners {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self { ports: bounded::table(PORTS_MAX), counts: HashMap::new(), stats }
    }

    pub(super) fn add(
        &mut self,
        (netns, port): (u32, u16),
        sk: u64,
        address: IpAddr,
        process: Arc<Process>,
    ) {
        let key = (netns, port);
        self.remove(key, (sk, None));
        if let Some(pid) = process.pid {
            *self.counts.entry(pid).or_default() += 1;
        }
        let listener = Listener { sk, address, process };
        if let Some(listeners) = self.ports.get_mut(&key) {
            let oldest = (listeners.len() >= PER_PORT_MAX).then(|| listeners.remove(0));
            listeners.push(listener);
            self.evicted(oldest.as_slice());
        } else if let Some((_, evicted)) = self.ports.push(key, vec![listener]) {
            self.evicted(&evicted);
        }
    }

    /// Removes a listener that goes by either of two keys.
    pub(super) fn remove(&mut self, key: (u32, u16), (sk, or): (u64, Option<u64>)) {
        let Some(listeners) = self.ports.get_mut(&key) else { return };
        let goes = |known: &Listener| known.sk == sk || Some(known.sk) == or;
        let Some(at) = listeners.iter().position(goes) else { return };
        let gone = listeners.remove(at);
        if listeners.is_empty() {
            self.ports.pop(&key);
        }
        self.forget(&gone);
    }

    /// A process became another program: so did the owner of its listeners.
    pub(super) fn image_replaced(&mut self, image: &Arc<Process>) {
        if !image.pid.is_some_and(|pid| self.counts.contains_key(&pid)) {
            return;
        }
        for listener in self.ports.iter_mut().flat_map(|(_, listeners)| listeners) {
            if listener.process.is(image) {
                listener.process = Arc::clone(image);
            }
        }
    }

    fn evicted(&mut self, listeners: &[Listener]) {
        self.stats.listeners_evicted.add(listeners.len() as u64);
        for gone in listeners {
            self.forget(gone);
        }
    }

    fn forget(&mut self, gone: &Listener) {
        let Some(pid) = gone.process.pid else { return };
        if let Some(count) = self.counts.get_mut(&pid) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&pid);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn image(pid: u32, start_boot_ns: u64, name: &str) -> Arc<Process> {
        let name = name.to_owned();
        Arc::new(Process { pid: Some(pid), start_boot_ns, name, ..Process::default() })
    }

    #[test]
    fn a_process_that_becomes_another_program_takes_its_listeners_along() {
        let mut listeners = Listeners::new(Arc::default());
        let any = IpAddr::from([0, 0, 0, 0]);
        listeners.add((1, 80), 1, any, image(7, 100, "activator"));
        listeners.add((1, 81), 2, any, image(8, 100, "other"));
        listeners.image_replaced(&image(7, 200, "a later process with that id"));
        listeners.image_replaced(&image(9, 100, "one that does not listen"));
        let owner = |listeners: &mut Listeners, port| {
            listeners.owner((1, port), any).map(|process| process.name.clone()).unwrap()
        };
        assert_eq!(owner(&mut listeners, 80), "activator");
        listeners.image_replaced(&image(7, 100, "service"));
        assert_eq!(
            (owner(&mut listeners, 80), owner(&mut listeners, 81)),
            ("service".into(), "other".into())
        );
    }

    #[test]
    fn counts_end_with_the_last_listener_of_a_process() {
        let mut listeners = Listeners::new(Arc::default());
        let any = IpAddr::from([0, 0, 0, 0]);
        // The first socket listens twice; the port's oldest listener makes room for the last one.
        listeners.add((1, 80), 0, any, image(7, 1, "a"));
        for sk in 0..=PER_PORT_MAX as u64 {
            listeners.add((1, 80), sk, any, image(7, 1, "a"));
        }
        assert_eq!(listeners.stats.listeners_evicted.value(), 1);
        assert_eq!(listeners.counts[&7], PER_PORT_MAX);
        for sk in 0..=PER_PORT_MAX as u64 {
            listeners.remove((1, 80), (sk, None));
        }
        assert!(listeners.counts.is_empty() && listeners.ports.is_empty());
    }
}
