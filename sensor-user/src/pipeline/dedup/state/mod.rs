//! Serialised state of dedup, so that open windows and their counts survive a restart.
//!
//! A change holds the windows that were opened, updated or closed since the previous change; a
//! snapshot holds every open window. The state is the last snapshot and the changes after it, in
//! order. Each is written in one commit with the alerts that it belongs to: after a crash both are
//! on disk, or neither.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::sighting::Sighting;
use super::window::{Dedup, Unsaved, Window, WindowKey};
use crate::base::serde_time;
use crate::intel::Indicator;
use crate::pipeline::matcher::{Hit, Via};

/// Version of the format; other versions are not read.
const VERSION: u8 = 1;

/// Serialised state of dedup, or a change of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DedupState {
    /// Windows that changed since the previous change.
    Change(Vec<u8>),
    /// All open windows.
    Snapshot(Vec<u8>),
}

/// Error of bytes that are not a state of this version. The windows in them are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("dedup state is damaged or of another agent version; its open windows are lost")]
pub struct StateError;

#[derive(Debug, Serialize, Deserialize)]
struct SavedState {
    version: u8,
    /// Connections that were counted as hits, over all runs.
    admitted: u64,
    entries: Vec<StateEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
enum StateEntry {
    Window(Box<SavedWindow>),
    /// Number, counts and latest connection of a window with further connections.
    Counted(u64, SavedTally, Box<Sighting>),
    /// Number and counts of a window with further bytes of connections counted before.
    Traffic(u64, SavedTally),
    Closed(u64),
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedWindow {
    key: WindowKey,
    number: u64,
    #[serde(with = "serde_time::required")]
    opened: Timestamp,
    tally: SavedTally,
    latest: Sighting,
    indicator: Indicator,
    via: Via,
    address: IpAddr,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct SavedTally {
    #[serde(with = "serde_time::required")]
    first_seen: Timestamp,
    #[serde(with = "serde_time::required")]
    last_seen: Timestamp,
    further: u64,
    bytes_sent: u64,
    bytes_received: u64,
}

impl Dedup {
    /// Makes the state persistent: windows are saved as they change, and stay open when the agent
    /// ends.
    #[must_use]
    pub const fn with_state(mut self) -> Self {
        self.is_persistent = true;
        self
    }

    /// True if windows stay open when the agent ends.
    pub const fn is_persistent(&self) -> bool {
        self.is_persistent
    }

    /// Returns the changes since the last call or snapshot, if any.
    pub fn take_change(&mut self) -> Option<DedupState> {
        if self.unsaved.is_empty() && self.closed.is_empty() {
            return None;
        }
        let mut entries: Vec<StateEntry> =
            Vec::with_capacity(self.unsaved.len() + self.closed.len());
        for key in std::mem::take(&mut self.unsaved) {
            let Some(window) = self.windows.get_mut(&key) else { continue };
            match std::mem::replace(&mut window.unsaved, Unsaved::Nothing) {
                Unsaved::Nothing => {}
                Unsaved::Traffic => {
                    entries.push(StateEntry::Traffic(window.number, window.saved_tally()));
                }
                Unsaved::Counted => {
                    let latest = Box::new(window.latest.clone());
                    entries.push(StateEntry::Counted(window.number, window.saved_tally(), latest));
                }
                Unsaved::Whole => entries.push(StateEntry::Window(Box::new(window.saved(&key)))),
            }
        }
        entries.extend(std::mem::take(&mut self.closed).into_iter().map(StateEntry::Closed));
        Some(DedupState::Change(self.encode(entries)))
    }

    /// Returns the whole state, including unsaved changes.
    pub fn take_snapshot(&mut self) -> DedupState {
        self.unsaved.clear();
        self.closed.clear();
        let mut entries = Vec::with_capacity(self.windows.len());
        for (key, number) in &self.order {
            let Some(window) = self.windows.get_mut(key).filter(|it| it.number == *number) else {
                continue;
            };
            window.unsaved = Unsaved::Nothing;
            entries.push(StateEntry::Window(Box::new(window.saved(key))));
        }
        DedupState::Snapshot(self.encode(entries))
    }

    fn encode(&self, entries: Vec<StateEntry>) -> Vec<u8> {
        let saved = SavedState { version: VERSION, admitted: self.admitted, entries };
        // Serialisation to memory fails for none of these types.
        postcard::to_allocvec(&saved).unwrap_or_default()
    }

    /// Restores what an earlier run saved: the last snapshot, then each change after it. Stops at
    /// damaged bytes, and keeps what was restored before.
    pub fn restore(&mut self, saved: &[Vec<u8>]) -> Result<(), StateError> {
        for bytes in saved {
            let saved: SavedState = postcard::from_bytes(bytes).map_err(|_damaged| StateError)?;
            if saved.version != VERSION {
                return Err(StateError);
            }
            self.admitted = saved.admitted;
            for entry in saved.entries {
                self.apply(entry);
            }
        }
        self.order.retain(|(key, number)| {
            self.windows.get(key).is_some_and(|window| window.number == *number)
        });
        Ok(())
    }

    fn apply(&mut self, entry: StateEntry) {
        match entry {
            StateEntry::Window(saved) => self.restore_window(*saved),
            StateEntry::Counted(number, tally, latest) => {
                self.restore_tally(number, tally, Some(*latest));
            }
            StateEntry::Traffic(number, tally) => self.restore_tally(number, tally, None),
            StateEntry::Closed(number) => {
                let key = self.restored.remove(&number);
                // The key may have a later window.
                let is_same = |key: &Arc<WindowKey>| {
                    self.windows.get(key).is_some_and(|window| window.number == number)
                };
                if let Some(key) = key.filter(is_same) {
                    self.windows.remove(&key);
                }
            }
        }
    }

    fn restore_tally(&mut self, number: u64, tally: SavedTally, latest: Option<Sighting>) {
        let key = self.restored.get(&number);
        if let Some(window) = key.and_then(|key| self.windows.get_mut(key)) {
            window.set_tally(tally);
            if let Some(latest) = latest {
                window.latest = latest;
            }
        }
    }

    fn restore_window(&mut self, saved: SavedWindow) {
        let key = Arc::new(saved.key);
        let indicator = Indicator { feed: Arc::clone(&key.feed), ..saved.indicator };
        let mut window = Window {
            opened: saved.opened,
            number: saved.number,
            hit: Hit { indicator: Arc::new(indicator), via: saved.via, address: saved.address },
            latest: saved.latest,
            first_seen: saved.opened,
            last_seen: saved.opened,
            further: 0,
            bytes_sent: 0,
            bytes_received: 0,
            unsaved: Unsaved::Nothing,
            restored_until: Some(saved.tally.last_seen),
        };
        window.set_tally(saved.tally);
        self.last_number = self.last_number.max(saved.number);
        if self.restored.insert(saved.number, Arc::clone(&key)).is_none() {
            self.order.push_back((Arc::clone(&key), saved.number));
        }
        self.windows.insert(key, window);
    }
}

impl Window {
    fn saved(&self, key: &WindowKey) -> SavedWindow {
        SavedWindow {
            key: key.clone(),
            number: self.number,
            opened: self.opened,
            tally: self.saved_tally(),
            latest: self.latest.clone(),
            indicator: Indicator::clone(&self.hit.indicator),
            via: self.hit.via,
            address: self.hit.address,
        }
    }

    const fn saved_tally(&self) -> SavedTally {
        SavedTally {
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            further: self.further,
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
        }
    }

    fn set_tally(&mut self, tally: SavedTally) {
        self.first_seen = tally.first_seen;
        self.last_seen = tally.last_seen;
        self.further = tally.further;
        self.bytes_sent = tally.bytes_sent;
        self.bytes_received = tally.bytes_received;
        self.restored_until = Some(tally.last_seen);
    }
}

#[cfg(test)]
mod tests;
