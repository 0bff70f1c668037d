//! `BeforeRestart`: entries of earlier runs with connections that were open when that run ended.
//!
//! A connection that outlives a restart of the agent is in the history already. The initial socket scan
//! finds TCP connections and connected UDP sockets. A flow of another UDP socket is seen at its next
//! datagram: it is the same one if both ports are, shortly after the start.

use jiff::{SignedDuration, Timestamp};

use super::entry::restart_key;
use super::index_entry::IndexEntry;
use crate::base::collections::FastMap;
use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::{Flow, Phase};

/// Maximum number of source ports that are remembered for an entry, the latest ones.
const PORTS_MAX: usize = 64;
/// Time after the start in which a UDP flow of an earlier run may continue; by default flows end after as
/// long without a datagram.
const RESUME: SignedDuration = SignedDuration::from_mins(1);

/// Entries of earlier runs with open connections.
#[derive(Debug)]
pub(super) struct BeforeRestart {
    started: Timestamp,
    /// Entries by [`restart_key`], oldest first.
    by_key: FastMap<u64, Vec<u32>>,
    /// Source ports of the UDP flows of an entry.
    ports: FastMap<u32, Vec<u16>>,
}

impl BeforeRestart {
    pub(super) fn new(started: Timestamp) -> Self {
        Self { started, by_key: FastMap::default(), ports: FastMap::default() }
    }

    /// Prepares for the connections of a new entry whose properties `flow` has.
    pub(super) fn add_entry(&mut self, number: u32, flow: &Flow) {
        if flow.protocol == Protocol::Udp {
            self.ports.insert(number, Vec::new());
        }
    }

    /// Adds a connection of an entry.
    pub(super) fn add_connection(&mut self, entry: u32, port: Option<u16>) {
        if let Some(ports) = self.ports.get_mut(&entry)
            && let Some(port) = port
        {
            if ports.len() >= PORTS_MAX {
                ports.remove(0);
            }
            ports.push(port);
        }
    }

    /// Forgets what has no open connection, once all files are read.
    pub(super) fn finish(&mut self, entries: &FastMap<u32, IndexEntry>) {
        let is_open = |number: u32| entries.get(&number).is_some_and(|entry| entry.open > 0);
        self.ports.retain(|number, ports| !ports.is_empty() && is_open(*number));
        let mut open: Vec<(u32, u64)> = entries
            .iter()
            .filter(|(_, entry)| entry.open > 0)
            .map(|(number, entry)| (*number, entry.restart_key))
            .collect();
        open.sort_unstable();
        for (number, key) in open {
            self.by_key.entry(key).or_default().push(number);
        }
    }

    /// Entry with the properties of a flow.
    pub(super) fn get(&self, restart_key: u64) -> Option<u32> {
        self.by_key.get(&restart_key).and_then(|numbers| numbers.first()).copied()
    }

    /// Removes an evicted entry.
    pub(super) fn remove(&mut self, number: u32, restart_key: u64) {
        self.ports.remove(&number);
        if let Some(numbers) = self.by_key.get_mut(&restart_key) {
            numbers.retain(|known| *known != number);
            if numbers.is_empty() {
                self.by_key.remove(&restart_key);
            }
        }
    }

    /// Takes the connection of `flow` from the entry of an earlier run in which it is still open.
    pub(super) fn take(
        &mut self,
        flow: &Flow,
        entries: &mut FastMap<u32, IndexEntry>,
    ) -> Option<u32> {
        let may_continue = flow.protocol == Protocol::Udp
            && flow.phase == Phase::Opened
            && flow.time.duration_since(self.started) < RESUME;
        if !flow.preexisting && !may_continue {
            return None;
        }
        for number in self.by_key.get(&restart_key(flow))? {
            let Some(entry) = entries.get_mut(number).filter(|entry| entry.open > 0) else {
                continue;
            };
            if !flow.preexisting {
                let port = flow.source_port()?;
                let Some(ports) = self.ports.get_mut(number) else { continue };
                let Some(at) = ports.iter().position(|known| *known == port) else { continue };
                ports.swap_remove(at);
            }
            entry.open -= 1;
            return Some(*number);
        }
        None
    }
}
