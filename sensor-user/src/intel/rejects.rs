//! What of a feed is not used, why, and where it stands.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::address::Exclusion;

/// Entries that are kept with their place, of those where the input is at fault and of the others
/// each; further ones are only counted.
const KEPT_MAX: u64 = 1000;
/// Characters of an entry's text that are kept.
const TEXT_MAX: usize = 200;

/// Why an entry is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectReason {
    /// Longer than a line may be.
    LineTooLong,
    /// Not UTF-8, not JSON, or a column of a wrong type; what the parser says.
    Malformed(String),
    /// No column names an address or a network.
    NoAddress,
    /// The text that should be an address or a network is neither.
    NotAnAddress,
    /// A range of addresses written `a-b`; write it as networks.
    AddressRange,
    /// Private, special, or too wide.
    Excluded(Exclusion),
    /// `TimeGenerated` is before the look-back.
    TooOld,
    /// A newer row of the same `IndicatorId` decides.
    Superseded,
    /// The deciding row is not active.
    NotActive,
    /// The deciding row is deleted or revoked.
    Withdrawn,
    /// The deciding row has no expiry.
    NoExpiry,
    /// The deciding row has expired.
    Expired,
    /// The pattern cannot be read; what is wrong, and where in it.
    Pattern(String),
    /// The pattern names no address or network that is sufficient on its own.
    NotSufficient,
    /// In a language other than STIX patterns.
    PatternType(String),
    /// Some other object or type of entry: no address could be in it.
    NotAnIndicator,
    /// Said to be harmless.
    Benign,
    /// Below the feed's `min_confidence`.
    LowConfidence,
    /// Names this host itself.
    OwnAddress,
    /// Made to test or only seen, not to be acted on (`to_ids` false, simulated).
    NotActionable,
}

impl RejectReason {
    /// A short name for counting.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LineTooLong => "line too long",
            Self::Malformed(_) => "malformed",
            Self::NoAddress => "no address",
            Self::NotAnAddress => "not an address",
            Self::AddressRange => "address range",
            Self::Excluded(Exclusion::Private(_)) => "private or special range",
            Self::Excluded(Exclusion::TooShort) => "prefix too short",
            Self::TooOld => "older than the look-back",
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

    /// Whether the input is at fault; otherwise it is a rule that was applied to good input.
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
            Self::AddressRange => f.write_str("a range of addresses; write it as networks"),
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

/// One entry that is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Line of a list or of JSON lines, else the number of the object in the feed, from 1; over all
    /// documents of a pull.
    #[serde(rename = "place")]
    pub position: u64,
    /// Why.
    pub reason: RejectReason,
    /// The entry, or the part that is at fault, shortened. Hostile: escape it.
    pub text: String,
}

/// All entries of a feed that are not used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejects {
    counts: BTreeMap<Cow<'static, str>, u64>,
    malformed: u64,
    ruled_out: u64,
    kept: Vec<Reject>,
}

impl Rejects {
    /// Notes one.
    pub fn add(&mut self, position: u64, reason: RejectReason, text: &str) {
        *self.counts.entry(Cow::Borrowed(reason.name())).or_default() += 1;
        let of_its_sort =
            if reason.is_malformed() { &mut self.malformed } else { &mut self.ruled_out };
        *of_its_sort += 1;
        if *of_its_sort <= KEPT_MAX {
            let text = text.chars().take(TEXT_MAX).collect();
            self.kept.push(Reject { position, reason, text });
        }
    }

    /// Number by short name of the reason.
    pub const fn counts(&self) -> &BTreeMap<Cow<'static, str>, u64> {
        &self.counts
    }

    /// Those where the input is at fault.
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// All of them.
    pub const fn total(&self) -> u64 {
        self.malformed + self.ruled_out
    }

    /// The first `KEPT_MAX` of each sort, in input order within each pass.
    pub fn kept(&self) -> &[Reject] {
        &self.kept
    }
}
