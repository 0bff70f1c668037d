//! `Dedup`: one alert at the first hit of a key, one summary of the further ones when its window
//! ends.
//!
//! Invariants. At most `max_keys` windows are open; the one that was opened first is closed early
//! to make room (counted). Each hit of an opened connection is in exactly one alert: the sum of
//! `ConnectionCount` over all alerts is the number of hits. The state is in memory: a restart
//! begins new windows.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::alert::{Alert, AlertKind, Tally};
use super::sighting::Sighting;
use crate::aggregate::{Direction, Flow};
use crate::bounded::FastMap;
use crate::matcher::Hit;
use crate::stable_id::stable_id;
use crate::stats::Stats;

/// What makes two hits the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    feed: Arc<str>,
    indicator_id: String,
    remote: IpAddr,
    executable: String,
    container_id: String,
    direction: Direction,
}

impl Key {
    pub(super) fn of(hit: &Hit, flow: &Flow) -> Self {
        Self {
            feed: Arc::clone(&hit.indicator.feed),
            indicator_id: hit.indicator.id.clone(),
            remote: flow.remote,
            executable: flow.process.executable().to_owned(),
            container_id: flow.process.container_id.clone(),
            direction: flow.direction,
        }
    }
}

#[derive(Debug)]
struct Window {
    opened: Timestamp,
    /// Tells this window from a later one of the same key.
    number: u64,
    /// The latest, with `latest`.
    hit: Hit,
    latest: Sighting,
    first_seen: Timestamp,
    last_seen: Timestamp,
    further: u64,
    bytes_sent: u64,
    bytes_received: u64,
}

/// Open windows by key.
#[derive(Debug)]
pub struct Dedup {
    agent_id: String,
    length: SignedDuration,
    max_keys: usize,
    windows: FastMap<Key, Window>,
    /// Keys in the order in which their windows were opened, with the window's number.
    order: VecDeque<(Key, u64)>,
    last_number: u64,
    stats: Arc<Stats>,
}

impl Dedup {
    /// No window is open. `length` is that of a window; at most `max_keys` (at least 1) are open.
    pub fn new(
        agent_id: String,
        length: SignedDuration,
        max_keys: usize,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            agent_id,
            length,
            max_keys: max_keys.max(1),
            windows: FastMap::default(),
            order: VecDeque::new(),
            last_number: 0,
            stats,
        }
    }

    /// Takes a hit in: an alert comes out when it is the first of its window. The end of a
    /// connection adds its bytes to the window and is no hit of its own.
    pub fn admit(&mut self, hit: &Hit, flow: &Flow, alerts: &mut Vec<Alert>) {
        self.expire(flow.time, alerts);
        let key = Key::of(hit, flow);
        if let Some(window) = self.windows.get_mut(&key) {
            window.bytes_sent = window.bytes_sent.saturating_add(flow.bytes_sent);
            window.bytes_received = window.bytes_received.saturating_add(flow.bytes_received);
            if flow.phase.is_first_sight() {
                self.stats.hits_held_window.add(flow.connections);
                window.count(hit, flow);
            }
        } else if flow.phase.is_first_sight() {
            self.open(key, hit, flow, alerts);
        }
    }

    /// Closes the windows that have ended at `now`.
    pub fn expire(&mut self, now: Timestamp, alerts: &mut Vec<Alert>) {
        while let Some((key, number)) = self.order.front() {
            if let Some(window) = self.windows.get(key)
                && window.number == *number
                && window.ends(self.length) > now
            {
                break;
            }
            self.close_oldest(alerts);
        }
    }

    /// Closes every window: at the end of the input, or of the agent.
    pub fn close_all(&mut self, alerts: &mut Vec<Alert>) {
        while !self.order.is_empty() {
            self.close_oldest(alerts);
        }
    }

    /// Windows open now.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    fn open(&mut self, key: Key, hit: &Hit, flow: &Flow, alerts: &mut Vec<Alert>) {
        while self.windows.len() >= self.max_keys {
            self.stats.windows_evicted.increment();
            self.close_oldest(alerts);
        }
        self.last_number = self.last_number.saturating_add(1);
        let window = Window {
            opened: flow.time,
            number: self.last_number,
            hit: hit.clone(),
            latest: Sighting::from(flow),
            first_seen: flow.time,
            last_seen: flow.time,
            further: flow.connections,
            bytes_sent: flow.bytes_sent,
            bytes_received: flow.bytes_received,
        };
        alerts.push(self.alert(&key, &window, AlertKind::New));
        self.stats.alerts_raised.increment();
        self.order.push_back((key.clone(), window.number));
        self.windows.insert(key, Window { further: 0, bytes_sent: 0, bytes_received: 0, ..window });
    }

    fn close_oldest(&mut self, alerts: &mut Vec<Alert>) {
        let Some((key, _)) = self.order.pop_front() else { return };
        let Some(window) = self.windows.remove(&key) else { return };
        if window.further > 0 {
            self.stats.alerts_raised.increment();
            alerts.push(self.alert(&key, &window, AlertKind::Summary));
        }
    }

    /// The kind is part of it: both alerts of a window must get through everywhere.
    pub(super) fn alert_id(&self, key: &Key, opened: Timestamp, kind: AlertKind) -> String {
        stable_id(&[
            &self.agent_id,
            &key.feed,
            &key.indicator_id,
            &key.remote.to_string(),
            &key.executable,
            &key.container_id,
            key.direction.as_str(),
            &opened.to_string(),
            kind.as_str(),
        ])
    }

    pub(super) fn count_raised(&self) {
        self.stats.alerts_raised.increment();
    }

    fn alert(&self, key: &Key, window: &Window, kind: AlertKind) -> Alert {
        let alert_id = self.alert_id(key, window.opened, kind);
        let tally = Tally {
            first_seen: window.first_seen,
            last_seen: window.last_seen,
            connections: window.further,
            bytes_sent: window.bytes_sent,
            bytes_received: window.bytes_received,
        };
        Alert::new(kind, alert_id, &window.hit, window.latest.clone(), tally)
    }
}

impl Window {
    fn ends(&self, length: SignedDuration) -> Timestamp {
        self.opened.checked_add(length).unwrap_or(Timestamp::MAX)
    }

    fn count(&mut self, hit: &Hit, flow: &Flow) {
        if self.further == 0 {
            self.first_seen = flow.time;
        }
        self.further = self.further.saturating_add(flow.connections);
        self.last_seen = self.last_seen.max(flow.time);
        self.latest = Sighting::from(flow);
        self.hit = hit.clone();
    }
}
