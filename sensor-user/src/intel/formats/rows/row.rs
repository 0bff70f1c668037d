//! What a row of either table makes.

use jiff::Timestamp;

use super::legacy::LegacyRow;
use super::table::TableRow;
use crate::base::lines::json_fault;
use crate::intel::formats::entry::ReadPolicy;
use crate::intel::indicator::Indicator;
use crate::intel::rejects::Reason;

/// A row that names at least one address that may be used.
#[derive(Debug)]
pub(super) struct Judged {
    /// `TimeGenerated`.
    pub(super) time_generated: Timestamp,
    /// Whether what it names counts, where this row decides.
    pub(super) state: State,
    /// All with the id of the row; not empty.
    pub(super) indicators: Vec<Indicator>,
}

/// What decides whether the indicators of a row count.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) active: bool,
    pub(super) withdrawn: bool,
    pub(super) kind: Kind,
}

/// Which table a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `ThreatIntelligenceIndicator`: what has no expiry never counts.
    Legacy,
    /// `ThreatIntelIndicators`: what has no expiry is valid as the feed's default says.
    Table,
}

impl State {
    /// Why the indicators of the row do not count at `now`, if so.
    pub(super) fn fault(self, expires: Option<Timestamp>, now: Timestamp) -> Option<Reason> {
        match expires {
            _ if !self.active => Some(Reason::NotActive),
            _ if self.withdrawn => Some(Reason::Withdrawn),
            None if self.kind == Kind::Legacy => Some(Reason::NoExpiry),
            Some(expires) if expires <= now => Some(Reason::Expired),
            _ => None,
        }
    }
}

/// A row that is ignored, whatever else it says.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) reason: Reason,
    /// The part at fault; `None` for the whole row.
    pub(super) text: Option<String>,
}

impl Unusable {
    pub(super) fn new(reason: Reason, text: &str) -> Self {
        Self { reason, text: Some(text.to_owned()) }
    }

    pub(super) fn without_time() -> Self {
        Self { reason: Reason::Malformed("TimeGenerated is missing".to_owned()), text: None }
    }
}

/// Judges a row by itself.
pub(super) fn judge(bytes: &[u8], policy: &ReadPolicy) -> Result<Judged, Unusable> {
    let malformed = |error: serde_json::Error| {
        let reason = Reason::Malformed(json_fault(&error));
        Unusable { reason, text: None }
    };
    let row: LegacyRow<'_> = serde_json::from_slice(bytes).map_err(malformed)?;
    if row.is_of_other_table() {
        let row: TableRow<'_> = serde_json::from_slice(bytes).map_err(malformed)?;
        return row.judge(policy);
    }
    row.judge(policy)
}
