//! `Place`: how far a sink's alerts are settled, where several batches are under way at once.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Alerts that were taken out of the spool and are not settled: as many as are under way or to be
/// sent again.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// With their times.
    open: BTreeMap<u64, Timestamp>,
    /// After the last one that was taken out.
    end: u64,
}

impl Place {
    /// An alert of this time was taken out; sequences ascend.
    pub(crate) fn took(&mut self, sequence: u64, time: Timestamp) {
        self.open.insert(sequence, time);
        self.end = self.end.max(sequence.saturating_add(1));
    }

    /// An alert is delivered or set aside.
    pub(crate) fn settle(&mut self, sequence: u64) {
        self.open.remove(&sequence);
    }

    /// All before this are settled.
    pub(crate) fn settled_before(&self) -> u64 {
        self.open.first_key_value().map_or(self.end, |(first, _)| *first)
    }

    /// Time of the first alert that is not settled.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.open.first_key_value().map(|(_, time)| *time)
    }

    /// Alerts that are not settled.
    pub(crate) fn open(&self) -> u64 {
        self.open.len() as u64
    }

    /// After the last one that was taken out.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::Place;

    #[test]
    fn the_first_open_one_holds_the_place() {
        let mut place = Place::default();
        assert_eq!((place.settled_before(), place.is_settled()), (0, true));
        assert_eq!(place.oldest(), None);
        let at = |sequence: u64| Timestamp::from_second(sequence.cast_signed()).unwrap();
        (5..9).for_each(|sequence| place.took(sequence, at(sequence)));
        assert_eq!(place.oldest(), Some(at(5)));
        for (settled, before) in [(6, 5), (5, 7), (8, 7), (7, 9)] {
            place.settle(settled);
            assert_eq!(place.settled_before(), before, "{settled}");
        }
        assert!(place.is_settled());
    }
}
