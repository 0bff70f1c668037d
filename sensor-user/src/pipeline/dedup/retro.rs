//! Retro alerts: one for each key, for all its earlier connections that a new indicator covers.

use std::collections::HashMap;

use super::alert::{Alert, AlertKind};
use super::sighting::Sighting;
use super::window::{Dedup, Key};
use crate::pipeline::history::RetroMatch;

impl Dedup {
    /// Raises an alert for the matches found in the history. It opens no window, so the next
    /// connection raises an alert at once. The id of the alert depends only on its key and first
    /// connection, so that it is the same if the match is found again after a kill.
    pub fn raise_retro(&mut self, found: Vec<RetroMatch>, alerts: &mut Vec<Alert>) {
        let mut positions: HashMap<Key, usize> = HashMap::new();
        let mut joined: Vec<(Key, RetroMatch)> = Vec::new();
        for retro in found {
            let key = Key::of(&retro.hit, &retro.flow);
            if let Some((_, known)) = positions.get(&key).and_then(|at| joined.get_mut(*at)) {
                join(known, retro);
            } else {
                positions.insert(key.clone(), joined.len());
                joined.push((key, retro));
            }
        }
        for (key, RetroMatch { hit, flow, tally }) in joined {
            // A kill came after the alert was written, before the history recorded it.
            if self.is_already_counted(&key, &tally) {
                continue;
            }
            let id = self.alert_id(&key, tally.first_seen, AlertKind::Retro);
            self.stats.alerts_raised.increment();
            alerts.push(Alert::new(AlertKind::Retro, id, &hit, Sighting::from(&flow), tally));
        }
    }
}

fn join(known: &mut RetroMatch, more: RetroMatch) {
    known.tally.join(&more.tally);
    if more.flow.time > known.flow.time {
        (known.flow, known.hit) = (more.flow, more.hit);
    }
}
