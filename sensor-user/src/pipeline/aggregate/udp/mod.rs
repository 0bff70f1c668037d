//! `UdpTable`: from UDP records and the kernel's counts to what happens to a flow.
//!
//! A flow is told as opened and established at its first datagram; one whose owner is not settled
//! (an inbound one, mostly) waits up to `OWNER_HOLD_NS` for the process that acts; then the socket's
//! owner stands in. Its counts are
//! read every `LOOK_EVERY_NS`, and at the end of each minute, so that a minute has its own bytes.
//! It is closed when its socket is, or when it was idle for as long as configured.
//!
//! Invariants. At most `max` flows are tracked, and those that end in this turn; the least recently
//! used leaves first (counted) and is told as closed. One that the kernel's map has lost (counted) is closed with what was read.
//! A look at `LOOKS_A_TURN` flows at most is made at once, so that the pipeline never waits long.

mod flow;
mod kernel;
mod socket_scan;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::change::{Change, ChangeKind};
use super::flow::Direction;
use crate::base::clock::BootClock;
use crate::base::collections;
use crate::base::collections::{FastMap, FastSet, Table};
use crate::base::counters::Stats;
use crate::pipeline::decode::{FlowKey, Udp, UdpFlow, UdpOwner};
use crate::pipeline::enrich::{Process, UdpEvent};
use flow::Tracked;
pub use kernel::{ClockReading, FlowCounters};

/// How long a flow waits for its owner, ns.
const OWNER_HOLD_NS: u64 = 50_000_000;
/// How often the counts of a flow are read, ns.
const LOOK_EVERY_NS: u64 = 5_000_000_000;
/// Flows that are looked at in one turn at most; a look takes about a microsecond.
const LOOKS_A_TURN: usize = 2048;
/// Flows of UDP are numbered from here, and so never meet the number of a TCP connection. (An
/// IEEE double, as many readers of JSON use, still holds it.)
const FIRST_NUMBER: u64 = 1 << 48;

type Remote = (IpAddr, u16);

/// The flows of one socket.
#[derive(Debug, Default)]
struct Socket {
    remotes: FastSet<Remote>,
    /// Those that wait for their owner.
    held: FastSet<Remote>,
}

#[derive(Debug)]
struct Held {
    deadline_boot_ns: u64,
    key: FlowKey,
    number: u64,
}

/// UDP flows by socket and remote end.
#[derive(Debug)]
pub struct UdpTable {
    computer: Arc<str>,
    max: usize,
    idle_ns: u64,
    flows: Table<FlowKey, Tracked>,
    sockets: FastMap<u64, Socket>,
    held: VecDeque<Held>,
    /// Flows whose socket is closed: their last counts are read first.
    released: VecDeque<FlowKey>,
    /// What is left of the round of looks under way.
    due: VecDeque<FlowKey>,
    next_round_boot_ns: u64,
    /// Minute since 1970 in which the latest round began; a round that begins another one counts
    /// what was moved until then into the minute that has ended.
    minute: Option<i64>,
    minute_end: Option<Timestamp>,
    last_number: u64,
    nobody: Arc<Process>,
    stats: Arc<Stats>,
}

