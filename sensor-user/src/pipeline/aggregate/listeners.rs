//! `Listeners`: listening TCP sockets and their owners. The owner of a listener stands in for that of
//! a connection that no process has used yet, and each listener has a row per minute.
//!
//! A listener survives an exec of its process: its owner is then the new program.
//!
//! A socket that listens without being bound has its port only after the record of its `listen`. It is
//! known by its socket until a socket scan finds the port, or its close reports it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::host::ListeningSocket;
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;
use crate::pipeline::capture::OpenSocket;
use crate::pipeline::enrich::Process;

/// Maximum number of ports with a listener, over all network namespaces.
const PORTS_MAX: usize = 65_536;
/// Maximum number of listeners of one port (`SO_REUSEPORT` groups); the oldest is evicted first.
const PER_PORT_MAX: usize = 256;
/// Maximum number of listeners without a known port; the oldest is evicted first.
const WITHOUT_PORT_MAX: usize = 1024;
/// Maximum number of closed listeners that wait for the end of their last minute; the oldest is
/// evicted first.
const CLOSED_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Listener {
    /// Key of the socket: the address of its `struct sock`, or a local key of a socket scan.
    pub(super) sk: u64,
    /// Socket cookie; 0 if unknown.
    pub(super) cookie: u64,
    pub(super) address: IpAddr,
    pub(super) process: Arc<Process>,
    /// Time of `listen`; the minimum for a listener that is older than the agent.
    pub(super) since: Timestamp,
}

impl Listener {
    fn socket(&self, (netns, port): PortKey) -> ListeningSocket {
        let process = Arc::clone(&self.process);
        ListeningSocket { netns, address: self.address, port, process }
    }
}

/// A listener that was closed.
#[derive(Debug)]
struct ClosedListener {
    since: Timestamp,
    until: Timestamp,
    socket: ListeningSocket,
}

/// Network namespace and port.
type PortKey = (u32, u16);

/// Listeners by network namespace and port.
#[derive(Debug)]
pub(super) struct Listeners {
    ports: Table<PortKey, Vec<Listener>>,
    /// Listeners whose port is unknown, by network namespace.
    without_port: VecDeque<(u32, Listener)>,
    /// True if a listener without a port was added since the last request.
    needs_scan: bool,
    /// Number of listeners by process id: nearly no process that calls exec has one.
    counts: HashMap<u32, usize>,
    closed: VecDeque<ClosedListener>,
    stats: Arc<Stats>,
}

