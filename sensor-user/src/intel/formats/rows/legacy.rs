//! A row of `ThreatIntelligenceIndicator`.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::row::{Judged, Kind, State, Unusable};
use crate::intel::formats::columns;
use crate::intel::formats::columns::Text;
use crate::intel::formats::entry::ReadPolicy;
use crate::intel::indicator::Indicator;
use crate::intel::rejects::Reason;

/// One row; columns that are not used are skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct LegacyRow<'a> {
    #[serde(borrow)]
    indicator_id: Text<'a>,
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
    description: Text<'a>,
    #[serde(borrow)]
    activity_group_names: Text<'a>,
    #[serde(borrow)]
    threat_type: Text<'a>,
    #[serde(borrow)]
    url: Text<'a>,
    #[serde(deserialize_with = "columns::number")]
    confidence_score: Option<f64>,
    #[serde(deserialize_with = "columns::integer")]
    threat_severity: Option<u8>,
    #[serde(borrow)]
    traffic_light_protocol_level: Text<'a>,
    #[serde(borrow, rename = "NetworkIP")]
    network_ip: Text<'a>,
    #[serde(borrow, rename = "NetworkDestinationIP")]
    network_destination_ip: Text<'a>,
    #[serde(borrow, rename = "NetworkSourceIP")]
    network_source_ip: Text<'a>,
    #[serde(borrow)]
    email_source_ip_address: Text<'a>,
    #[serde(borrow)]
    additional_information: Text<'a>,
    #[serde(borrow)]
    network_cidr_block: Text<'a>,
    #[serde(borrow)]
    network_destination_cidr_block: Text<'a>,
    #[serde(borrow)]
    network_source_cidr_block: Text<'a>,
    /// Columns of the other table.
    pattern: Option<IgnoredAny>,
    observable_key: Option<IgnoredAny>,
}

impl LegacyRow<'_> {
    /// Whether it is rather a row of `ThreatIntelIndicators`: that one has no `IndicatorId`.
    pub(super) fn is_of_other_table(&self) -> bool {
        self.indicator_id.as_str().is_empty()
            && (self.pattern.is_some() || self.observable_key.is_some())
    }

    /// The first column that is not empty: addresses first, then networks.
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
        .map(Text::as_str)
        .find(|text| !text.is_empty())
    }

    /// What the row makes, where it has an address that may be used.
    pub(super) fn judge(&self, policy: &ReadPolicy) -> Result<Judged, Unusable> {
        let Some(time_generated) = self.time_generated else {
            return Err(Unusable::without_time());
        };
        let id = self.indicator_id.as_str();
        if time_generated < policy.oldest {
            return Err(Unusable::new(Reason::TooOld, id));
        }
        let Some(entity) = self.entity() else {
            return Err(Unusable::new(Reason::NoAddress, id));
        };
        let prefix = policy.prefix(entity).map_err(|reason| Unusable::new(reason, entity))?;
        let text = |column: &Text<'_>| column.as_str().to_owned();
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
        let state = State {
            active: self.active == Some(true),
            withdrawn: self.is_deleted == Some(true) || self.revoked == Some(true),
            kind: Kind::Legacy,
        };
        Ok(Judged { time_generated, state, indicators: vec![indicator] })
    }
}
