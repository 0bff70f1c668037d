//! Publish: commits become readable, and cursors get to disk.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cursors;
use super::recover::Recovery;
use super::shared::{Cursor, Index};
use super::writer::{Log, Pending, Result};
use super::{SpoolError, Stored};
use crate::deliver::sinks::file::describe;

/// What memory knows of the log when it is opened: a sink whose name is new begins at the oldest
/// alert that is retained, and other names are forgotten.
pub(super) fn index(found: &Recovery, sinks: &[String]) -> Index {
    let oldest = found.segments.front().map_or(found.next_sequence, |segment| segment.first);
    let cursor = |name: &String| {
        let known = found.cursors.iter().find(|(known, _)| known == name);
        Cursor::new(name.clone(), known.map_or(oldest, |(_, cursor)| (*cursor).max(oldest)))
    };
    Index {
        segments: found.segments.clone(),
        cursors: sinks.iter().map(cursor).collect(),
        readable: found.end,
        durable: found.end,
        floor: found.floor,
        repairs: found.repairs.clone(),
        ..Index::default()
    }
}

impl Index {
    /// Lets readers have the alerts of a commit.
    pub(super) fn publish(&mut self, pending: &mut Pending) {
        if std::mem::replace(&mut pending.is_published, true) {
            return;
        }
        let numbered = (pending.place.sequence..).zip(&pending.alerts).zip(&pending.sizes);
        for ((sequence, alert), bytes) in numbered {
            self.tail.push(Stored { sequence, alert: Arc::clone(alert), bytes: *bytes });
        }
        self.readable = self.readable.max(pending.end());
    }
}

impl Index {
    /// Gives `sink` a cursor, or its own again.
    pub(super) fn take_up(&mut self, sink: &str) -> std::result::Result<(), SpoolError> {
        let oldest = self.segments.front().map_or(self.readable, |segment| segment.first);
        if let Some(known) = self.cursors.iter_mut().find(|cursor| cursor.name == sink) {
            if std::mem::take(&mut known.is_given_up) {
                known.next = known.next.max(oldest);
                known.is_dirty = true;
            }
            return Ok(());
        }
        if self.cursors.len() >= cursors::SINKS_MAX {
            return Err(SpoolError::Sinks { sinks: self.cursors.len() + 1 });
        }
        self.cursors.push(Cursor { is_dirty: true, ..Cursor::new(sink.to_owned(), oldest) });
        Ok(())
    }

    /// The cursor of `sink` holds nothing back any more; gives how many alerts it has not settled.
    pub(super) fn give_up(&mut self, sink: &str) -> u64 {
        let known = self.cursors.iter_mut().find(|cursor| cursor.name == sink);
        let Some(known) = known.filter(|cursor| !cursor.is_given_up) else { return 0 };
        known.is_given_up = true;
        let next = known.next;
        self.waiting(next)
    }
}

impl Log {
    /// Commits that are on disk from here on.
    pub(super) fn settle_synced(&mut self, done: VecDeque<Pending>) {
        let Some((generation, has_snapshot)) =
            self.active.as_ref().map(|active| (active.generation, active.has_snapshot))
        else {
            return;
        };
        let held: usize = done.iter().map(|pending| pending.alerts.len()).sum();
        let readable = {
            let mut index = self.shared.index();
            for mut pending in done {
                index.publish(&mut pending);
                let (end, alerts) = (pending.end(), pending.alerts.len() as u64);
                if let Some(segment) = index.segment_mut(generation) {
                    segment.note_alerts(end, alerts, pending.place.time);
                }
                index.durable = index.durable.max(end);
            }
            if has_snapshot {
                index.floor = Some(generation);
            }
            let (settled, durable) = (index.settled(), index.durable);
            index.tail.forget_before(settled);
            index.tail.trim(durable);
            index.readable
        };
        self.tell(readable, held);
    }

    /// Wakes the readers, and gives the queue room for `held` alerts.
    pub(super) fn tell(&self, readable: u64, held: usize) {
        self.shared.readable.send_if_modified(|known| {
            let is_news = *known < readable;
            *known = readable.max(*known);
            is_news
        });
        let mut queue = self.shared.queue();
        queue.held = queue.held.saturating_sub(held);
    }

    /// Writes the cursors that moved.
    pub(super) fn save_cursors(&mut self) -> Result<()> {
        let (all, changed) = {
            let mut index = self.shared.index();
            let changed: Vec<usize> = index
                .cursors
                .iter_mut()
                .enumerate()
                .filter_map(|(place, cursor)| std::mem::take(&mut cursor.is_dirty).then_some(place))
                .collect();
            if changed.is_empty() && self.cursors.is_open() {
                return Ok(());
            }
            let all: Vec<(String, u64)> =
                index.cursors.iter().map(|it| (it.name.clone(), it.on_disk())).collect();
            (all, changed)
        };
        self.cursors.save(&*self.storage, &all, &changed).map_err(|error| {
            // The next time writes all of them.
            describe(&self.path(cursors::FILE), error)
        })
    }
}
