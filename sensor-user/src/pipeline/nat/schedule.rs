//! `LookupSchedule`: lookups that wait to be sent to the worker, by network namespace.
//!
//! Whether connections are tracked is known for each namespace by itself. The lookups of a namespace that
//! tracks connections, or of which nothing is known, are sent at once. Those of a namespace that tracked
//! none at its last check wait until its next check, after `IDLE_INTERVAL_NS`. So each connection is
//! looked up, and a host without connection tracking has few requests.
//!
//! Invariants. At most `NAMESPACES_MAX` namespaces are known; the least recently used is evicted first
//! (counted), and its lookups are sent. At most `WAITING_MAX` lookups wait; further ones are refused.

use std::collections::VecDeque;
use std::sync::Arc;

use super::messages::NatLookup;
use crate::base::collections;
use crate::base::collections::Table;
use crate::base::counters::Stats;

/// Maximum number of namespaces whose state is known.
const NAMESPACES_MAX: usize = 4096;
/// Maximum number of lookups that wait.
const WAITING_MAX: usize = 65_536;
/// Time after the last sign of connection tracking for which a namespace counts as tracking, ns.
const TRACKING_NS: u64 = 60_000_000_000;
/// Interval between checks of a namespace that tracks no connection, ns.
const IDLE_INTERVAL_NS: u64 = 200_000_000;
/// Number of lookups of one namespace that are sent before that interval is over, to bound memory.
const WAITING_DUE: usize = 1024;
/// Time for which the result of a check without a tracked connection is trusted, ns. A connection that
/// begins later may be the first that is tracked, and not in the table yet when it is looked up.
const IDLE_TRUSTED_NS: u64 = 1_000_000_000;
/// Time after which a connection that no table has is looked up again, ns: the record of a TCP connection
/// is written before its SYN is sent.
const RETRY_NS: u64 = 100_000_000;

/// What is known of connection tracking in a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tracking {
    /// Its connections are tracked, or those of the agent's namespace are.
    Active,
    /// None was tracked a moment ago.
    Idle,
    /// It was not checked lately.
    Unknown,
}

/// State of one network namespace.
#[derive(Debug, Default)]
struct Namespace {
    /// Time at which it was last known to track connections, ns since boot; 0 for never.
    tracked_boot_ns: u64,
    /// Time at which the latest lookups were sent, ns since boot; 0 for never.
    sent_boot_ns: u64,
    /// Time of the last response by which it tracks no connection, ns since boot; 0 for none.
    idle_boot_ns: u64,
    waiting: Vec<NatLookup>,
}

/// Lookups that wait, and the state of each namespace.
#[derive(Debug)]
pub(super) struct LookupSchedule {
    namespaces: Table<u32, Namespace>,
    /// Time at which the agent's namespace was last known to track connections.
    own_tracked_boot_ns: u64,
    /// Lookups of evicted namespaces.
    evicted: Vec<NatLookup>,
    /// Lookups to repeat, with their time.
    retries: VecDeque<(u64, NatLookup)>,
    waiting: usize,
    stats: Arc<Stats>,
}

impl Namespace {
    const fn is_tracking(&self, now_boot_ns: u64) -> bool {
        is_recent(self.tracked_boot_ns, TRACKING_NS, now_boot_ns)
    }
}

