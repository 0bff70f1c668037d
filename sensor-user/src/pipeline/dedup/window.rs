//! `Dedup`: one alert at the first hit of a key, one summary of its further hits at the end of the
//! window.
//!
//! Invariants.
//! - At most `max_keys` windows are open. The oldest is closed early to make room (counted).
//! - Each hit of an opened connection is in exactly one alert: the sum of `ConnectionCount` over all
//!   alerts is the number of hits.
//! - Open windows survive a restart of the agent (`state/`).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::alert::{Alert, AlertKind};
use super::sighting::Sighting;
use crate::base::collections::FastMap;
use crate::base::counters::Stats;
use crate::base::stable_id::stable_id;
use crate::pipeline::aggregate::{Direction, Flow, Tally};
use crate::pipeline::matcher::Hit;

/// Key of a window: hits with the same key are repeats.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct WindowKey {
    pub(super) feed: Arc<str>,
    indicator_id: String,
    remote: IpAddr,
    executable: String,
    container_id: String,
    direction: Direction,
}

impl WindowKey {
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

/// Difference between a window and its saved state, in the order of size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unsaved {
    Nothing,
    /// Only byte counts have changed.
    Traffic,
    /// Further connections were counted.
    Counted,
    /// The window is new, or its indicator has changed.
    Whole,
}

#[derive(Debug)]
pub(super) struct Window {
    pub(super) opened: Timestamp,
    /// Distinguishes windows of the same key.
    pub(super) number: u64,
    /// Latest hit; `latest` is its connection.
    pub(super) hit: Hit,
    pub(super) latest: Sighting,
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    /// Connections after the one that opened the window.
    pub(super) further: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) unsaved: Unsaved,
    /// For a window of an earlier run: time up to which its counts are complete.
    pub(super) restored_until: Option<Timestamp>,
}

/// Open windows by key.
#[derive(Debug)]
pub struct Dedup {
    agent_id: String,
    length: SignedDuration,
    max_keys: usize,
    pub(super) windows: FastMap<Arc<WindowKey>, Window>,
    /// Keys and numbers of windows, in the order in which the windows opened.
    pub(super) order: VecDeque<(Arc<WindowKey>, u64)>,
    pub(super) last_number: u64,
    /// Connections counted as hits, over all runs.
    pub(super) admitted: u64,
    /// True if changes are collected for [`Dedup::take_change`].
    pub(super) is_persistent: bool,
    /// Keys whose window differs from its saved state, each once.
    pub(super) unsaved: Vec<Arc<WindowKey>>,
    /// Numbers of windows closed since the state was last saved.
    pub(super) closed: Vec<u64>,
    /// Windows of earlier runs by their number.
    pub(super) restored: FastMap<u64, Arc<WindowKey>>,
    pub(super) stats: Arc<Stats>,
}

impl Dedup {
    /// Creates a table without open windows. `length` is the length of a window; at most `max_keys`
    /// (at least 1) are open.
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
            admitted: 0,
            is_persistent: false,
            unsaved: Vec::new(),
            closed: Vec::new(),
            restored: FastMap::default(),
            stats,
        }
    }

    /// Processes a hit, and raises an alert if it is the first of its window. A hit at a later phase
    /// of a connection only adds its bytes to the window.
    pub fn admit(&mut self, hit: &Hit, flow: &Flow, alerts: &mut Vec<Alert>) {
        self.expire(flow.time, alerts);
        let key = WindowKey::of(hit, flow);
        let is_first_sight = flow.phase.is_first_sight();
        let Some(window) = self.windows.get_mut(&key) else {
            if is_first_sight {
                self.admitted = self.admitted.saturating_add(flow.connections);
                self.open(key, hit, flow, alerts);
            }
            return;
        };
        let was_saved = window.unsaved == Unsaved::Nothing;
        if flow.bytes_sent > 0 || flow.bytes_received > 0 {
            window.bytes_sent = window.bytes_sent.saturating_add(flow.bytes_sent);
            window.bytes_received = window.bytes_received.saturating_add(flow.bytes_received);
            window.unsaved = window.unsaved.max(Unsaved::Traffic);
        }
        if is_first_sight {
            self.admitted = self.admitted.saturating_add(flow.connections);
            self.stats.hits_suppressed_window.add(flow.connections);
            window.count(hit, flow);
        }
        if self.is_persistent && was_saved && window.unsaved != Unsaved::Nothing {
            self.unsaved.push(Arc::new(key));
        }
    }

    /// Number of connections counted as hits, over all runs.
    pub const fn admitted(&self) -> u64 {
        self.admitted
    }

    /// True if the open window of `key` counted the connections of `tally` in an earlier run.
    pub(super) fn is_already_counted(&self, key: &WindowKey, tally: &Tally) -> bool {
        self.windows.get(key).is_some_and(|window| {
            window.opened <= tally.first_seen
                && window.restored_until.is_some_and(|until| tally.last_seen <= until)
        })
    }

    /// Sets the length of windows, including those that are open.
    pub const fn set_length(&mut self, length: SignedDuration) {
        self.length = length;
    }

    /// Closes the windows that have expired at `now`.
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

    /// Closes every window, at the end of the input or of the agent.
    pub fn close_all(&mut self, alerts: &mut Vec<Alert>) {
        while !self.order.is_empty() {
            self.close_oldest(alerts);
        }
    }

    /// Number of open windows.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Maximum number of open windows.
    pub const fn max_keys(&self) -> usize {
        self.max_keys
    }

    /// True if no window is open.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    fn open(&mut self, key: WindowKey, hit: &Hit, flow: &Flow, alerts: &mut Vec<Alert>) {
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
            unsaved: Unsaved::Whole,
            restored_until: None,
        };
        let key = Arc::new(key);
        alerts.push(self.alert(&key, &window, AlertKind::New));
        self.stats.alerts_raised.increment();
        self.order.push_back((Arc::clone(&key), window.number));
        if self.is_persistent {
            self.unsaved.push(Arc::clone(&key));
        }
        self.windows.insert(key, Window { further: 0, bytes_sent: 0, bytes_received: 0, ..window });
    }

    fn close_oldest(&mut self, alerts: &mut Vec<Alert>) {
        let Some((key, _)) = self.order.pop_front() else { return };
        let Some(window) = self.windows.remove(&key) else { return };
        if self.is_persistent {
            self.restored.remove(&window.number);
            self.closed.push(window.number);
        }
        if window.further > 0 {
            self.stats.alerts_raised.increment();
            alerts.push(self.alert(&key, &window, AlertKind::Summary));
        }
    }

    /// The kind is part of the id, since a sink must accept both alerts of a window.
    pub(super) fn alert_id(&self, key: &WindowKey, opened: Timestamp, kind: AlertKind) -> String {
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

    fn alert(&self, key: &WindowKey, window: &Window, kind: AlertKind) -> Alert {
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
        let is_same = self.hit.indicator == hit.indicator
            && (self.hit.via, self.hit.address) == (hit.via, hit.address);
        self.unsaved = self.unsaved.max(if is_same { Unsaved::Counted } else { Unsaved::Whole });
        self.hit = hit.clone();
    }
}
