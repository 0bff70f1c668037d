//! `StixObject`: the used properties of a STIX object, and the conversion of an indicator to an
//! entry.

use jiff::Timestamp;
use serde::Deserialize;

use super::super::columns::{JsonStr, flag, number, parse_time};
use super::super::entry::{EntryContent, EntrySink, FeedEntry, ReadPolicy};
use super::super::stix_pattern::read_pattern;
use super::text_list::{levels, texts, urls};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// Maximum length of an id in bytes.
const ID_MAX: usize = 1024;
/// Maximum length of a kept text in bytes.
const TEXT_MAX: usize = 4096;
/// Maximum length in bytes of the copies of a text in all indicators of an object.
const TEXT_COPIES_MAX: usize = 4 << 20;

/// Properties of STIX 2.1, sections 3.2 (common properties), 4.7 (indicator), 7.2.1 (marking
/// definition); borrowed from the input if they have no escapes.
#[derive(Debug, Deserialize)]
pub(super) struct StixObject<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) object_type: JsonStr<'a>,
    #[serde(borrow, default)]
    pub(super) id: JsonStr<'a>,
    #[serde(borrow, default)]
    created: JsonStr<'a>,
    #[serde(borrow, default)]
    modified: JsonStr<'a>,
    #[serde(default, deserialize_with = "flag")]
    revoked: Option<bool>,
    #[serde(default, deserialize_with = "number")]
    confidence: Option<f64>,
    /// Substitute of `OpenCTI` exports for a missing confidence, on the same scale.
    #[serde(default, deserialize_with = "number")]
    x_opencti_score: Option<f64>,
    #[serde(borrow, default)]
    pub(super) name: JsonStr<'a>,
    #[serde(borrow, default)]
    description: JsonStr<'a>,
    #[serde(borrow, default)]
    pattern: Option<JsonStr<'a>>,
    #[serde(borrow, default)]
    pattern_type: JsonStr<'a>,
    #[serde(borrow, default)]
    valid_from: JsonStr<'a>,
    #[serde(borrow, default)]
    valid_until: JsonStr<'a>,
    #[serde(borrow, default, deserialize_with = "texts")]
    indicator_types: Vec<JsonStr<'a>>,
    #[serde(borrow, default, deserialize_with = "texts")]
    labels: Vec<JsonStr<'a>>,
    #[serde(borrow, default, rename = "object_marking_refs", deserialize_with = "texts")]
    marking_refs: Vec<JsonStr<'a>>,
    #[serde(borrow, default, deserialize_with = "urls")]
    external_references: Vec<JsonStr<'a>>,
    #[serde(borrow, default, deserialize_with = "levels")]
    definition: Vec<JsonStr<'a>>,
}

/// Only the type of an object.
#[derive(Debug, Deserialize)]
pub(super) struct TypeOnly<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) object_type: JsonStr<'a>,
}

