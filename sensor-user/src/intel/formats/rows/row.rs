//! One row of either table, by itself.

use super::legacy::LegacyRow;
use super::stix::StixRow;
use super::verdict::{RowReject, UsableRow};
use crate::intel::formats::entry::ReadPolicy;
use crate::intel::rejects::RejectReason;

/// Reads a row and checks it against the policy.
pub(super) fn read_row(bytes: &[u8], policy: &ReadPolicy) -> Result<UsableRow, RowReject> {
    let malformed = |error: serde_json::Error| {
        let reason = RejectReason::from_json(&error);
        RowReject { reason, text: None }
    };
    let row: LegacyRow<'_> = serde_json::from_slice(bytes).map_err(malformed)?;
    if row.is_of_other_table() {
        let row: StixRow<'_> = serde_json::from_slice(bytes).map_err(malformed)?;
        return row.check(policy);
    }
    row.check(policy)
}
