//! `LegacyRow`: a row of `ThreatIntelligenceIndicator`.

use jiff::Timestamp;
use serde::Deserialize;

use super::verdict::{RowReject, RowState, SourceTable, UsableRow, prefixes, unused_columns};
use crate::intel::formats::columns;
use crate::intel::formats::columns::{JsonStr, Lenient};
use crate::intel::formats::entry::ReadPolicy;
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// One row; unused columns are skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct LegacyRow<'a> {
    #[serde(borrow)]
    indicator_id: JsonStr<'a>,
    #[serde(deserialize_with = "columns::time")]
    time_generated: Lenient<Timestamp>,
    #[serde(deserialize_with = "columns::time")]
    expiration_date_time: Lenient<Timestamp>,
    #[serde(alias = "IsActive", deserialize_with = "columns::flag")]
    active: Lenient<bool>,
    #[serde(alias = "Deleted", deserialize_with = "columns::flag")]
    is_deleted: Lenient<bool>,
    #[serde(alias = "IsRevoked", deserialize_with = "columns::flag")]
    revoked: Lenient<bool>,
    #[serde(borrow)]
    description: JsonStr<'a>,
    #[serde(borrow)]
    activity_group_names: JsonStr<'a>,
    #[serde(borrow)]
    threat_type: JsonStr<'a>,
    #[serde(borrow)]
    url: JsonStr<'a>,
    #[serde(deserialize_with = "columns::number")]
    confidence_score: Lenient<f64>,
    #[serde(deserialize_with = "columns::integer")]
    threat_severity: Lenient<u8>,
    #[serde(borrow)]
    traffic_light_protocol_level: JsonStr<'a>,
    #[serde(borrow, rename = "NetworkIP")]
    network_ip: JsonStr<'a>,
    #[serde(borrow, rename = "NetworkDestinationIP")]
    network_destination_ip: JsonStr<'a>,
    #[serde(borrow, rename = "NetworkSourceIP")]
    network_source_ip: JsonStr<'a>,
    #[serde(borrow)]
    email_source_ip_address: JsonStr<'a>,
    #[serde(borrow)]
    additional_information: JsonStr<'a>,
    #[serde(borrow)]
    network_cidr_block: JsonStr<'a>,
    #[serde(borrow)]
    network_destination_cidr_block: JsonStr<'a>,
    #[serde(borrow)]
    network_source_cidr_block: JsonStr<'a>,
    /// Columns of the other table, to recognize its rows.
    #[serde(borrow)]
    pattern: JsonStr<'a>,
    #[serde(borrow)]
    observable_key: JsonStr<'a>,
}

impl LegacyRow<'_> {
    /// True for a row of `ThreatIntelIndicators`, which has no `IndicatorId`.
    pub(super) fn is_of_other_table(&self) -> bool {
        let has = |column: &JsonStr<'_>| !column.present().is_empty();
        !has(&self.indicator_id) && (has(&self.pattern) || has(&self.observable_key))
    }

    /// Returns the first column that is not empty: addresses first, then networks.
    fn entity(&self) -> Option<&str> {
        [
            &self.network_ip,
            &self.network_destination_ip,
            &self.network_source_ip,
            &self.email_source_ip_address,
            &self.network_cidr_block,
            &self.network_destination_cidr_block,
            &self.network_source_cidr_block,
        ]
        .into_iter()
        .map(JsonStr::present)
        .find(|text| !text.is_empty())
    }

    /// Converts the row to an indicator, if it has a usable address.
    pub(super) fn check(&self, policy: &ReadPolicy) -> Result<UsableRow, RowReject> {
        let time_generated = RowReject::time_generated(&self.time_generated)?;
        let id = self.indicator_id.present();
        if time_generated < policy.oldest {
            return Err(RowReject::new(RejectReason::TooOld, id));
        }
        let Some(entity) = self.entity() else {
            return Err(RowReject::new(RejectReason::NoAddress, id));
        };
        let prefixes = prefixes(entity, policy)?;
        let expires = RowReject::expiry("ExpirationDateTime", &self.expiration_date_time)?;
        let text = |column: &JsonStr<'_>| column.present().to_owned();
        let indicator = |prefix| Indicator {
            id: id.to_owned(),
            entity: entity.to_owned(),
            expires,
            time_generated,
            description: text(&self.description),
            activity_group_names: text(&self.activity_group_names),
            threat_type: text(&self.threat_type),
            url: text(&self.url),
            confidence: self.confidence_score.get(),
            threat_severity: self.threat_severity.get(),
            tlp_level: text(&self.traffic_light_protocol_level),
            network_ip: text(&self.network_ip),
            network_destination_ip: text(&self.network_destination_ip),
            network_source_ip: text(&self.network_source_ip),
            email_source_ip_address: text(&self.email_source_ip_address),
            additional_information: text(&self.additional_information),
            first_reported: Some(time_generated),
            version: Some(time_generated),
            ..Indicator::blank(prefix)
        };
        let state = RowState {
            active: self.active.get() == Some(true),
            withdrawn: self.is_deleted.get() == Some(true) || self.revoked.get() == Some(true),
            table: SourceTable::Legacy,
        };
        let unused = [
            ("Active", self.active.unused()),
            ("IsDeleted", self.is_deleted.unused()),
            ("Revoked", self.revoked.unused()),
            ("ConfidenceScore", self.confidence_score.unused()),
            ("ThreatSeverity", self.threat_severity.unused()),
        ];
        let indicators = prefixes.into_iter().map(indicator).collect();
        let (rejected, unused) = (Vec::new(), unused_columns(&unused));
        Ok(UsableRow { time_generated, state, indicators, rejected, unused })
    }
}