impl LookupSchedule {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self {
            namespaces: collections::table(NAMESPACES_MAX),
            own_tracked_boot_ns: 0,
            evicted: Vec::new(),
            retries: VecDeque::new(),
            waiting: 0,
            stats,
        }
    }

    /// Number of known namespaces, and the maximum.
    pub(super) fn occupancy(&self) -> (usize, usize) {
        (self.namespaces.len(), self.namespaces.cap().get())
    }

    /// Number of known namespaces that track connections.
    pub(super) fn tracking(&self, now_boot_ns: u64) -> usize {
        self.namespaces.iter().filter(|(_, it)| it.is_tracking(now_boot_ns)).count()
    }

    /// What is known of the connections of a namespace.
    pub(super) fn tracking_of(&self, netns: u32, now_boot_ns: u64) -> Tracking {
        let namespace = self.namespaces.peek(&netns);
        if is_recent(self.own_tracked_boot_ns, TRACKING_NS, now_boot_ns)
            || namespace.is_some_and(|it| it.is_tracking(now_boot_ns))
        {
            return Tracking::Active;
        }
        let is_idle = |it: &Namespace| is_recent(it.idle_boot_ns, IDLE_TRUSTED_NS, now_boot_ns);
        if namespace.is_some_and(is_idle) { Tracking::Idle } else { Tracking::Unknown }
    }

    /// Adds a lookup. False if too many wait.
    pub(super) fn add(&mut self, mut lookup: NatLookup, now_boot_ns: u64) -> bool {
        if self.waiting >= WAITING_MAX {
            return false;
        }
        let netns = lookup.netns;
        lookup.is_last |= self.tracking_of(netns, now_boot_ns) == Tracking::Idle;
        if !self.namespaces.contains(&netns)
            && let Some((_, evicted)) = self.namespaces.push(netns, Namespace::default())
        {
            self.stats.nat_namespaces_evicted.increment();
            self.evicted.extend(evicted.waiting);
        }
        if let Some(namespace) = self.namespaces.get_mut(&netns) {
            namespace.waiting.push(lookup);
            self.waiting += 1;
        }
        true
    }

    /// Adds a lookup that is to be repeated, for the last time. False if too many wait.
    pub(super) fn retry(&mut self, mut lookup: NatLookup, now_boot_ns: u64) -> bool {
        if self.waiting >= WAITING_MAX {
            return false;
        }
        lookup.is_last = true;
        self.retries.push_back((now_boot_ns.saturating_add(RETRY_NS), lookup));
        self.waiting += 1;
        true
    }

    /// Removes the lookups that are to be sent now.
    pub(super) fn take_due(&mut self, now_boot_ns: u64) -> Vec<NatLookup> {
        if self.waiting == 0 && self.evicted.is_empty() {
            return Vec::new();
        }
        let mut due = std::mem::take(&mut self.evicted);
        while self.retries.front().is_some_and(|(at, _)| *at <= now_boot_ns) {
            due.extend(self.retries.pop_front().map(|(_, lookup)| lookup));
        }
        let own_tracks = is_recent(self.own_tracked_boot_ns, TRACKING_NS, now_boot_ns);
        for (_, it) in &mut self.namespaces {
            let is_scheduled = it.sent_boot_ns == 0
                || it.waiting.len() >= WAITING_DUE
                || now_boot_ns >= it.sent_boot_ns.saturating_add(IDLE_INTERVAL_NS);
            if !it.waiting.is_empty() && (own_tracks || it.is_tracking(now_boot_ns) || is_scheduled)
            {
                it.sent_boot_ns = now_boot_ns;
                due.append(&mut it.waiting);
            }
        }
        self.waiting = self.waiting.saturating_sub(due.len());
        due
    }

    /// Removes all lookups, at shutdown.
    pub(super) fn take_all(&mut self) -> Vec<NatLookup> {
        let mut all = std::mem::take(&mut self.evicted);
        all.extend(self.retries.drain(..).map(|(_, lookup)| lookup));
        for (_, it) in &mut self.namespaces {
            all.append(&mut it.waiting);
        }
        self.waiting = 0;
        all
    }

    /// Applies the result of a check of a namespace.
    pub(super) fn set_tracking(&mut self, netns: u32, is_tracking: bool, now_boot_ns: u64) {
        let Some(namespace) = self.namespaces.peek_mut(&netns) else { return };
        if is_tracking {
            namespace.tracked_boot_ns = now_boot_ns;
        } else {
            namespace.idle_boot_ns = now_boot_ns;
        }
    }

    /// Records that the agent's own namespace tracks connections.
    pub(super) const fn set_own_tracking(&mut self, now_boot_ns: u64) {
        self.own_tracked_boot_ns = now_boot_ns;
    }
}