impl Listeners {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self {
            ports: collections::table(PORTS_MAX),
            without_port: VecDeque::new(),
            needs_scan: false,
            counts: HashMap::new(),
            closed: VecDeque::new(),
            stats,
        }
    }

    /// Number of ports with a listener, and the maximum.
    pub(super) fn occupancy(&self) -> (usize, usize) {
        (self.ports.len(), self.ports.cap().get())
    }

    /// Adds a listener; port 0 is unknown.
    pub(super) fn add(&mut self, key: PortKey, listener: Listener) {
        self.remove(key, listener.sk, None, listener.since);
        if let Some(pid) = listener.process.pid {
            *self.counts.entry(pid).or_default() += 1;
        }
        if key.1 == 0 {
            let is_full = self.without_port.len() >= WITHOUT_PORT_MAX;
            let oldest = if is_full { self.without_port.pop_front() } else { None };
            self.without_port.push_back((key.0, listener));
            self.needs_scan = true;
            self.evict(oldest.map(|(_, listener)| listener).as_slice());
            return;
        }
        self.insert(key, listener);
    }

    fn insert(&mut self, key: PortKey, listener: Listener) {
        if let Some(listeners) = self.ports.get_mut(&key) {
            let oldest = (listeners.len() >= PER_PORT_MAX).then(|| listeners.remove(0));
            listeners.push(listener);
            self.evict(oldest.as_slice());
        } else if let Some((_, evicted)) = self.ports.push(key, vec![listener]) {
            self.evict(&evicted);
        }
    }

    /// Removes a listener, closed at `time`, which is known by one of two keys.
    pub(super) fn remove(&mut self, key: PortKey, sk: u64, other: Option<u64>, time: Timestamp) {
        let is_it = |known: &Listener| known.sk == sk || Some(known.sk) == other;
        let gone = self.take(key, is_it).or_else(|| {
            let at = self.without_port.iter().position(|(_, known)| is_it(known))?;
            self.without_port.remove(at).map(|(_, listener)| listener)
        });
        let Some(gone) = gone else { return };
        self.uncount(&gone);
        // A socket without a port never listened: the kernel found none for it.
        if key.1 == 0 {
            return;
        }
        if self.closed.len() >= CLOSED_MAX {
            self.closed.pop_front();
        }
        let socket = gone.socket(key);
        self.closed.push_back(ClosedListener { since: gone.since, until: time, socket });
    }

    fn take(&mut self, key: PortKey, is_it: impl Fn(&Listener) -> bool) -> Option<Listener> {
        let listeners = self.ports.get_mut(&key)?;
        let at = listeners.iter().position(is_it)?;
        let gone = listeners.remove(at);
        if listeners.is_empty() {
            self.ports.pop(&key);
        }
        Some(gone)
    }

    /// Network namespaces of the listeners whose port is unknown.
    pub(super) fn without_port(&self) -> impl Iterator<Item = u32> {
        self.without_port.iter().map(|(netns, _)| *netns)
    }

    /// True, once, after a listener without a known port was added.
    pub(super) const fn take_scan_request(&mut self) -> bool {
        std::mem::replace(&mut self.needs_scan, false)
    }

    /// Sets the ports that a socket scan has found. A listener without a cookie is the only one that the
    /// scan found on its address and no record reported.
    pub(super) fn set_ports(&mut self, open: &[OpenSocket]) {
        for (netns, listener) in std::mem::take(&mut self.without_port) {
            let same_cookie =
                |it: &&OpenSocket| listener.cookie != 0 && it.cookie == listener.cookie;
            let new_here = |it: &&OpenSocket| {
                it.netns == netns
                    && it.ends.local == listener.address
                    && !self.ports.contains(&(netns, it.ends.local_port))
            };
            let mut unreported = open.iter().filter(new_here);
            let only =
                unreported.next().filter(|_| listener.cookie == 0 && unreported.next().is_none());
            match open.iter().find(same_cookie).or(only) {
                Some(found) => self.insert((netns, found.ends.local_port), listener),
                None => self.without_port.push_back((netns, listener)),
            }
        }
    }

    /// Assigns the listeners of a process that has executed another program to that program.
    pub(super) fn image_replaced(&mut self, image: &Arc<Process>) {
        if !image.pid.is_some_and(|pid| self.counts.contains_key(&pid)) {
            return;
        }
        let with_port = self.ports.iter_mut().flat_map(|(_, listeners)| listeners);
        let without_port = self.without_port.iter_mut().map(|(_, listener)| listener);
        for listener in with_port.chain(without_port) {
            if listener.process.is(image) {
                listener.process = Arc::clone(image);
            }
        }
    }

    /// Sockets that listened at any time from `start` to `end`. Drops those closed before `start`.
    pub(super) fn listening(&mut self, start: Timestamp, end: Timestamp) -> Vec<ListeningSocket> {
        self.closed.retain(|listener| listener.until >= start);
        let closed = self.closed.iter().filter(|listener| listener.since < end);
        let closed = closed.map(|listener| listener.socket.clone());
        let open = self.ports.iter().flat_map(|(key, listeners)| {
            let before = listeners.iter().filter(|listener| listener.since < end);
            before.map(|listener| listener.socket(*key))
        });
        open.chain(closed).collect()
    }

    fn evict(&mut self, listeners: &[Listener]) {
        self.stats.listeners_evicted.add(listeners.len() as u64);
        for gone in listeners {
            self.uncount(gone);
        }
    }

    fn uncount(&mut self, gone: &Listener) {
        let Some(pid) = gone.process.pid else { return };
        if let Some(count) = self.counts.get_mut(&pid) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&pid);
            }
        }
    }

    /// Owner of the listener that accepts connections to `address`. A listener on that address goes
    /// before a wildcard one, a later one before an earlier one. Without any, it is the only one of the
    /// namespace whose port is unknown.
    pub(super) fn owner(&mut self, key: PortKey, address: IpAddr) -> Option<Arc<Process>> {
        // `::` also accepts IPv4; 0.0.0.0 does not accept IPv6.
        let covers = |any: IpAddr| any.is_unspecified() && (any.is_ipv6() || address.is_ipv4());
        let Some(listeners) = self.ports.get(&key) else {
            let here = self.without_port.iter().filter(|(netns, _)| *netns == key.0);
            let mut here = here.filter(|(_, it)| it.address == address || covers(it.address));
            let only = here.next().filter(|_| here.next().is_none());
            return only.map(|(_, known)| Arc::clone(&known.process));
        };
        let exact = listeners.iter().rev().find(|known| known.address == address);
        let any = || listeners.iter().rev().find(|known| covers(known.address));
        exact.or_else(any).map(|known| Arc::clone(&known.process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVER: Timestamp = Timestamp::MIN;

    fn image(pid: u32, start_boot_ns: u64, name: &str) -> Arc<Process> {
        let name = name.to_owned();
        Arc::new(Process { pid: Some(pid), start_boot_ns, name, ..Process::default() })
    }

    const ANY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

    fn listener(sk: u64, since: Timestamp, process: Arc<Process>) -> Listener {
        Listener { sk, cookie: sk, address: ANY, process, since }
    }

    #[test]
    fn an_exec_keeps_the_listeners_of_the_process() {
        let mut listeners = Listeners::new(Arc::default());
        listeners.add((1, 80), listener(1, EVER, image(7, 100, "activator")));
        listeners.add((1, 81), listener(2, EVER, image(8, 100, "other")));
        listeners.image_replaced(&image(7, 200, "a later process with that id"));
        listeners.image_replaced(&image(9, 100, "one that does not listen"));
        let owner = |listeners: &mut Listeners, port| {
            listeners.owner((1, port), ANY).map(|process| process.name.clone()).unwrap()
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
        // The first socket listens twice; the port's oldest listener makes room for the last one.
        listeners.add((1, 80), listener(0, EVER, image(7, 1, "a")));
        for sk in 0..=PER_PORT_MAX as u64 {
            listeners.add((1, 80), listener(sk, EVER, image(7, 1, "a")));
        }
        assert_eq!(listeners.stats.listeners_evicted.value(), 1);
        assert_eq!(listeners.counts[&7], PER_PORT_MAX);
        for sk in 0..=PER_PORT_MAX as u64 {
            listeners.remove((1, 80), sk, None, EVER);
        }
        assert!(listeners.counts.is_empty() && listeners.ports.is_empty());
    }

    #[test]
    fn a_listener_is_in_each_minute_of_its_lifetime() {
        let mut listeners = Listeners::new(Arc::default());
        let at = |second| Timestamp::from_second(second).unwrap();
        listeners.add((1, 80), listener(1, EVER, image(7, 1, "older")));
        listeners.add((1, 81), listener(2, at(70), image(7, 1, "short")));
        listeners.remove((1, 81), 2, None, at(71));
        listeners.add((1, 82), listener(3, at(121), image(7, 1, "young")));
        listeners.remove((1, 80), 1, None, at(185));
        let mut ports_in = |minute: i64| {
            let listening = listeners.listening(at(minute * 60), at(minute * 60 + 60));
            let mut ports: Vec<u16> = listening.iter().map(|it| it.port).collect();
            ports.sort_unstable();
            ports
        };
        let minutes = [0, 1, 2, 3, 4].map(&mut ports_in);
        assert_eq!(minutes, [vec![80], vec![80, 81], vec![80, 82], vec![80, 82], vec![82]]);
    }
}
