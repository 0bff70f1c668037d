//! Verdict on one row: usable, or rejected with a reason.

use ipnet::IpNet;
use jiff::Timestamp;

use crate::intel::formats::addresses::usable_endpoints;
use crate::intel::formats::columns::Lenient;
use crate::intel::formats::entry::ReadPolicy;
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// A row with at least one usable address.
#[derive(Debug)]
pub(super) struct UsableRow {
    pub(super) time_generated: Timestamp,
    pub(super) state: RowState,
    /// Indicators of the row, all with its id; not empty.
    pub(super) indicators: Vec<Indicator>,
    /// Reason and text of each address that is not used.
    pub(super) rejected: Vec<(RejectReason, String)>,
    /// Columns that are not used, and their texts.
    pub(super) unused: Vec<(&'static str, String)>,
}

/// Returns those of `columns`, each with the text that cannot be used, that have such a text.
pub(super) fn unused_columns(
    columns: &[(&'static str, Option<&str>)],
) -> Vec<(&'static str, String)> {
    let with_text =
        |(name, text): &(&'static str, Option<&str>)| Some((*name, (*text)?.to_owned()));
    columns.iter().filter_map(with_text).collect()
}

/// Returns the usable prefixes of a text, at least one.
pub(super) fn prefixes(text: &str, policy: &ReadPolicy) -> Result<Vec<IpNet>, RowReject> {
    let failed = |reason| RowReject::new(reason, text);
    if let Ok(prefix) = policy.prefix(text) {
        return Ok(vec![prefix]);
    }
    let endpoints = usable_endpoints(text, policy).map_err(failed)?;
    // The rule compares whole texts; an address with a port is none.
    if endpoints.iter().any(|it| it.port.is_some()) {
        return Err(failed(RejectReason::NotAnAddress));
    }
    Ok(endpoints.into_iter().map(|it| it.prefix).collect())
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

    /// Returns `TimeGenerated`, without which no row can be judged.
    pub(super) fn time_generated(column: &Lenient<Timestamp>) -> Result<Timestamp, Self> {
        let fault = match column {
            Lenient::Value(time) => return Ok(*time),
            Lenient::Absent => "is missing",
            Lenient::Unused(_) => "is not a time such as 2026-11-24T10:00:00Z",
        };
        Err(Self { reason: RejectReason::Malformed(format!("TimeGenerated {fault}")), text: None })
    }

    /// Returns an expiry. A row whose expiry cannot be read may be over.
    pub(super) fn expiry(
        name: &str,
        column: &Lenient<Timestamp>,
    ) -> Result<Option<Timestamp>, Self> {
        match column.unused() {
            None => Ok(column.get()),
            Some(text) => {
                let reason = format!("{name} is not a time such as 2026-11-24T10:00:00Z");
                Err(Self::new(RejectReason::Malformed(reason), text))
            }
        }
    }
}
