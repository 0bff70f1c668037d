//! Retro alerts: one for each key, for all its earlier connections that a new indicator covers.

use indexmap::map::Entry;

use super::alert::{Alert, AlertKind};
use super::sighting::Sighting;
use super::window::{Dedup, WindowKey};
use crate::base::collections::FastIndexMap;
use crate::pipeline::history::RetroMatch;

impl Dedup {
    /// Raises an alert for the matches found in the history. It opens no window, so the next
    /// connection raises an alert at once. The id of the alert depends only on its key and first
    /// connection, so that it is the same if the match is found again after a kill.
    pub fn raise_retro(&mut self, found: Vec<RetroMatch>, alerts: &mut Vec<Alert>) {
        let mut joined: FastIndexMap<WindowKey, RetroMatch> = FastIndexMap::default();
        for retro in found {
            match joined.entry(WindowKey::of(&retro.hit, &retro.flow)) {
                Entry::Occupied(mut known) => join(known.get_mut(), retro),
                Entry::Vacant(new) => {
                    new.insert(retro);
                }
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
