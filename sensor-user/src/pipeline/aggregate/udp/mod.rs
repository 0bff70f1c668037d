//! `UdpTable`: changes of UDP flows, from records and the counts in the kernel.
//!
//! A flow is reported as opened at its first datagram, and as established unless that is an outbound one
//! which the kernel refuses to send within `OWNER_HOLD_NS`. If its owner is not resolved (mostly inbound
//! flows), it waits up to that time for the process that reads or sends; then the owner of the socket is
//! taken, and corrected later. A flow of refused datagrams alone fails. Its counts are read every
//! `READ_INTERVAL_NS`, and at the end of each minute, so that each minute has its own bytes. The flow is
//! closed with its socket, or after the idle timeout (`capture.udp_idle_timeout`).
//!
//! Invariants.
//! - At most `max` flows are tracked, besides those that close in this poll. The least recently used
//!   is evicted first (counted), and reported as closed.
//! - A flow that the kernel has evicted (counted) is closed with the counts read before.
//! - A poll reads at most `READS_PER_POLL` flows, so that it never blocks the pipeline for long.

mod flow;
mod kernel;
mod owner;
mod report;
mod socket_scan;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::change::{Change, ChangeKind};
use crate::base::clock::BootClock;
use crate::base::collections;
use crate::base::collections::{FastMap, FastSet, Table};
use crate::base::counters::Stats;
use crate::pipeline::decode::{FlowKey, Udp, UdpFlow};
use crate::pipeline::enrich::{Process, UdpEvent};
use flow::TrackedFlow;
pub use kernel::{ClockReading, FlowCounters};

/// Maximum time that a flow waits for its owner, or for the kernel's refusal, ns.
const OWNER_HOLD_NS: u64 = 50_000_000;
/// Interval between reads of the counts of a flow, ns.
const READ_INTERVAL_NS: u64 = 5_000_000_000;
/// Maximum number of flows read per poll; a read takes about a microsecond.
const READS_PER_POLL: usize = 2048;
/// First number of a UDP flow, so that no TCP connection has the same number. (An IEEE 754 double, as
/// many JSON parsers use, represents it exactly.)
const FIRST_NUMBER: u64 = 1 << 48;

/// Flows of one socket.
#[derive(Debug, Default)]
struct SocketFlows {
    all: FastSet<FlowKey>,
    /// Flows without a resolved owner.
    unresolved: FastSet<FlowKey>,
}

#[derive(Debug)]
struct HeldFlow {
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
    flows: Table<FlowKey, TrackedFlow>,
    sockets: FastMap<u64, SocketFlows>,
    held: VecDeque<HeldFlow>,
    /// Flows to close, after a last read of their counts.
    released: VecDeque<FlowKey>,
    /// Flows that the current pass has not read yet.
    unread: VecDeque<FlowKey>,
    next_pass_boot_ns: u64,
    /// Minute since 1970 in which the latest pass began. The first pass of a minute counts into the
    /// minute that has ended.
    minute: Option<i64>,
    minute_end: Option<Timestamp>,
    last_number: u64,
    unknown_process: Arc<Process>,
    stats: Arc<Stats>,
}

