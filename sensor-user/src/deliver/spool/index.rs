//! Index: segments, cursors, and the latest alerts in memory, so that a sink without delay reads
//! nothing from disk.

use std::collections::VecDeque;
use std::sync::Arc;

use super::frame::PendingCommit;
use super::recover::Recovery;
use super::segment::Segment;
use super::{BatchLimit, SinkStatus, SpoolError, SpoolStatus, StoredAlert, cursors};

/// Limits of alerts in memory, apart from those that are not on disk, which the queue limits.
const TAIL_ALERTS_MAX: usize = 20_000;
const TAIL_BYTES_MAX: usize = 32 << 20;

/// Position of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) name: String,
    /// Number of the first alert that is not acknowledged.
    pub(super) next: u64,
    /// Position in the file until a restart, if the disk has alerts that could not be read at start.
    pub(super) held_back: Option<u64>,
    /// True if the sink receives no more alerts.
    pub(super) is_removed: bool,
    /// True if the file does not have this position yet.
    pub(super) is_dirty: bool,
}

impl Cursor {
    const fn new(name: String, next: u64) -> Self {
        Self { name, next, held_back: None, is_removed: false, is_dirty: false }
    }

    /// Position for the file.
    pub(super) fn on_disk(&self) -> u64 {
        self.held_back.unwrap_or(self.next)
    }
}

/// Index of the log.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// In the order of their generations; the last may be written to.
    pub(super) segments: VecDeque<Segment>,
    pub(super) cursors: Vec<Cursor>,
    pub(super) tail: Tail,
    /// Number after that of the last alert which readers may have.
    pub(super) readable: u64,
    /// Number after that of the last alert which is known to be on disk.
    pub(super) durable: u64,
    /// Generation of the segment with the last snapshot that is known to be on disk.
    pub(super) floor: Option<u64>,
    /// Reason why the disk accepts no writes.
    pub(super) error: Option<String>,
    pub(super) repairs: Vec<String>,
}

impl Index {
    /// Index of an opened log. A new sink begins at the oldest retained alert; other sinks of the
    /// file are forgotten.
    pub(super) fn new(found: &Recovery, sinks: &[String]) -> Self {
        let oldest = found.segments.front().map_or(found.next.sequence, |segment| segment.first);
        let cursor = |name: &String| {
            let known = found.cursors.iter().find(|(known, _)| known == name);
            Cursor::new(name.clone(), known.map_or(oldest, |(_, cursor)| (*cursor).max(oldest)))
        };
        Self {
            segments: found.segments.clone(),
            cursors: sinks.iter().map(cursor).collect(),
            tail: Tail::default(),
            readable: found.end,
            durable: found.end,
            floor: found.floor,
            error: None,
            repairs: found.repairs.clone(),
        }
    }

    /// Makes the alerts of a commit available to readers.
    pub(super) fn publish(&mut self, pending: &mut PendingCommit) {
        if std::mem::replace(&mut pending.is_published, true) {
            return;
        }
        let numbered = (pending.header.sequence..).zip(&pending.alerts).zip(&pending.sizes);
        for ((sequence, alert), bytes) in numbered {
            self.tail.push(StoredAlert { sequence, alert: Arc::clone(alert), bytes: *bytes });
        }
        self.readable = self.readable.max(pending.end());
    }

