//! Rejects: entries of a feed that are not used, with reason and position.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::address::Exclusion;
use crate::base::lines::json_error;

/// Rejects that are kept with their position, of malformed input and of the others each; further
/// ones are only counted.
const KEPT_MAX: u64 = 1000;
/// Maximum length of a kept text in characters.
const TEXT_MAX: usize = 200;

/// Reason why an entry is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectReason {
    /// Longer than a line may be.
    LineTooLong,
    /// Not UTF-8, not JSON, or a column of a wrong type; the text is the parser's error.
    Malformed(String),
    /// No column names an address or a network.
    NoAddress,
    /// The text that should be an address or a network is neither.
    NotAnAddress,
    /// Two addresses that may be a range, but are none that can be used.
    AddressRange,
    /// An address in the text after another entry of the line.
    AddressInText,
    /// The entry is used, without this property, whose value is of another type; the text is the
    /// property's name.
    PropertyUnused(String),
    /// Private, special, or too wide.
    Excluded(Exclusion),
    /// `TimeGenerated` is before the lookback.
    TooOld,
    /// A newer row of the same `IndicatorId` applies.
    Superseded,
    /// The newest row is not active.
    NotActive,
    /// The newest row is deleted or revoked.
    Withdrawn,
    /// The newest row has no expiry.
    NoExpiry,
    /// The newest row has expired.
    Expired,
    /// The pattern cannot be parsed; the text is the error and its offset.
    Pattern(String),
    /// No address or network of the pattern is sufficient on its own.
    NotSufficient,
    /// The pattern is in another language than STIX patterns.
    PatternType(String),
    /// Another type of object or entry, which cannot hold an address.
    NotAnIndicator,
    /// Marked as benign by the feed.
    Benign,
    /// Confidence below the feed's `min_confidence`.
    LowConfidence,
    /// An address of this host.
    OwnAddress,
    /// A test or an observation, not meant for detection (`to_ids` false, simulated).
    NotActionable,
}

impl RejectReason {
    /// Reason for invalid JSON.
    pub fn from_json(error: &serde_json::Error) -> Self {
        Self::Malformed(json_error(error))
    }

    /// Returns a short name, used as the label of counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LineTooLong => "line too long",
            Self::Malformed(_) => "malformed",
            Self::NoAddress => "no address",
            Self::NotAnAddress => "not an address",
            Self::AddressRange => "address range",
            Self::AddressInText => "address in a text",
            Self::PropertyUnused(_) => "property not used",
            Self::Excluded(Exclusion::Private(_)) => "private or special range",
            Self::Excluded(Exclusion::TooShort) => "prefix too short",
            Self::TooOld => "older than the lookback period",
            Self::Superseded => "superseded",
            Self::NotActive => "not active",
            Self::Withdrawn => "deleted or revoked",
            Self::NoExpiry => "no expiry",
            Self::Expired => "expired",
            Self::Pattern(_) => "pattern cannot be read",
            Self::NotSufficient => "no address is sufficient alone",
            Self::PatternType(_) => "not a STIX pattern",
            Self::NotAnIndicator => "not an address indicator",
            Self::Benign => "benign",
            Self::LowConfidence => "low confidence",
            Self::OwnAddress => "an address of this host",
            Self::NotActionable => "not to be acted on",
        }
    }

    /// True for invalid input; false if a rule excluded valid input.
    pub const fn is_malformed(&self) -> bool {
        matches!(
            self,
            Self::LineTooLong
                | Self::Malformed(_)
                | Self::NotAnAddress
                | Self::AddressRange
                | Self::Pattern(_)
        )
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(detail) => write!(f, "malformed: {detail}"),
            Self::Pattern(detail) => write!(f, "the pattern cannot be read: {detail}"),
            Self::PatternType(kind) => {
                write!(f, "the pattern is of type {}, not stix", kind.escape_debug())
            }
            Self::AddressRange => f.write_str(
                "may be a range of addresses; write it as first-last or as networks, and other addresses one per line",
            ),
            Self::AddressInText => f.write_str("an address in a text; if it is an entry, write it on a line of its own"),
            Self::PropertyUnused(property) => {
                write!(f, "{} has a value of another kind, and is not used; the entry is", property.escape_debug())
            }
            Self::Excluded(Exclusion::Private(range)) => {
                write!(f, "meets the private or special range {range}; see allow_private")
            }
            Self::Excluded(Exclusion::TooShort) => {
                f.write_str("prefix too short; see min_prefix_v4 and min_prefix_v6")
            }
            other => f.write_str(other.name()),
        }
    }
}

