//! Segment: what memory knows of a file of the log.

use jiff::Timestamp;

use super::frame::Frame;

/// A file of the log. Its name says its first sequence number, and its generation, which no other
/// has: `00000000000000000001-0000000001.log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) name: String,
    /// Grows by one with each segment.
    pub(super) generation: u64,
    /// Ordinal of its first frame.
    pub(super) ordinal: u64,
    /// Sequence number of its first alert.
    pub(super) first: u64,
    /// Number behind its last alert that is known to be on disk.
    pub(super) end: u64,
    /// Alerts among these numbers.
    pub(super) alerts: u64,
    /// Length of the file without the room at its end.
    pub(super) bytes: u64,
    /// When its first commit was put.
    pub(super) oldest: Option<Timestamp>,
    /// When its last commit was put.
    pub(super) newest: Option<Timestamp>,
}

impl Segment {
    /// A segment without frames.
    pub(super) fn new(generation: u64, first: u64, ordinal: u64) -> Self {
        let name = format!("{first:020}-{generation:010}.log");
        Self {
            name,
            generation,
            ordinal,
            first,
            end: first,
            alerts: 0,
            bytes: 0,
            oldest: None,
            newest: None,
        }
    }

    /// Generation and first number that a file's name says; `None` where it is no segment's name.
    pub(super) fn numbers_of(name: &str) -> Option<(u64, u64)> {
        let (first, generation) = name.strip_suffix(".log")?.split_once('-')?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(first) || !is_number(generation) {
            return None;
        }
        Some((generation.parse().ok()?, first.parse().ok()?))
    }

    /// Takes in a frame that is on disk.
    pub(super) fn note(&mut self, frame: &Frame<'_>) {
        self.note_alerts(frame.end(), frame.alerts.into(), frame.time);
    }

    /// Takes in `alerts` up to the number `end`, put at `time`.
    pub(super) fn note_alerts(&mut self, end: u64, alerts: u64, time: Timestamp) {
        self.end = self.end.max(end);
        self.alerts = self.alerts.saturating_add(alerts);
        self.oldest.get_or_insert(time);
        self.newest = Some(self.newest.map_or(time, |newest| newest.max(time)));
    }

    /// How many of its alerts have the number `from` or a later one.
    pub(super) fn alerts_from(&self, from: u64) -> u64 {
        self.end.saturating_sub(from.max(self.first)).min(self.alerts)
    }
}