impl UdpTable {
    /// An empty table for at most `max` flows (at least 1) of the host `computer`; a flow without a
    /// datagram for `idle` is over.
    pub fn new(computer: Arc<str>, max: usize, idle: Duration, stats: Arc<Stats>) -> Self {
        Self {
            computer,
            max: max.max(1),
            idle_ns: u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX),
            flows: collections::unbounded_table(),
            sockets: FastMap::default(),
            held: VecDeque::new(),
            released: VecDeque::new(),
            due: VecDeque::new(),
            next_round_boot_ns: 0,
            minute: None,
            minute_end: None,
            last_number: FIRST_NUMBER,
            nobody: Arc::new(Process::default()),
            stats,
        }
    }

    /// Flows tracked now.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether none is tracked.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Entries, and how many there may be.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.flows.len(), self.max)
    }

    /// Takes an event in; what it changes is appended to `changes`.
    pub fn observe(&mut self, event: UdpEvent, clock: &BootClock, changes: &mut Vec<Change>) {
        let process = event.process;
        match *event.udp {
            Udp::Flow(flow) => self.begun(&flow, process, clock, changes),
            Udp::Owner(owner) => self.owned(&owner, process.as_ref(), changes),
            Udp::Release { boot_ns, cookie } => {
                self.release(cookie, clock.wall(boot_ns), changes);
            }
        }
    }

    /// Tells what has waited long enough for its owner at `now_boot_ns`.
    pub fn expire(&mut self, now_boot_ns: u64, changes: &mut Vec<Change>) {
        while self.held.front().is_some_and(|first| first.deadline_boot_ns <= now_boot_ns) {
            let Some(first) = self.held.pop_front() else { break };
            if self.flows.peek(&first.key).is_some_and(|flow| flow.number == first.number) {
                self.tell(&first.key, changes);
            }
        }
    }

    /// Reads the counts of flows that are due; says whether others still are.
    pub fn look(
        &mut self,
        now: ClockReading<'_>,
        counters: &mut dyn FlowCounters,
        changes: &mut Vec<Change>,
    ) -> bool {
        self.begin_round(now);
        for _ in 0..LOOKS_A_TURN {
            let released = self.released.pop_front();
            let Some(key) = released.or_else(|| self.due.pop_front()) else { return false };
            self.look_at(&key, now, counters, changes);
        }
        !(self.released.is_empty() && self.due.is_empty())
    }

    /// Reads the counts of every flow, at the end of the agent.
    pub fn look_at_all(
        &mut self,
        now: ClockReading<'_>,
        counters: &mut dyn FlowCounters,
        changes: &mut Vec<Change>,
    ) {
        self.expire(u64::MAX, changes);
        let keys: Vec<FlowKey> = self.flows.iter().map(|(key, _)| *key).collect();
        for key in keys {
            self.look_at(&key, now, counters, changes);
        }
    }

    fn begun(
        &mut self,
        flow: &UdpFlow,
        process: Option<Arc<Process>>,
        clock: &BootClock,
        changes: &mut Vec<Change>,
    ) {
        self.name_found(&flow.key, flow.local_port);
        if let Some(known) = self.flows.get_mut(&flow.key) {
            // The kernel's map had lost it, and its latest datagram has begun it again.
            if known.restart(flow.boot_ns) {
                self.stats.udp_flows_evicted.increment();
            }
            return;
        }
        if self.flows.len().saturating_sub(self.released.len()) >= self.max {
            self.evict(clock.wall(flow.boot_ns), changes);
        }
        self.last_number = self.last_number.saturating_add(1);
        let tracked = Tracked::new(flow, self.last_number, clock.wall(flow.boot_ns), process);
        self.flows.push(flow.key, tracked);
        let socket = self.sockets.entry(flow.key.cookie).or_default();
        let remote = (flow.key.remote, flow.key.remote_port);
        socket.remotes.insert(remote);
        if flow.owner_resolved {
            self.tell(&flow.key, changes);
            return;
        }
        socket.held.insert(remote);
        self.held.push_back(Held {
            deadline_boot_ns: flow.boot_ns.saturating_add(OWNER_HOLD_NS),
            key: flow.key,
            number: self.last_number,
        });
    }

    /// One flow has its owner, or with port 0 all of the socket that wait for one of that kind.
    fn owned(
        &mut self,
        owner: &UdpOwner,
        process: Option<&Arc<Process>>,
        changes: &mut Vec<Change>,
    ) {
        let key = owner.key;
        let keys = if key.remote_port == 0 { self.waiting(owner) } else { vec![key] };
        for key in keys {
            let Some(flow) = self.flows.peek_mut(&key) else { continue };
            if flow.told || (flow.direction == Direction::Inbound) != owner.inbound {
                continue;
            }
            if let Some(process) = process {
                flow.settle(process, owner.source);
            }
            self.tell(&key, changes);
        }
    }

    /// The flows of a socket that an owner settles.
    fn waiting(&self, owner: &UdpOwner) -> Vec<FlowKey> {
        let held = self.sockets.get(&owner.key.cookie).map(|socket| &socket.held);
        let of = |&(remote, remote_port)| FlowKey { remote, remote_port, ..owner.key };
        let all: Vec<FlowKey> = held.into_iter().flatten().map(of).collect();
        let on_cpu = |key: &&FlowKey| {
            self.flows.peek(key).is_some_and(|flow| flow.on_cpu_tgid == owner.task.tgid)
        };
        let own: Vec<FlowKey> = all.iter().filter(on_cpu).copied().collect();
        if owner.inbound || own.is_empty() { all } else { own }
    }

    fn release(&mut self, cookie: u64, time: Timestamp, changes: &mut Vec<Change>) {
        let Some(socket) = self.sockets.get(&cookie) else { return };
        let keys: Vec<FlowKey> = socket
            .remotes
            .iter()
            .map(|(remote, port)| FlowKey { cookie, remote: *remote, remote_port: *port })
            .collect();
        for key in keys {
            self.tell(&key, changes);
            if let Some(flow) = self.flows.peek_mut(&key)
                && flow.released.is_none()
            {
                flow.released = Some(time);
                self.released.push_back(key);
            }
        }
    }

    /// Ends the least recently used flow, once its last counts are read.
    fn evict(&mut self, time: Timestamp, changes: &mut Vec<Change>) {
        let Some((key, _)) = self.flows.peek_lru() else { return };
        let key = *key;
        self.stats.udp_flows_evicted.increment();
        self.flows.promote(&key);
        self.tell(&key, changes);
        if let Some(flow) = self.flows.peek_mut(&key)
            && flow.released.is_none()
        {
            flow.released = Some(time);
            self.released.push_back(key);
        }
    }

    /// Begins a round of looks when it is time, or when the minute has changed.
    fn begin_round(&mut self, now: ClockReading<'_>) {
        let minute = now.wall().as_second().div_euclid(60);
        let ended = self.minute.is_some_and(|before| before < minute);
        let due = now.boot_ns >= self.next_round_boot_ns && self.due.is_empty();
        self.minute = Some(minute);
        if !ended && !due {
            return;
        }
        self.minute_end =
            ended.then(|| Timestamp::from_second(minute.saturating_mul(60)).unwrap_or_default());
        self.next_round_boot_ns = now.boot_ns.saturating_add(LOOK_EVERY_NS);
        self.due.clear();
        self.due.extend(self.flows.iter().map(|(key, _)| *key));
    }

    fn look_at(
        &mut self,
        key: &FlowKey,
        now: ClockReading<'_>,
        counters: &mut dyn FlowCounters,
        changes: &mut Vec<Change>,
    ) {
        let Some(flow) = self.flows.peek_mut(key) else { return };
        if !flow.told {
            return;
        }
        let counts = counters.read(key);
        if let Some(counts) = &counts
            && flow.take(counts, now.latest_boot_ns(counts))
        {
            self.stats.udp_flows_evicted.increment();
        }
        let last = now.clock.wall(flow.last_boot_ns);
        let idle = now.boot_ns.saturating_sub(flow.last_boot_ns) >= self.idle_ns;
        let end = match (flow.released, &counts) {
            (Some(released), _) => Some(released),
            (None, None) if flow.is_counted() => {
                self.stats.udp_flows_evicted.increment();
                Some(now.wall())
            }
            (None, _) => idle.then(|| now.wall()),
        };
        let moved = flow.has_moved();
        match end {
            // A datagram between the look and this is lost to the counts, not to the eye: the next
            // one begins a flow anew.
            Some(time) => {
                counters.forget(key);
                self.end(key, time, changes);
            }
            None if moved => {
                let time =
                    self.minute_end.map_or(last, |end| within_minute(last, end, flow.opened));
                self.flows.promote(key);
                self.change(key, ChangeKind::Active, time, changes);
            }
            None => {}
        }
    }

    /// Tells a flow as opened and established, once.
    fn tell(&mut self, key: &FlowKey, changes: &mut Vec<Change>) {
        let Some(flow) = self.flows.peek_mut(key) else { return };
        if std::mem::replace(&mut flow.told, true) {
            return;
        }
        let opened = flow.opened;
        if let Some(socket) = self.sockets.get_mut(&key.cookie) {
            socket.held.remove(&(key.remote, key.remote_port));
        }
        self.change(key, ChangeKind::Opened, opened, changes);
        self.change(key, ChangeKind::Established, opened, changes);
    }

    /// Tells a flow as closed with what was read of it, and drops it.
    fn end(&mut self, key: &FlowKey, time: Timestamp, changes: &mut Vec<Change>) {
        self.change(key, ChangeKind::Closed, time, changes);
        self.flows.pop(key);
        if let Some(socket) = self.sockets.get_mut(&key.cookie) {
            socket.remotes.remove(&(key.remote, key.remote_port));
            if socket.remotes.is_empty() {
                self.sockets.remove(&key.cookie);
            }
        }
    }

    fn change(
        &mut self,
        key: &FlowKey,
        what: ChangeKind,
        time: Timestamp,
        changes: &mut Vec<Change>,
    ) {
        if let Some(flow) = self.flows.peek_mut(key) {
            changes.push(flow.change(what, time, &self.computer, &self.nobody));
        }
    }
}

/// The time of counts that are read just after `end`, the end of their minute: that of the latest
/// datagram, or the last moment of the minute where that is later. A flow that began later keeps
/// its own time.
fn within_minute(last: Timestamp, end: Timestamp, opened: Timestamp) -> Timestamp {
    if last < end || opened >= end {
        return last;
    }
    end.checked_sub(Duration::from_nanos(1)).unwrap_or(end)
}

#[cfg(test)]
mod tests;
