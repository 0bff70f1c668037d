//! `Listeners`: who listens where, to name an owner for what nobody has touched yet, and to tell
//! each port that listens.
//!
//! A listener outlives the program that made it: a process that becomes another one (exec) is the
//! listener's owner under its new name.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::host::Listening;
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;
use crate::pipeline::enrich::Process;

/// Ports (in all network namespaces) with a listener at most.
const PORTS_MAX: usize = 65_536;
/// Listeners of one port at most (`SO_REUSEPORT` groups); the oldest leaves first.
const PER_PORT_MAX: usize = 256;
/// Listeners that have ended and are kept until their last minute is told; the oldest leaves first.
const ENDED_MAX: usize = 4096;

#[derive(Debug)]
struct Listener {
    sk: u64,
    address: IpAddr,
    process: Arc<Process>,
    /// When it began to listen; the beginning of time for what is older than the agent.
    since: Timestamp,
}

impl Listener {
    fn listening(&self, (netns, port): (u32, u16)) -> Listening {
        let process = Arc::clone(&self.process);
        Listening { netns, address: self.address, port, process }
    }
}

/// Listeners by network namespace and port.
#[derive(Debug)]
pub(super) struct Listeners {
    ports: Table<(u32, u16), Vec<Listener>>,
    /// How many of them each process id has: nearly no process that execs has one.
    counts: HashMap<u32, usize>,
    /// Those that have ended, with when.
    ended: VecDeque<(Timestamp, Timestamp, Listening)>,
    stats: Arc<Stats>,
}

impl Listeners {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self {
            ports: collections::table(PORTS_MAX),
            counts: HashMap::new(),
            ended: VecDeque::new(),
            stats,
        }
    }

    /// Ports that are listened on, and how many may be.
    pub(super) fn occupancy(&self) -> (usize, usize) {
        (self.ports.len(), self.ports.cap().get())
    }

    pub(super) fn add(
        &mut self,
        key: (u32, u16),
        (sk, since): (u64, Timestamp),
        address: IpAddr,
        process: Arc<Process>,
    ) {
        self.remove(key, (sk, None), since);
        if let Some(pid) = process.pid {
            *self.counts.entry(pid).or_default() += 1;
        }
        let listener = Listener { sk, address, process, since };
        if let Some(listeners) = self.ports.get_mut(&key) {
            let oldest = (listeners.len() >= PER_PORT_MAX).then(|| listeners.remove(0));
            listeners.push(listener);
            self.evicted(oldest.as_slice());
        } else if let Some((_, evicted)) = self.ports.push(key, vec![listener]) {
            self.evicted(&evicted);
        }
    }

    /// Removes a listener that goes by either of two keys and ended at `time`.
    pub(super) fn remove(
        &mut self,
        key: (u32, u16),
        (sk, or): (u64, Option<u64>),
        time: Timestamp,
    ) {
        let Some(listeners) = self.ports.get_mut(&key) else { return };
        let goes = |known: &Listener| known.sk == sk || Some(known.sk) == or;
        let Some(at) = listeners.iter().position(goes) else { return };
        let gone = listeners.remove(at);
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((gone.since, time, gone.listening(key)));
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

    /// What listened at some time from `start` to `end`. What ended before is forgotten.
    pub(super) fn listening(&mut self, start: Timestamp, end: Timestamp) -> Vec<Listening> {
        self.ended.retain(|(_, ended, _)| *ended >= start);
        let ended = self.ended.iter().filter(|(since, _, _)| *since < end);
        let ended = ended.map(|(_, _, listening)| listening.clone());
        let live = self.ports.iter().flat_map(|(key, listeners)| {
            let before = listeners.iter().filter(|listener| listener.since < end);
            before.map(|listener| listener.listening(*key))
        });
        live.chain(ended).collect()
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

    const EVER: Timestamp = Timestamp::MIN;

    fn image(pid: u32, start_boot_ns: u64, name: &str) -> Arc<Process> {
        let name = name.to_owned();
        Arc::new(Process { pid: Some(pid), start_boot_ns, name, ..Process::default() })
    }

    #[test]
    fn a_process_that_becomes_another_program_takes_its_listeners_along() {
        let mut listeners = Listeners::new(Arc::default());
        let any = IpAddr::from([0, 0, 0, 0]);
        listeners.add((1, 80), (1, EVER), any, image(7, 100, "activator"));
        listeners.add((1, 81), (2, EVER), any, image(8, 100, "other"));
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
        listeners.add((1, 80), (0, EVER), any, image(7, 1, "a"));
        for sk in 0..=PER_PORT_MAX as u64 {
            listeners.add((1, 80), (sk, EVER), any, image(7, 1, "a"));
        }
        assert_eq!(listeners.stats.listeners_evicted.value(), 1);
        assert_eq!(listeners.counts[&7], PER_PORT_MAX);
        for sk in 0..=PER_PORT_MAX as u64 {
            listeners.remove((1, 80), (sk, None), EVER);
        }
        assert!(listeners.counts.is_empty() && listeners.ports.is_empty());
    }

    #[test]
    fn what_listens_is_told_in_each_minute_of_its_life() {
        let mut listeners = Listeners::new(Arc::default());
        let any = IpAddr::from([0, 0, 0, 0]);
        let at = |second| Timestamp::from_second(second).unwrap();
        listeners.add((1, 80), (1, EVER), any, image(7, 1, "older"));
        listeners.add((1, 81), (2, at(70)), any, image(7, 1, "short"));
        listeners.remove((1, 81), (2, None), at(71));
        listeners.add((1, 82), (3, at(121)), any, image(7, 1, "young"));
        listeners.remove((1, 80), (1, None), at(185));
        let mut told = |minute: i64| {
            let listening = listeners.listening(at(minute * 60), at(minute * 60 + 60));
            let mut ports: Vec<u16> = listening.iter().map(|it| it.port).collect();
            ports.sort_unstable();
            ports
        };
        let minutes = [told(0), told(1), told(2), told(3), told(4)];
        assert_eq!(minutes, [vec![80], vec![80, 81], vec![80, 82], vec![80, 82], vec![82]]);
    }
}