impl UdpTable {
    /// Creates an empty table for at most `max` flows (at least 1) of the host `computer`. A flow is
    /// closed after `idle` without a datagram.
    pub fn new(computer: Arc<str>, max: usize, idle: Duration, stats: Arc<Stats>) -> Self {
        Self {
            computer,
            max: max.max(1),
            idle_ns: u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX),
            flows: collections::unbounded_table(),
            sockets: FastMap::default(),
            held: VecDeque::new(),
            released: VecDeque::new(),
            unread: VecDeque::new(),
            next_pass_boot_ns: 0,
            minute: None,
            minute_end: None,
            last_number: FIRST_NUMBER,
            unknown_process: Arc::new(Process::default()),
            stats,
        }
    }

    /// Number of tracked flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// True if no flow is tracked.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Number of entries, and the maximum.
    pub fn occupancy(&self) -> (usize, usize) {
        (self.flows.len(), self.max)
    }

    /// Processes an event; appends its changes to `changes`.
    pub fn observe(&mut self, event: UdpEvent, clock: &BootClock, changes: &mut Vec<Change>) {
        let process = event.process;
        match *event.udp {
            Udp::Flow(flow) => self.begin(&flow, process, clock, changes),
            Udp::Owner(owner) => {
                let time = clock.wall(owner.boot_ns);
                self.set_owner(&owner, time, process.as_ref(), changes);
            }
            Udp::Refused(key) => self.refuse(&key),
            Udp::Release { boot_ns, cookie } => {
                self.release_socket(cookie, clock.wall(boot_ns), changes);
            }
        }
    }

    /// Reports the flows whose hold has expired at `now_boot_ns`.
    pub fn expire(&mut self, now_boot_ns: u64, changes: &mut Vec<Change>) {
        while self.held.front().is_some_and(|first| first.deadline_boot_ns <= now_boot_ns) {
            let Some(first) = self.held.pop_front() else { break };
            if self.flows.peek(&first.key).is_some_and(|flow| flow.number == first.number) {
                self.emit_opened(&first.key, changes);
                self.emit_established(&first.key, changes);
            }
        }
    }

    /// Reads the counts of the flows in the current pass, at most `READS_PER_POLL`. True if some are
    /// unread.
    pub fn read_counts(
        &mut self,
        now: ClockReading<'_>,
        counters: &mut dyn FlowCounters,
        changes: &mut Vec<Change>,
    ) -> bool {
        self.begin_pass(now);
        for _ in 0..READS_PER_POLL {
            let released = self.released.pop_front();
            let Some(key) = released.or_else(|| self.unread.pop_front()) else { return false };
            self.read_flow(&key, now, counters, changes);
        }
        !(self.released.is_empty() && self.unread.is_empty())
    }

    /// Reads the counts of every flow, when the agent stops.
    pub fn read_all_counts(
        &mut self,
        now: ClockReading<'_>,
        counters: &mut dyn FlowCounters,
        changes: &mut Vec<Change>,
    ) {
        self.expire(u64::MAX, changes);
        let keys: Vec<FlowKey> = self.flows.iter().map(|(key, _)| *key).collect();
        for key in keys {
            self.read_flow(&key, now, counters, changes);
        }
    }

    fn begin(
        &mut self,
        flow: &UdpFlow,
        process: Option<Arc<Process>>,
        clock: &BootClock,
        changes: &mut Vec<Change>,
    ) {
        self.set_cookie(&flow.key);
        if let Some(known) = self.flows.get_mut(&flow.key) {
            // The kernel had evicted the flow, and begun it again with the latest datagram.
            if known.restart(flow.boot_ns) {
                self.stats.udp_flows_evicted.increment();
            }
            return;
        }
        if self.flows.len().saturating_sub(self.released.len()) >= self.max {
            self.evict(clock.wall(flow.boot_ns), changes);
        }
        self.last_number = self.last_number.saturating_add(1);
        let tracked = TrackedFlow::new(flow, self.last_number, clock.wall(flow.boot_ns), process);
        self.flows.push(flow.key, tracked);
        let socket = self.sockets.entry(flow.key.cookie).or_default();
        socket.all.insert(flow.key);
        if flow.owner_resolved {
            self.emit_opened(&flow.key, changes);
        } else {
            socket.unresolved.insert(flow.key);
        }
        self.held.push_back(HeldFlow {
            deadline_boot_ns: flow.boot_ns.saturating_add(OWNER_HOLD_NS),
            key: flow.key,
            number: self.last_number,
        });
    }

    fn release_socket(&mut self, cookie: u64, time: Timestamp, changes: &mut Vec<Change>) {
        let Some(socket) = self.sockets.get(&cookie) else { return };
        for key in socket.all.clone() {
            self.release(key, time, changes);
        }
    }

    /// Evicts the least recently used flow, after a last read of its counts.
    fn evict(&mut self, time: Timestamp, changes: &mut Vec<Change>) {
        let Some((key, _)) = self.flows.peek_lru() else { return };
        let key = *key;
        self.stats.udp_flows_evicted.increment();
        self.flows.promote(&key);
        self.release(key, time, changes);
    }

    /// Closes a flow at `time`, after a last read of its counts.
    fn release(&mut self, key: FlowKey, time: Timestamp, changes: &mut Vec<Change>) {
        self.emit_opened(&key, changes);
        if let Some(flow) = self.flows.peek_mut(&key)
            && flow.released.is_none()
        {
            flow.released = Some(time);
            self.released.push_back(key);
        }
    }

    /// Begins a pass over all flows after the interval, or when the minute has changed.
    fn begin_pass(&mut self, now: ClockReading<'_>) {
        let minute = now.wall().as_second().div_euclid(60);
        let ended = self.minute.is_some_and(|before| before < minute);
        let is_scheduled = now.boot_ns >= self.next_pass_boot_ns && self.unread.is_empty();
        self.minute = Some(minute);
        if !ended && !is_scheduled {
            return;
        }
        self.minute_end =
            ended.then(|| Timestamp::from_second(minute.saturating_mul(60)).unwrap_or_default());
        self.next_pass_boot_ns = now.boot_ns.saturating_add(READ_INTERVAL_NS);
        self.unread.clear();
        self.unread.extend(self.flows.iter().map(|(key, _)| *key));
    }

    fn read_flow(
        &mut self,
        key: &FlowKey,
        now: ClockReading<'_>,
        counters: &mut dyn FlowCounters,
        changes: &mut Vec<Change>,
    ) {
        let Some(flow) = self.flows.peek_mut(key) else { return };
        if !flow.emitted {
            return;
        }
        let counts = counters.read(key);
        if let Some(counts) = &counts
            && flow.update(counts, now.latest_boot_ns(counts))
        {
            self.stats.udp_flows_evicted.increment();
        }
        let last = now.clock.wall(flow.last_boot_ns);
        if flow.has_unreported() {
            flow.allow(last);
        }
        let idle = now.boot_ns.saturating_sub(flow.last_boot_ns) >= self.idle_ns;
        let end = match (flow.released, &counts) {
            (Some(released), _) => Some(released),
            (None, None) if flow.is_counted() => {
                self.stats.udp_flows_evicted.increment();
                Some(now.wall())
            }
            (None, _) => idle.then(|| now.wall()),
        };
        let (has_unreported, opened) = (flow.has_unreported(), flow.opened);
        if has_unreported {
            self.emit_established(key, changes);
        }
        match end {
            // A datagram between the read and the removal is not counted, but still detected: the next
            // one begins a new flow.
            Some(time) => {
                counters.forget(key);
                self.close(key, time, changes);
            }
            None if has_unreported => {
                let time = self.minute_end.map_or(last, |end| within_minute(last, end, opened));
                self.flows.promote(key);
                self.change(key, ChangeKind::Active, time, changes);
            }
            None => {}
        }
    }
}

/// Time of counts that are read just after the end of their minute: that of the latest datagram, or
/// the last nanosecond before `end` if that is earlier. A flow that opened after `end` keeps its own
/// time.
fn within_minute(last: Timestamp, end: Timestamp, opened: Timestamp) -> Timestamp {
    if last < end || opened >= end {
        return last;
    }
    end.checked_sub(Duration::from_nanos(1)).unwrap_or(end)
}

#[cfg(test)]
mod tests;
