//! `StixObject`: the properties of a STIX object that count here, and the entry that an indicator is.

use jiff::Timestamp;
use serde::Deserialize;

use super::super::columns::{JsonStr, flag, number, parse_time};
use super::super::entry::{EntryContent, EntrySink, FeedEntry, ReadPolicy};
use super::super::stix_pattern::read_pattern;
use super::text_list::{levels, texts, urls};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// Bytes of an id at most.
const ID_MAX: usize = 1024;
/// Bytes of a text that are kept, and of a text of all indicators of an object, each of which has
/// its own.
const TEXT_MAX: usize = 4096;
const TEXTS_MAX: usize = 4 << 20;

/// STIX 2.1, sections 3.2 (common properties), 4.7 (indicator), 7.2.1 (marking definition); borrowed
/// from its text where that holds no escape.
#[derive(Debug, Deserialize)]
pub(super) struct StixObject<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) sort: JsonStr<'a>,
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
    /// What `OpenCTI` exports where there is no confidence, on the same scale.
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

/// Only what sort of object it is.
#[derive(Debug, Deserialize)]
pub(super) struct TypeOnly<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) sort: JsonStr<'a>,
}

impl StixObject<'_> {
    /// Ids of the markings of the whole object.
    pub(super) fn markings(&self) -> &[JsonStr<'_>] {
        &self.marking_refs
    }

    /// `definition.tlp` of a marking.
    pub(super) fn tlp(&self) -> &str {
        self.definition.first().map_or("", JsonStr::as_str)
    }

    /// The entry that an indicator is; the error is why it is none.
    pub(super) fn entry(
        &self,
        policy: &ReadPolicy,
        position: u64,
        entries: &mut dyn EntrySink,
    ) -> Result<FeedEntry, RejectReason> {
        let id = self.id.as_str();
        if id.is_empty() || id.len() > ID_MAX {
            let fault = if id.is_empty() { "no id" } else { "the id is too long" };
            return Err(RejectReason::Malformed(format!("an indicator: {fault}")));
        }
        let created = stix_time("created", self.created.as_str());
        let version = match stix_time("modified", self.modified.as_str())? {
            None => created.clone()?,
            modified => modified,
        };
        let expires = stix_time("valid_until", self.valid_until.as_str())?;
        let content = match self.gone(policy, expires) {
            Some(reason) => EntryContent::Removed(reason),
            None => self.used(policy, position, entries),
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
                let most = TEXT_MAX.min(TEXTS_MAX / indicators.len().max(1));
                for indicator in &mut indicators {
                    self.fill(indicator, most, &times);
                }
                EntryContent::Indicators(indicators)
            }
            gone @ EntryContent::Removed(_) => gone,
        };
        Ok(FeedEntry { id: id.to_owned(), group: String::new(), version, position, content })
    }

    /// Why it is none any more, by all but its pattern.
    fn gone(&self, policy: &ReadPolicy, expires: Option<Timestamp>) -> Option<RejectReason> {
        let pattern_type = self.pattern_type.as_str();
        if self.revoked == Some(true) {
            return Some(RejectReason::Withdrawn);
        }
        if self.sorts().is_some_and(|mut sorts| sorts.all(|it| it.eq_ignore_ascii_case("benign"))) {
            return Some(RejectReason::Benign);
        }
        // STIX 2.0 had no such property, and no other language.
        if !pattern_type.is_empty() && !pattern_type.eq_ignore_ascii_case("stix") {
            return Some(RejectReason::PatternType(clipped(pattern_type, 100)));
        }
        if policy.is_low(self.confidence()) {
            return Some(RejectReason::LowConfidence);
        }
        expires.filter(|expires| *expires <= policy.now).map(|_past| RejectReason::Expired)
    }

    /// Indicators of what the pattern names, with their prefix only.
    fn used(
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
            Err(fault) => return EntryContent::Removed(RejectReason::Pattern(fault.to_string())),
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

    fn fill(&self, indicator: &mut Indicator, most: usize, times: &IndicatorTimes) {
        let described = [&self.description, &self.name].map(JsonStr::as_str);
        let description = described.into_iter().find(|it| !it.is_empty()).unwrap_or_default();
        let sort = self.sorts().and_then(|mut sorts| sorts.next());
        self.id.as_str().clone_into(&mut indicator.id);
        indicator.expires = times.expires;
        indicator.time_generated = times.version.unwrap_or(times.now);
        indicator.description = clipped(description, most);
        indicator.threat_type = clipped(sort.unwrap_or_default(), most);
        indicator.url = clipped(self.external_references.first().map_or("", JsonStr::as_str), most);
        indicator.confidence = self.confidence();
        indicator.first_reported = times.created;
        indicator.version = times.version;
        indicator.valid_from = times.valid_from;
    }

    /// What sort of indicator it is: `indicator_types`, which were `labels` in STIX 2.0.
    fn sorts(&self) -> Option<impl Iterator<Item = &str>> {
        [&self.indicator_types, &self.labels]
            .into_iter()
            .find(|words| !words.is_empty())
            .map(|words| words.iter().map(JsonStr::as_str))
    }

    /// 0 to 100; anything else is not known.
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

/// A time with any number of digits of a second (section 2.16); what is finer than a nanosecond is
/// cut off. "" is none.
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

/// The first `most` bytes, or a little less where a character would be cut.
fn clipped(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}
