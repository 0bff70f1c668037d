//! `LegacyRow`: a row of `ThreatIntelligenceIndicator`.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::verdict::{RowReject, RowState, SourceTable, UsableRow};
use crate::intel::formats::columns;
use crate::intel::formats::columns::JsonStr;
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
    time_generated: Option<Timestamp>,
    #[serde(deserialize_with = "columns::time")]
    expiration_date_time: Option<Timestamp>,
    #[serde(alias = "IsActive", deserialize_with = "columns::flag")]
    active: Option<bool>,
    #[serde(alias = "Deleted", deserialize_with = "columns::flag")]
    is_deleted: Option<bool>,
    #[serde(alias = "IsRevoked", deserialize_with = "columns::flag")]
    revoked: Option<bool>,
    #[serde(borrow)]
    description: JsonStr<'a>,
    #[serde(borrow)]
    activity_group_names: JsonStr<'a>,
    #[serde(borrow)]
    threat_type: JsonStr<'a>,
    #[serde(borrow)]
    url: JsonStr<'a>,
    #[serde(deserialize_with = "columns::number")]
    confidence_score: Option<f64>,
    #[serde(deserialize_with = "columns::integer")]
    threat_severity: Option<u8>,
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
    pattern: Option<IgnoredAny>,
    observable_key: Option<IgnoredAny>,
}

impl LegacyRow<'_> {
    /// True for a row of `ThreatIntelIndicators`, which has no `IndicatorId`.
    pub(super) fn is_of_other_table(&self) -> bool {
        self.indicator_id.as_str().is_empty()
            && (self.pattern.is_some() || self.observable_key.is_some())
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
        .map(JsonStr::as_str)
        .find(|text| !text.is_empty())
    }

    /// Converts the row to an indicator, if it has a usable address.
    pub(super) fn check(&self, policy: &ReadPolicy) -> Result<UsableRow, RowReject> {
        let Some(time_generated) = self.time_generated else {
            return Err(RowReject::missing_time());
        };
        let id = self.indicator_id.as_str();
        if time_generated < policy.oldest {
            return Err(RowReject::new(RejectReason::TooOld, id));
        }
        let Some(entity) = self.entity() else {
            return Err(RowReject::new(RejectReason::NoAddress, id));
        };
        let prefix = policy.prefix(entity).map_err(|reason| RowReject::new(reason, entity))?;
        let text = |column: &JsonStr<'_>| column.as_str().to_owned();
        let indicator = Indicator {
            id: id.to_owned(),
            entity: entity.to_owned(),
            expires: self.expiration_date_time,
            time_generated,
            description: text(&self.description),
            activity_group_names: text(&self.activity_group_names),
            threat_type: text(&self.threat_type),
            url: text(&self.url),
            confidence: self.confidence_score,
            threat_severity: self.threat_severity,
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
            active: self.active == Some(true),
            withdrawn: self.is_deleted == Some(true) || self.revoked == Some(true),
            table: SourceTable::Legacy,
        };
        Ok(UsableRow { time_generated, state, indicators: vec![indicator] })
    }
}
