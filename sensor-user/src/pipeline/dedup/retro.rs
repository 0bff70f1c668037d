//! Retro alerts: one for all earlier connections that an indicator and a key have in common.

use std::collections::HashMap;

use super::alert::{Alert, AlertKind};
use super::sighting::Sighting;
use super::window::{Dedup, Key};
use crate::pipeline::history::Retro;

impl Dedup {
    /// Raises what was found in the history. It opens no window: the next connection alerts at
    /// once. The id of an alert is that of its key and first connection, so that it is the same
    /// where a kill makes it be found again.
    pub fn retro(&mut self, found: Vec<Retro>, alerts: &mut Vec<Alert>) {
        let mut places: HashMap<Key, usize> = HashMap::new();
        let mut joined: Vec<(Key, Retro)> = Vec::new();
        for retro in found {
            let key = Key::of(&retro.hit, &retro.flow);
            if let Some((_, known)) = places.get(&key).and_then(|place| joined.get_mut(*place)) {
                join(known, retro);
            } else {
                places.insert(key.clone(), joined.len());
                joined.push((key, retro));
            }
        }
        for (key, Retro { hit, flow, tally }) in joined {
            // A kill came between the alert and the note in the history that it was told.
            if self.is_told(&key, (tally.first_seen, tally.last_seen)) {
                continue;
            }
            let id = self.alert_id(&key, tally.first_seen, AlertKind::Retro);
            self.count_raised();
            alerts.push(Alert::new(AlertKind::Retro, id, &hit, Sighting::from(&flow), tally));
        }
    }
}

fn join(known: &mut Retro, more: Retro) {
    known.tally.join(&more.tally);
    if more.flow.time > known.flow.time {
        (known.flow, known.hit) = (more.flow, more.hit);
    }
}