const fn is_recent(boot_ns: u64, max_age_ns: u64, now_boot_ns: u64) -> bool {
    boot_ns != 0 && now_boot_ns < boot_ns.saturating_add(max_age_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::protocol::Protocol;
    use crate::pipeline::capture::Tuple;

    const MS: u64 = 1_000_000;

    fn lookup(number: u64, netns: u32) -> NatLookup {
        let ends = "192.0.2.1:4000".parse().unwrap();
        let tuple = Tuple { protocol: Protocol::Tcp, source: ends, destination: ends };
        let key = (Protocol::Tcp, number);
        NatLookup { key, netns, pids: [None; 2], tuple, is_behind_nat: false, is_last: false }
    }

    fn numbers(lookups: &[NatLookup]) -> Vec<u64> {
        lookups.iter().map(|lookup| lookup.key.1).collect()
    }

    #[test]
    fn each_namespace_is_checked_at_its_first_connection_and_idle_ones_now_and_then() {
        let mut schedule = LookupSchedule::new(Arc::default());
        let at = |ms: u64| (1000 + ms) * MS;
        assert!(schedule.add(lookup(1, 7), at(0)));
        assert_eq!(numbers(&schedule.take_due(at(0))), [1]);
        schedule.set_tracking(7, false, at(1));
        // A busy namespace without tracking does not delay the first connection of another.
        assert!(schedule.add(lookup(2, 7), at(2)) && schedule.add(lookup(3, 8), at(2)));
        assert_eq!(numbers(&schedule.take_due(at(2))), [3]);
        schedule.set_tracking(8, true, at(3));
        // From then on its connections are looked up at once; those of the other are kept, not left out.
        for ms in 4..200 {
            assert!(schedule.add(lookup(ms, 7), at(ms)) && schedule.add(lookup(1000, 8), at(ms)));
            assert_eq!(numbers(&schedule.take_due(at(ms))), [1000], "{ms}");
        }
        assert_eq!(schedule.waiting, 197);
        let due = schedule.take_due(at(200));
        assert_eq!((due.len(), due[0].key.1, schedule.waiting), (197, 2, 0));
        // None of these lookups is repeated: its namespace was known to track nothing a moment before.
        assert!(due.iter().all(|lookup| lookup.is_last));
        assert_eq!((schedule.tracking(at(200)), schedule.occupancy().0), (1, 2));
        assert_eq!(schedule.tracking(at(61_000)), 0);
    }

    #[test]
    fn nothing_waits_while_the_agents_own_namespace_tracks() {
        let mut schedule = LookupSchedule::new(Arc::default());
        schedule.set_own_tracking(MS);
        for number in 0..5 {
            assert!(schedule.add(lookup(number, 7), 2 * MS));
            let due = schedule.take_due(2 * MS);
            assert_eq!(numbers(&due), [number]);
            assert!(!due[0].is_last);
            schedule.set_tracking(7, false, 2 * MS);
        }
    }

    #[test]
    fn the_lookup_of_a_missing_connection_is_repeated_once() {
        let mut schedule = LookupSchedule::new(Arc::default());
        assert!(schedule.retry(lookup(1, 7), 0));
        assert!(schedule.take_due(RETRY_NS - 1).is_empty());
        let due = schedule.take_due(RETRY_NS);
        assert_eq!((numbers(&due), due[0].is_last), (vec![1], true));
    }

    #[test]
    fn an_evicted_namespace_loses_no_lookup_and_a_full_schedule_refuses() {
        let stats = Arc::new(Stats::default());
        let mut schedule = LookupSchedule::new(Arc::clone(&stats));
        for netns in 0..=4096_u32 {
            assert!(schedule.add(lookup(netns.into(), netns), MS));
        }
        assert_eq!(stats.nat_namespaces_evicted.value(), 1);
        assert_eq!(schedule.take_due(MS).len(), 4097);
        let mut added = 0;
        while schedule.add(lookup(1, 1), MS) {
            added += 1;
        }
        assert_eq!((added, schedule.retry(lookup(1, 1), MS)), (WAITING_MAX, false));
        assert_eq!(schedule.take_all().len(), WAITING_MAX);
    }
}