    /// Gives `sink` a cursor, or its own again.
    pub(super) fn add_sink(&mut self, sink: &str) -> Result<(), SpoolError> {
        let oldest = self.segments.front().map_or(self.readable, |segment| segment.first);
        if let Some(known) = self.cursors.iter_mut().find(|cursor| cursor.name == sink) {
            if std::mem::take(&mut known.is_removed) {
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

    /// Removes the cursor of `sink` from the retention; returns how many alerts were pending.
    pub(super) fn remove_sink(&mut self, sink: &str) -> u64 {
        let known = self.cursors.iter_mut().find(|it| it.name == sink && !it.is_removed);
        let Some(known) = known else { return 0 };
        known.is_removed = true;
        let next = known.next;
        self.pending(next)
    }

    /// Number before which all sinks have acknowledged all alerts.
    pub(super) fn acknowledged(&self) -> u64 {
        self.first_cursor(|cursor| cursor.next)
    }

    /// Number before which no sink needs a segment.
    pub(super) fn needed(&self) -> u64 {
        self.first_cursor(Cursor::on_disk)
    }

    fn first_cursor(&self, position: impl Fn(&Cursor) -> u64) -> u64 {
        let live = self.cursors.iter().filter(|cursor| !cursor.is_removed);
        live.map(position).min().unwrap_or(u64::MAX)
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Number of alerts from the number `from` on.
    pub(super) fn pending(&self, from: u64) -> u64 {
        let stored: u64 = self.segments.iter().map(|segment| segment.alerts_from(from)).sum();
        stored + self.tail.count_from(from.max(self.durable))
    }

    /// The segment with the alert `number`, or with the next after it.
    pub(super) fn segment_at(&self, number: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.end > number)
    }

    pub(super) fn segment_mut(&mut self, generation: u64) -> Option<&mut Segment> {
        self.segments.iter_mut().rev().find(|segment| segment.generation == generation)
    }

    pub(super) fn status(&self, max_bytes: u64) -> SpoolStatus {
        let sink = |cursor: &Cursor| SinkStatus {
            name: cursor.name.clone(),
            cursor: cursor.next,
            waiting: if cursor.is_removed { 0 } else { self.pending(cursor.next) },
        };
        SpoolStatus {
            bytes: self.bytes(),
            max_bytes,
            segments: self.segments.len(),
            oldest: self.segments.iter().find(|it| it.alerts > 0).and_then(|it| it.oldest),
            error: self.error.clone(),
            repairs: self.repairs.clone(),
            sinks: self.cursors.iter().map(sink).collect(),
        }
    }
}

/// Latest alerts, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Tail {
    alerts: VecDeque<StoredAlert>,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, stored: StoredAlert) {
        self.bytes = self.bytes.saturating_add(stored.bytes);
        self.alerts.push_back(stored);
    }

    /// Number of the first alert.
    pub(super) fn first(&self) -> Option<u64> {
        self.alerts.front().map(|stored| stored.sequence)
    }

    fn position(&self, from: u64) -> usize {
        self.alerts.partition_point(|stored| stored.sequence < from)
    }

    fn count_from(&self, from: u64) -> u64 {
        (self.alerts.len() - self.position(from)) as u64
    }

    /// Alerts from the number `from` on, within `limit` but at least one.
    pub(super) fn read(&self, from: u64, limit: BatchLimit) -> Vec<StoredAlert> {
        let mut bytes = 0_usize;
        let fits = |stored: &&StoredAlert| {
            let is_first = bytes == 0;
            bytes = bytes.saturating_add(stored.bytes.max(1));
            is_first || bytes <= limit.bytes
        };
        let alerts = self.alerts.range(self.position(from)..).take(limit.alerts.max(1));
        alerts.take_while(fits).cloned().collect()
    }

    /// Removes alerts above the limits that are on disk: those before the number `durable`.
    pub(super) fn trim(&mut self, durable: u64) {
        while self.first().is_some_and(|first| first < durable)
            && (self.alerts.len() > TAIL_ALERTS_MAX || self.bytes > TAIL_BYTES_MAX)
        {
            self.remove_first();
        }
    }

    /// Removes alerts before the number `until`.
    pub(super) fn remove_before(&mut self, until: u64) {
        while self.first().is_some_and(|first| first < until) {
            self.remove_first();
        }
        if self.alerts.is_empty() {
            self.alerts.shrink_to(1024);
        }
    }

    fn remove_first(&mut self) {
        if let Some(first) = self.alerts.pop_front() {
            self.bytes = self.bytes.saturating_sub(first.bytes);
        }
    }
}
