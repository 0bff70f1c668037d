//! Corrections of a process that was a guess when its connection was recorded.

use std::sync::Arc;

use super::entry::restart_key_as;
use super::table::History;
use crate::pipeline::aggregate::{Flow, Guess, Phase};

impl History {
    /// Counts the later bytes of a connection, whose process was a guess, to the entries that it has with
    /// that process: an entry keeps the process that its connections were reported with.
    pub fn correct(&mut self, flow: &Flow, guess: &Guess) {
        let process = Arc::clone(&guess.process);
        let guessed = Flow { process, ..flow.clone() };
        for phase in [Phase::Opened, Phase::Translated] {
            let entry = self.by_restart_key.get(&restart_key_as(&guessed, phase)).copied();
            let has_room = self.by_restart_key.len() < self.config.max_entries.saturating_mul(2);
            if let Some(entry) = entry.filter(|_| has_room) {
                let key = restart_key_as(flow, phase);
                self.by_restart_key.entry(key).or_insert(entry);
            }
        }
    }
}