/// One rejected entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Line number in a list or in JSON lines, otherwise the number of the object, from 1, counted
    /// over all documents of a pull.
    // The name in the saved sets of version 0.1.0.
    #[serde(rename = "place")]
    pub position: u64,
    /// Reason why it is not used.
    pub reason: RejectReason,
    /// The entry, or its invalid part, shortened. Hostile text: escape it.
    pub text: String,
}

/// All rejected entries of a feed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejects {
    counts: BTreeMap<Cow<'static, str>, u64>,
    malformed: u64,
    ruled_out: u64,
    /// Entries that repeat another one; they are used, so they are no rejects.
    #[serde(default)]
    duplicates: u64,
    /// Properties of entries that are used without them.
    #[serde(default)]
    properties: u64,
    kept: Vec<Reject>,
}

impl Rejects {
    /// Counts a reject, and keeps it while there is room.
    pub fn add(&mut self, position: u64, reason: RejectReason, text: &str) {
        *self.counts.entry(Cow::Borrowed(reason.name())).or_default() += 1;
        let text = text.chars().take(TEXT_MAX).collect();
        self.keep(Reject { position, reason, text });
    }

    /// Adds those of the next part of the input, whose first position is `offset + 1`.
    pub fn append(&mut self, next: Self, offset: u64) {
        let sums = [
            self.malformed + next.malformed,
            self.ruled_out + next.ruled_out,
            self.properties + next.properties,
        ];
        for reject in next.kept {
            self.keep(Reject { position: reject.position.saturating_add(offset), ..reject });
        }
        [self.malformed, self.ruled_out, self.properties] = sums;
        self.duplicates += next.duplicates;
        for (name, count) in next.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// Counts a reject in the sum of its kind, and keeps it while there is room.
    fn keep(&mut self, reject: Reject) {
        let sum = match &reject.reason {
            RejectReason::PropertyUnused(_) => &mut self.properties,
            reason if reason.is_malformed() => &mut self.malformed,
            _ => &mut self.ruled_out,
        };
        *sum += 1;
        if *sum <= KEPT_MAX {
            self.kept.push(reject);
        }
    }

    /// Counts an entry that repeats another one.
    pub const fn add_duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// Number of entries that repeat another one.
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Number of rejects by name of the reason.
    pub const fn counts(&self) -> &BTreeMap<Cow<'static, str>, u64> {
        &self.counts
    }

    /// Number of rejects of invalid input.
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Number of all rejects, without properties whose entries are used.
    pub const fn total(&self) -> u64 {
        self.malformed + self.ruled_out
    }

    /// Number of properties that are not used, of entries that are.
    pub const fn properties(&self) -> u64 {
        self.properties
    }

    /// The first `KEPT_MAX` malformed, other, and unused properties each, in input order.
    pub fn kept(&self) -> &[Reject] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_input_have_the_rejects_of_the_whole() {
        let reason = |at: u64| match at % 4 {
            0 => RejectReason::NotAnAddress,
            1 => RejectReason::Expired,
            2 => RejectReason::PropertyUnused("confidence".to_owned()),
            _ => RejectReason::Superseded,
        };
        let of = |positions: std::ops::RangeInclusive<u64>, offset: u64| {
            let mut rejects = Rejects::default();
            for at in positions {
                rejects.add(at - offset, reason(at), "text");
            }
            rejects.add_duplicate();
            rejects
        };
        for split in [1, 700, 2000, 2500, 6000] {
            let mut parts = of(1..=split, 0);
            parts.append(of(split + 1..=7000, split), split);
            let mut whole = of(1..=7000, 0);
            whole.add_duplicate();
            assert_eq!(parts, whole, "{split}");
        }
    }
}