impl StixObject<'_> {
    /// Returns the ids of the markings of the whole object.
    pub(super) fn markings(&self) -> &[JsonStr<'_>] {
        &self.marking_refs
    }

    /// Returns `definition.tlp` of a marking.
    pub(super) fn tlp(&self) -> &str {
        self.definition.first().map_or("", JsonStr::as_str)
    }

    /// Converts an indicator to an entry.
    pub(super) fn entry(
        &self,
        policy: &ReadPolicy,
        position: u64,
        entries: &mut dyn EntrySink,
    ) -> Result<FeedEntry, RejectReason> {
        let id = self.id.as_str();
        if id.is_empty() || id.len() > ID_MAX {
            let error = if id.is_empty() { "no id" } else { "the id is too long" };
            return Err(RejectReason::Malformed(format!("an indicator: {error}")));
        }
        let created = stix_time("created", self.created.as_str());
        let version = match stix_time("modified", self.modified.as_str())? {
            None => created.clone()?,
            modified => modified,
        };
        let expires = stix_time("valid_until", self.valid_until.as_str())?;
        let content = match self.removal_reason(policy, expires) {
            Some(reason) => EntryContent::Removed(reason),
            None => self.content(policy, position, entries),
        };
        let content = match content {
            EntryContent::Indicators(mut indicators) => {
                let times = IndicatorTimes {
                    now: policy.now,
                    version,
                    expires,
                    created: created.unwrap_or_default(),
                    valid_from: stix_time("valid_from", self.valid_from.as_str())?,
                };
                let max = TEXT_MAX.min(TEXT_COPIES_MAX / indicators.len().max(1));
                for indicator in &mut indicators {
                    self.fill(indicator, max, &times);
                }
                EntryContent::Indicators(indicators)
            }
            removed @ EntryContent::Removed(_) => removed,
        };
        Ok(FeedEntry { id: id.to_owned(), group: String::new(), version, position, content })
    }

    /// Returns why it is not an indicator any more, by all properties except the pattern.
    fn removal_reason(
        &self,
        policy: &ReadPolicy,
        expires: Option<Timestamp>,
    ) -> Option<RejectReason> {
        let pattern_type = self.pattern_type.as_str();
        if self.revoked == Some(true) {
            return Some(RejectReason::Withdrawn);
        }
        if self
            .indicator_types()
            .is_some_and(|mut types| types.all(|it| it.eq_ignore_ascii_case("benign")))
        {
            return Some(RejectReason::Benign);
        }
        // STIX 2.0 has no such property, and no other language.
        if !pattern_type.is_empty() && !pattern_type.eq_ignore_ascii_case("stix") {
            return Some(RejectReason::PatternType(clipped(pattern_type, 100)));
        }
        if policy.is_low(self.confidence()) {
            return Some(RejectReason::LowConfidence);
        }
        policy.is_expired(expires).then_some(RejectReason::Expired)
    }

    /// Returns the indicators of the pattern, with prefix and ports only.
    fn content(
        &self,
        policy: &ReadPolicy,
        position: u64,
        entries: &mut dyn EntrySink,
    ) -> EntryContent {
        let pattern = self.pattern.as_ref().map_or("", JsonStr::as_str);
        let sufficient = match read_pattern(pattern) {
            Ok(sufficient) if sufficient.is_empty() => {
                return EntryContent::Removed(RejectReason::NotSufficient);
            }
            Ok(sufficient) => sufficient,
            Err(error) => return EntryContent::Removed(RejectReason::Pattern(error.to_string())),
        };
        let mut indicators = Vec::with_capacity(sufficient.len());
        let mut excluded = Vec::new();
        for it in sufficient {
            match policy.prefixes.exclusion(&it.prefix) {
                None => indicators.push(Indicator {
                    entity: it.entity,
                    ports: it.ports,
                    ..Indicator::blank(it.prefix)
                }),
                Some(exclusion) => excluded.push((exclusion, it.entity)),
            }
        }
        if let (true, Some((exclusion, _))) = (indicators.is_empty(), excluded.first()) {
            return EntryContent::Removed(RejectReason::Excluded(*exclusion));
        }
        for (exclusion, entity) in excluded {
            entries.reject(position, RejectReason::Excluded(exclusion), &entity);
        }
        EntryContent::Indicators(indicators)
    }

    fn fill(&self, indicator: &mut Indicator, max: usize, times: &IndicatorTimes) {
        let described = [&self.description, &self.name].map(JsonStr::as_str);
        let description = described.into_iter().find(|it| !it.is_empty()).unwrap_or_default();
        let threat_type = self.indicator_types().and_then(|mut types| types.next());
        self.id.as_str().clone_into(&mut indicator.id);
        indicator.expires = times.expires;
        indicator.time_generated = times.version.unwrap_or(times.now);
        indicator.description = clipped(description, max);
        indicator.threat_type = clipped(threat_type.unwrap_or_default(), max);
        indicator.url = clipped(self.external_references.first().map_or("", JsonStr::as_str), max);
        indicator.confidence = self.confidence();
        indicator.first_reported = times.created;
        indicator.version = times.version;
        indicator.valid_from = times.valid_from;
    }

    /// Returns `indicator_types`, which were `labels` in STIX 2.0.
    fn indicator_types(&self) -> Option<impl Iterator<Item = &str>> {
        [&self.indicator_types, &self.labels]
            .into_iter()
            .find(|words| !words.is_empty())
            .map(|words| words.iter().map(JsonStr::as_str))
    }

    /// Returns the confidence, 0 to 100; any other value counts as unknown.
    fn confidence(&self) -> Option<f64> {
        self.confidence.or(self.x_opencti_score).filter(|it| (0.0..=100.0).contains(it))
    }
}

#[derive(Debug)]
struct IndicatorTimes {
    now: Timestamp,
    version: Option<Timestamp>,
    expires: Option<Timestamp>,
    created: Option<Timestamp>,
    valid_from: Option<Timestamp>,
}

/// Parses a time with any number of digits of a second (section 2.16), truncated to nanoseconds; ""
/// is absent.
fn stix_time(property: &str, text: &str) -> Result<Option<Timestamp>, RejectReason> {
    if text.is_empty() {
        return Ok(None);
    }
    let fine = || {
        const DIGITS: usize = 9;
        let (whole, rest) = text.split_once('.')?;
        let zone = rest.trim_start_matches(|it: char| it.is_ascii_digit());
        let digits = rest.get(..DIGITS.min(rest.len() - zone.len()))?;
        parse_time(&format!("{whole}.{digits}{zone}"))
    };
    parse_time(text).or_else(fine).map(Some).ok_or_else(|| {
        let text = clipped(text, 100);
        RejectReason::Malformed(format!(
            "{property}: {text:?} is not a time such as 2026-11-24T10:00:00Z"
        ))
    })
}

/// Truncates a text to at most `max` bytes, between characters.
fn clipped(text: &str, max: usize) -> String {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default().to_owned()
}
