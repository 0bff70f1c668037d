//! `MemorySegment`: builder of a segment in memory, for indicators that have no set file.

use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;

use super::memory_records::MemoryRecords;
use super::segment::FeedSegment;
use crate::intel::indicator::Indicator;

/// Indicators in the order in which they were added. Only those that are kept get into the segment.
#[derive(Debug, Default)]
pub(crate) struct MemorySegment {
    prefixes: Vec<IpNet>,
    is_kept: Vec<bool>,
    records: MemoryRecords,
}

impl MemorySegment {
    /// Adds an indicator with the next number, which is not kept yet.
    pub(crate) fn push(&mut self, indicator: &Indicator) {
        self.prefixes.push(indicator.prefix);
        self.is_kept.push(false);
        self.records.push(indicator);
    }

    /// Number of the next indicator's record.
    pub(crate) fn next_number(&self) -> u32 {
        u32::try_from(self.prefixes.len()).unwrap_or(u32::MAX)
    }

    /// Keeps the records of a range.
    pub(crate) fn keep(&mut self, numbers: Range<u32>) {
        let range = numbers.start as usize..numbers.end as usize;
        self.is_kept.get_mut(range).unwrap_or_default().fill(true);
    }

    /// Moves the indicators of `other`, whose numbers begin with [`Self::next_number`], to the end.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.prefixes.append(&mut other.prefixes);
        self.is_kept.append(&mut other.is_kept);
        self.records.append(other.records);
    }

    /// Returns a segment of the kept indicators.
    pub(crate) fn finish(self) -> FeedSegment {
        let Self { prefixes, is_kept, records } = self;
        let numbered = prefixes.into_iter().zip(0_u32..).zip(is_kept);
        let kept = numbered.filter_map(|(it, is_kept)| is_kept.then_some(it));
        FeedSegment::in_memory(kept, records)
    }
}

impl FromIterator<Arc<Indicator>> for MemorySegment {
    /// Keeps all indicators.
    fn from_iter<I: IntoIterator<Item = Arc<Indicator>>>(indicators: I) -> Self {
        let mut segment = Self::default();
        for indicator in indicators {
            segment.push(&indicator);
        }
        segment.is_kept.fill(true);
        segment
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intel::address::parse_prefix;
    use crate::intel::indicator::{PortRange, Ports};

    #[test]
    fn kept_indicators_are_found_with_all_their_fields() {
        let full = |id: &str, feed: &str, prefix: &str| Indicator {
            id: id.to_owned(),
            feed: feed.into(),
            entity: prefix.to_owned(),
            expires: "2026-12-24T10:00:00.123456789Z".parse().ok(),
            time_generated: "2026-11-24T10:00:00Z".parse().unwrap(),
            description: format!("description of {id}"),
            confidence: Some(70.5),
            threat_severity: Some(3),
            version: "2026-11-23T10:00:00Z".parse().ok(),
            ports: Ports { remote: vec![PortRange { first: 80, last: 90 }], local: Vec::new() },
            ..Indicator::blank(parse_prefix(prefix).unwrap())
        };
        let all = [
            full("a", "one", "203.0.113.7"),
            full("b", "one", "203.0.113.0/24"),
            full("superseded", "two", "203.0.113.7"),
            full("c", "two", "2001:db8::/32"),
            full("d", "one", "2001:db8::1"),
        ];
        let mut segment = MemorySegment::default();
        for part in all.chunks(2) {
            let mut next = MemorySegment::default();
            for indicator in part {
                next.push(indicator);
            }
            segment.append(next);
        }
        assert_eq!(segment.next_number(), 5);
        segment.keep(0..2);
        segment.keep(3..5);
        let segment = segment.finish();
        assert_eq!((segment.len(), segment.sizes()), (4, (2, 2)));
        let found = |address: &str| -> Vec<Indicator> {
            let found = segment.covering(address.parse().unwrap()).into_iter();
            found
                .filter_map(|(number, prefix)| segment.indicator(number, prefix))
                .map(Arc::unwrap_or_clone)
                .collect()
        };
        assert_eq!(found("203.0.113.7"), [all[1].clone(), all[0].clone()]);
        assert_eq!(found("2001:db8::1"), [all[3].clone(), all[4].clone()]);
        assert_eq!(found("192.0.2.1"), []);
        let every: Vec<Indicator> =
            segment.indicators().into_iter().map(Arc::unwrap_or_clone).collect();
        assert_eq!(every, [all[0].clone(), all[1].clone(), all[3].clone(), all[4].clone()]);
    }
}
