//! `AckTracker`: the position up to which a sink has acknowledged alerts, with several batches in
//! flight.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Alerts that were read from the spool and are not acknowledged: those in flight or to be retried.
#[derive(Debug, Default)]
pub(super) struct AckTracker {
    /// Times by sequence number.
    pending: BTreeMap<u64, Timestamp>,
    end: u64,
}

impl AckTracker {
    /// Adds an alert that was read; sequence numbers ascend.
    pub(super) fn add(&mut self, sequence: u64, time: Timestamp) {
        self.pending.insert(sequence, time);
        self.end = self.end.max(sequence.saturating_add(1));
    }

    /// Records that an alert is delivered or dead-lettered.
    pub(super) fn acknowledge(&mut self, sequence: u64) {
        self.pending.remove(&sequence);
    }

    /// Sequence number before which all alerts are acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.pending.first_key_value().map_or(self.end, |(first, _)| *first)
    }

    /// Time of the first alert that is not acknowledged.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.pending.first_key_value().map(|(_, time)| *time)
    }

    /// Number of alerts that are not acknowledged.
    pub(super) fn len(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Sequence number after the last alert that was read.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::AckTracker;

    #[test]
    fn the_first_pending_alert_holds_the_position() {
        let mut acks = AckTracker::default();
        assert_eq!((acks.acknowledged(), acks.is_empty()), (0, true));
        assert_eq!(acks.oldest(), None);
        let at = |sequence: u64| Timestamp::from_second(sequence.cast_signed()).unwrap();
        (5..9).for_each(|sequence| acks.add(sequence, at(sequence)));
        assert_eq!(acks.oldest(), Some(at(5)));
        for (acknowledged, before) in [(6, 5), (5, 7), (8, 7), (7, 9)] {
            acks.acknowledge(acknowledged);
            assert_eq!(acks.acknowledged(), before, "{acknowledged}");
        }
        assert!(acks.is_empty());
    }
}
