//! Dedup's state as bytes, so that open windows and their counts survive the agent.
//!
//! A change holds the windows that were opened, counted into or closed since the change before; a
//! snapshot holds every open window. The last snapshot and the changes after it, in their order,
//! are the state. They are written as one with the alerts that they raised: after a crash both are
//! there, or neither.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::sighting::Sighting;
use super::window::{Dedup, Key, Unsaved, Window};
use crate::base::serde_time;
use crate::intel::Indicator;
use crate::pipeline::matcher::{Hit, Via};

/// Version of the bytes; those of another are not read.
const VERSION: u8 = 1;

/// Dedup's state on its way to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// What has changed.
    Change(Vec<u8>),
    /// All of it.
    Snapshot(Vec<u8>),
}

/// Bytes that are no state of this version: the windows in them are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("dedup's state is damaged, or of another version of the agent; its open windows are lost")]
pub struct StateFault;

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u8,
    /// Connections that were ever counted as hits.
    admitted: u64,
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Window(Box<SavedWindow>),
    /// A window of that number was counted into.
    Counted(u64, SavedTally, Box<Sighting>),
    /// It has got bytes of connections that were counted before.
    Moved(u64, SavedTally),
    Closed(u64),
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedWindow {
    key: Key,
    number: u64,
    #[serde(with = "serde_time::required")]
    opened: Timestamp,
    tally: SavedTally,
    latest: Sighting,
    indicator: Indicator,
    via: Via,
    address: std::net::IpAddr,
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
    /// The same, whose windows live on over a restart: they are saved as they change, and stay open
    /// when the agent ends.
    #[must_use]
    pub const fn with_state(mut self) -> Self {
        self.is_persistent = true;
        self
    }

    /// Whether windows stay open at the end of the agent.
    pub const fn is_persistent(&self) -> bool {
        self.is_persistent
    }

    /// What has changed since the last call; `None` for nothing.
    pub fn take_change(&mut self) -> Option<State> {
        if self.unsaved.is_empty() && self.closed.is_empty() {
            return None;
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(self.unsaved.len() + self.closed.len());
        for key in std::mem::take(&mut self.unsaved) {
            let Some(window) = self.windows.get_mut(&key) else { continue };
            match std::mem::replace(&mut window.unsaved, Unsaved::Nothing) {
                Unsaved::Nothing => {}
                Unsaved::Moved => entries.push(Entry::Moved(window.number, window.saved_tally())),
                Unsaved::Counted => {
                    let latest = Box::new(window.latest.clone());
                    entries.push(Entry::Counted(window.number, window.saved_tally(), latest));
                }
                Unsaved::Whole => entries.push(Entry::Window(Box::new(window.saved(&key)))),
            }
        }
        entries.extend(std::mem::take(&mut self.closed).into_iter().map(Entry::Closed));
        Some(State::Change(self.bytes(entries)))
    }

    /// All of the state; what has changed is in it.
    pub fn take_snapshot(&mut self) -> State {
        self.unsaved.clear();
        self.closed.clear();
        let mut entries = Vec::with_capacity(self.windows.len());
        for (key, number) in &self.order {
            let Some(window) = self.windows.get_mut(key).filter(|it| it.number == *number) else {
                continue;
            };
            window.unsaved = Unsaved::Nothing;
            entries.push(Entry::Window(Box::new(window.saved(key))));
        }
        State::Snapshot(self.bytes(entries))
    }

    fn bytes(&self, entries: Vec<Entry>) -> Vec<u8> {
        let saved = Saved { version: VERSION, admitted: self.admitted, entries };
        // Serialisation to memory fails for none of these types.
        postcard::to_allocvec(&saved).unwrap_or_default()
    }

    /// Takes in what an earlier run saved: the last snapshot, then each change after it. What is
    /// damaged ends it there; what was read before stays.
    pub fn restore(&mut self, saved: &[Vec<u8>]) -> Result<(), StateFault> {
        for bytes in saved {
            let saved: Saved = postcard::from_bytes(bytes).map_err(|_damaged| StateFault)?;
            if saved.version != VERSION {
                return Err(StateFault);
            }
            self.admitted = saved.admitted;
            for entry in saved.entries {
                self.enter(entry);
            }
        }
        self.order.retain(|(key, number)| {
            self.windows.get(key).is_some_and(|window| window.number == *number)
        });
        Ok(())
    }

    fn enter(&mut self, entry: Entry) {
        match entry {
            Entry::Window(saved) => self.enter_window(*saved),
            Entry::Counted(number, tally, latest) => {
                if let Some(window) = self.numbered(number) {
                    window.latest = *latest;
                    window.set_tally(tally);
                }
            }
            Entry::Moved(number, tally) => {
                if let Some(window) = self.numbered(number) {
                    window.set_tally(tally);
                }
            }
            Entry::Closed(number) => {
                let key = self.restored.remove(&number);
                // By now the key may have another window.
                let is_it = |key: &std::sync::Arc<Key>| {
                    self.windows.get(key).is_some_and(|window| window.number == number)
                };
                if let Some(key) = key.filter(is_it) {
                    self.windows.remove(&key);
                }
            }
        }
    }

    fn numbered(&mut self, number: u64) -> Option<&mut Window> {
        let key = self.restored.get(&number)?;
        self.windows.get_mut(key)
    }

    fn enter_window(&mut self, saved: SavedWindow) {
        let key = std::sync::Arc::new(saved.key);
        let indicator = Indicator { feed: std::sync::Arc::clone(&key.feed), ..saved.indicator };
        let mut window = Window {
            opened: saved.opened,
            number: saved.number,
            hit: Hit {
                indicator: std::sync::Arc::new(indicator),
                via: saved.via,
                address: saved.address,
            },
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
        if self.restored.insert(saved.number, std::sync::Arc::clone(&key)).is_none() {
            self.order.push_back((std::sync::Arc::clone(&key), saved.number));
        }
        self.windows.insert(key, window);
    }
}

impl Window {
    fn saved(&self, key: &Key) -> SavedWindow {
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
