//! Verdict on one row: usable, or rejected with a reason.

use jiff::Timestamp;

use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// A row with at least one usable address.
#[derive(Debug)]
pub(super) struct UsableRow {
    pub(super) time_generated: Timestamp,
    pub(super) state: RowState,
    /// Indicators of the row, all with its id; not empty.
    pub(super) indicators: Vec<Indicator>,
}

/// Columns that decide whether the indicators of a row are live, if the row is the newest of its
/// id.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowState {
    pub(super) active: bool,
    pub(super) withdrawn: bool,
    pub(super) table: SourceTable,
}

/// Table of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceTable {
    /// `ThreatIntelligenceIndicator`: an indicator without an expiry is never live.
    Legacy,
    /// `ThreatIntelIndicators`: an indicator without an expiry is valid for the feed's default TTL.
    Stix,
}

impl RowState {
    /// Returns why the indicators of the row are not live at `now`; `None` if they are.
    pub(super) fn inactive_reason(
        self,
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<RejectReason> {
        match expires {
            _ if !self.active => Some(RejectReason::NotActive),
            _ if self.withdrawn => Some(RejectReason::Withdrawn),
            None if self.table == SourceTable::Legacy => Some(RejectReason::NoExpiry),
            Some(expires) if expires <= now => Some(RejectReason::Expired),
            _ => None,
        }
    }
}

/// A row that is ignored, whatever its other columns hold.
#[derive(Debug)]
pub(super) struct RowReject {
    pub(super) reason: RejectReason,
    /// Text of the invalid column; `None` for the whole row.
    pub(super) text: Option<String>,
}

impl RowReject {
    pub(super) fn new(reason: RejectReason, text: &str) -> Self {
        Self { reason, text: Some(text.to_owned()) }
    }

    pub(super) fn missing_time() -> Self {
        let reason = RejectReason::Malformed("TimeGenerated is missing".to_owned());
        Self { reason, text: None }
    }
}
