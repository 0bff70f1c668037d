//! `PortSet`: ports that comparisons allow, as ranges.

use super::lexer::ComparisonSign;
use crate::intel::indicator::PortRange;

/// Sorted ranges that are not adjacent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortSet(Vec<PortRange>);

impl PortSet {
    /// Returns the ports for which the comparison with `port` holds.
    pub(super) fn from_comparison(compare: ComparisonSign, port: i64) -> Self {
        let (first, last) = match compare {
            ComparisonSign::Equal => (port, port),
            ComparisonSign::NotEqual => {
                return Self::from_comparison(ComparisonSign::Equal, port).complement();
            }
            ComparisonSign::Less => (0, port.saturating_sub(1)),
            ComparisonSign::LessOrEqual => (0, port),
            ComparisonSign::Greater => (port.saturating_add(1), i64::MAX),
            ComparisonSign::GreaterOrEqual => (port, i64::MAX),
        };
        Self::from_bounds(first, last)
    }

    /// Returns the set of these ports, without numbers out of range.
    pub(super) fn from_ports(ports: impl Iterator<Item = i64>) -> Self {
        let mut ranges: Vec<PortRange> = ports.flat_map(|it| Self::from_bounds(it, it).0).collect();
        ranges.sort_unstable();
        Self(merge_adjacent(ranges))
    }

    fn from_bounds(first: i64, last: i64) -> Self {
        let max = i64::from(u16::MAX);
        let range = u16::try_from(first.max(0)).ok().zip(u16::try_from(last.min(max)).ok());
        let range = range.filter(|(first, last)| first <= last);
        Self(range.map(|(first, last)| PortRange { first, last }).into_iter().collect())
    }

    /// Returns all other ports.
    pub(super) fn complement(&self) -> Self {
        let mut next = 0;
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        for range in &self.0 {
            gaps.extend(Self::from_bounds(next, i64::from(range.first) - 1).0);
            next = i64::from(range.last) + 1;
        }
        gaps.extend(Self::from_bounds(next, i64::MAX).0);
        Self(gaps)
    }

    /// Returns the ports of both sets.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut common = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let (first, last) = (a.first.max(b.first), a.last.min(b.last));
            if first <= last {
                common.push(PortRange { first, last });
            }
            if a.last < b.last {
                left.next()
            } else {
                right.next()
            };
        }
        Self(common)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the ranges as a qualifier: empty for a set of all ports.
    pub(super) fn qualifier(&self) -> Vec<PortRange> {
        match self.0.as_slice() {
            [PortRange { first: 0, last: u16::MAX }] => Vec::new(),
            ranges => ranges.to_vec(),
        }
    }
}

/// Merges sorted ranges that are adjacent or overlap.
pub(super) fn merge_adjacent(sorted: Vec<PortRange>) -> Vec<PortRange> {
    let mut ranges: Vec<PortRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match ranges.last_mut() {
            Some(known) if range.first <= known.last.saturating_add(1) => {
                known.last = known.last.max(range.last);
            }
            _ => ranges.push(range),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains(set: &PortSet, port: u16) -> bool {
        set.0.iter().any(|range| range.first <= port && port <= range.last)
    }

    fn compare() -> impl Strategy<Value = ComparisonSign> {
        prop_oneof![
            Just(ComparisonSign::Equal),
            Just(ComparisonSign::NotEqual),
            Just(ComparisonSign::Less),
            Just(ComparisonSign::LessOrEqual),
            Just(ComparisonSign::Greater),
            Just(ComparisonSign::GreaterOrEqual),
        ]
    }

    proptest! {
        #[test]
        fn sets_match_their_comparisons(
            a in (compare(), -2..=65540_i64),
            b in (compare(), -2..=65540_i64),
            list in prop::collection::vec(-2..=65540_i64, 0..5),
            at in 0..=2_i64,
        ) {
            let holds = |(compare, value): (ComparisonSign, i64), port: i64| match compare {
                ComparisonSign::Equal => port == value,
                ComparisonSign::NotEqual => port != value,
                ComparisonSign::Less => port < value,
                ComparisonSign::LessOrEqual => port <= value,
                ComparisonSign::Greater => port > value,
                ComparisonSign::GreaterOrEqual => port >= value,
            };
            let (first, second) = (PortSet::from_comparison(a.0, a.1), PortSet::from_comparison(b.0, b.1));
            let both = first.intersection(&second);
            let listed = PortSet::from_ports(list.iter().copied());
            for near in [a.1, b.1, 1, 65535, list.first().copied().unwrap_or(7)] {
                let Ok(port) = u16::try_from(near + at - 1) else { continue };
                let is = i64::from(port);
                prop_assert_eq!(contains(&first, port), holds(a, is));
                prop_assert_eq!(contains(&first.complement(), port), !holds(a, is));
                prop_assert_eq!(contains(&both, port), holds(a, is) && holds(b, is));
                prop_assert_eq!(contains(&listed, port), list.contains(&is));
            }
        }
    }

    #[test]
    fn every_port_is_no_qualifier() {
        assert_eq!(PortSet::from_comparison(ComparisonSign::GreaterOrEqual, 0).qualifier(), []);
        assert!(PortSet::from_comparison(ComparisonSign::Less, 0).is_empty());
        assert!(PortSet::from_comparison(ComparisonSign::Equal, 70000).is_empty());
        let both = PortSet::from_ports([443, 80, 81].into_iter());
        let range = |first, last| PortRange { first, last };
        assert_eq!(both.qualifier(), [range(80, 81), range(443, 443)]);
    }
}
