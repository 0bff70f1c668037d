//! `StixRow`: a row of `ThreatIntelIndicators`, the table of STIX objects.
//!
//! Addresses come from its pattern, or without one from the single observable that Microsoft
//! Sentinel extracted. Texts come from the object in `Data`, by the published mapping to the older
//! table.

use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::verdict::{RowReject, RowState, SourceTable, UsableRow, prefixes, unused_columns};
use crate::intel::formats::columns;
use crate::intel::formats::columns::{JsonStr, Lenient};
use crate::intel::formats::entry::ReadPolicy;
use crate::intel::formats::json::{LenientStr, skip_scalars};
use crate::intel::formats::stix_pattern::{SufficientPrefix, UsableAddresses, read_pattern};
use crate::intel::indicator::{Indicator, Ports};
use crate::intel::rejects::RejectReason;

/// One row; unused columns are skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct StixRow<'a> {
    #[serde(borrow)]
    id: LenientStr<'a>,
    #[serde(deserialize_with = "columns::time")]
    time_generated: Lenient<Timestamp>,
    #[serde(borrow)]
    pattern: JsonStr<'a>,
    #[serde(borrow)]
    observable_key: JsonStr<'a>,
    #[serde(borrow)]
    observable_value: JsonStr<'a>,
    #[serde(deserialize_with = "columns::number")]
    confidence: Lenient<f64>,
    #[serde(deserialize_with = "columns::time")]
    valid_from: Lenient<Timestamp>,
    #[serde(deserialize_with = "columns::time")]
    valid_until: Lenient<Timestamp>,
    #[serde(deserialize_with = "columns::flag")]
    is_active: Lenient<bool>,
    #[serde(deserialize_with = "columns::flag")]
    is_deleted: Lenient<bool>,
    #[serde(deserialize_with = "columns::flag")]
    revoked: Lenient<bool>,
    data: DynamicColumn<StixData>,
    additional_fields: DynamicColumn<AdditionalFields>,
    #[serde(borrow)]
    tags: LenientStr<'a>,
}

/// Properties of the STIX object in `Data` that are used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StixData {
    description: LenientString,
    name: LenientString,
    indicator_types: LenientString,
    labels: LenientString,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AdditionalFields {
    #[serde(rename = "TLPLevel")]
    tlp_level: LenientString,
}

/// Owned form of [`LenientStr`].
#[derive(Debug, Default)]
struct LenientString(String);

impl<'de> Deserialize<'de> for LenientString {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        LenientStr::deserialize(input).map(|words| Self(words.to_text()))
    }
}

impl StixRow<'_> {
    /// Converts the row to its indicators, if it has a usable address.
    pub(super) fn check(&self, policy: &ReadPolicy) -> Result<UsableRow, RowReject> {
        let time_generated = RowReject::time_generated(&self.time_generated)?;
        if time_generated < policy.oldest {
            return Err(RowReject::new(RejectReason::TooOld, self.id.as_str()));
        }
        let expires = RowReject::expiry("ValidUntil", &self.valid_until)?;
        let UsableAddresses { usable, rejected } = self.addresses(policy)?;
        let indicator = |it: SufficientPrefix| Indicator {
            entity: it.entity,
            expires,
            ports: it.ports,
            ..self.indicator(time_generated, Indicator::blank(it.prefix))
        };
        let indicators = usable.into_iter().map(indicator).collect();
        let state = RowState {
            active: self.is_active.get() == Some(true),
            withdrawn: self.is_deleted.get() == Some(true) || self.revoked.get() == Some(true),
            table: SourceTable::Stix,
        };
        let unused = [
            ("IsActive", self.is_active.unused()),
            ("IsDeleted", self.is_deleted.unused()),
            ("Revoked", self.revoked.unused()),
            ("Confidence", self.confidence.unused()),
            ("ValidFrom", self.valid_from.unused()),
        ];
        let unused = unused_columns(&unused);
        Ok(UsableRow { time_generated, state, indicators, rejected, unused })
    }

    /// Returns the addresses of the pattern, or of the observable.
    fn addresses(&self, policy: &ReadPolicy) -> Result<UsableAddresses, RowReject> {
        let pattern = self.pattern.present();
        if pattern.is_empty() {
            let value = self.observable_value.present();
            let family = self.observable_key.as_str().split(':').next().unwrap_or_default();
            if !["ipv4-addr", "ipv6-addr", "network-traffic"].contains(&family) || value.is_empty()
            {
                return Err(RowReject::new(RejectReason::NoAddress, self.id.as_str()));
            }
            let named = |prefix| SufficientPrefix {
                prefix,
                entity: value.to_owned(),
                ports: Ports::default(),
            };
            let usable = prefixes(value, policy)?.into_iter().map(named).collect();
            return Ok(UsableAddresses { usable, rejected: Vec::new() });
        }
        let found = read_pattern(pattern)
            .map_err(|error| RowReject::new(RejectReason::Pattern(error.to_string()), pattern))?;
        found.check(policy).map_err(|(reason, text)| {
            RowReject::new(reason, if text.is_empty() { pattern } else { &text })
        })
    }

    fn indicator(&self, time_generated: Timestamp, blank: Indicator) -> Indicator {
        let StixData { description, name, indicator_types, labels } = &self.data.0;
        let description = if description.0.is_empty() { name } else { description };
        let labels = labels.0.split(", ");
        let groups: Vec<&str> = labels.filter_map(|it| it.strip_prefix("ActivityGroup:")).collect();
        Indicator {
            id: self.id.to_text(),
            valid_from: self.valid_from.get(),
            time_generated,
            description: description.0.clone(),
            activity_group_names: groups.join(", "),
            threat_type: first(&indicator_types.0).to_owned(),
            confidence: self.confidence.get(),
            tlp_level: self.additional_fields.0.tlp_level.0.to_lowercase(),
            additional_information: match self.tags.as_str() {
                "" | "[]" => String::new(),
                _ => format!("tags: {}", self.tags.to_text()),
            },
            first_reported: Some(time_generated),
            version: Some(time_generated),
            ..blank
        }
    }
}

fn first(words: &str) -> &str {
    words.split(", ").next().unwrap_or_default()
}

/// Column of type `dynamic`: an object, or JSON text of one. Other values count as absent.
#[derive(Debug, Default)]
struct DynamicColumn<T>(T);

impl<'de, T: DeserializeOwned + Default> Deserialize<'de> for DynamicColumn<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(DynamicColumnVisitor(PhantomData)).map(DynamicColumn)
    }
}

struct DynamicColumnVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned + Default> Visitor<'de> for DynamicColumnVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, or the text of one")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok(serde_json::from_str(text).unwrap_or_default())
    }

    skip_scalars!(T::default());

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<T, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}
