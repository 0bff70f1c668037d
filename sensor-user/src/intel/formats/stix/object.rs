//! `Object`: the properties of a STIX object that count here, and the entry that an indicator is.

use jiff::Timestamp;
use serde::Deserialize;

use super::super::columns::{Text, flag, number, parse_time};
use super::super::entry::{Content, Entries, Entry, ReadPolicy};
use super::super::stix_pattern::read_pattern;
use super::loose::{levels, texts, urls};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::Reason;

/// Bytes of an id at most.
const ID_MAX: usize = 1024;
/// Bytes of a text that are kept, and of a text of all indicators of an object, each of which has
/// its own.
const TEXT_MAX: usize = 4096;
const TEXTS_MAX: usize = 4 << 20;

/// STIX 2.1, sections 3.2 (common properties), 4.7 (indicator), 7.2.1 (marking definition); borrowed
/// from its text where that holds no escape.
#[derive(Debug, Deserialize)]
pub(super) struct Object<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) sort: Text<'a>,
    #[serde(borrow, default)]
    pub(super) id: Text<'a>,
    #[serde(borrow, default)]
    created: Text<'a>,
    #[serde(borrow, default)]
    modified: Text<'a>,
    #[serde(default, deserialize_with = "flag")]
    revoked: Option<bool>,
    #[serde(default, deserialize_with = "number")]
    confidence: Option<f64>,
    /// What `OpenCTI` exports where there is no confidence, on the same scale.
    #[serde(default, deserialize_with = "number")]
    x_opencti_score: Option<f64>,
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow, default)]
    description: Text<'a>,
    #[serde(borrow, default)]
    pattern: Option<Text<'a>>,
    #[serde(borrow, default)]
    pattern_type: Text<'a>,
    #[serde(borrow, default)]
    valid_from: Text<'a>,
    #[serde(borrow, default)]
    valid_until: Text<'a>,
    #[serde(borrow, default, deserialize_with = "texts")]
    indicator_types: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "texts")]
    labels: Vec<Text<'a>>,
    #[serde(borrow, default, rename = "object_marking_refs", deserialize_with = "texts")]
    marking_refs: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "urls")]
    external_references: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "levels")]
    definition: Vec<Text<'a>>,
}

/// Only what sort of object it is.
#[derive(Debug, Deserialize)]
pub(super) struct Sort<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) sort: Text<'a>,
}

impl Object<'_> {
    /// Ids of the markings of the whole object.
    pub(super) fn markings(&self) -> &[Text<'_>] {
        &self.marking_refs
    }

    /// `definition.tlp` of a marking.
    pub(super) fn tlp(&self) -> &str {
        self.definition.first().map_or("", Text::as_str)
    }

    /// The entry that an indicator is; the error is why it is none.
    pub(super) fn entry(
        &self,
        policy: &ReadPolicy,
        place: u64,
        entries: &mut dyn Entries,
    ) -> Result<Entry, Reason> {
        let id = self.id.as_str();
        if id.is_empty() || id.len() > ID_MAX {
            let fault = if id.is_empty() { "no id" } else { "the id is too long" };
            return Err(Reason::Malformed(format!("an indicator: {fault}")));
        }
        let created = stix_time("created", self.created.as_str());
        let version = match stix_time("modified", self.modified.as_str())? {
            None => created.clone()?,
            modified => modified,
        };
        let expires = stix_time("valid_until", self.valid_until.as_str())?;
        let content = match self.gone(policy, expires) {
            Some(reason) => Content::Gone(reason),
            None => self.used(policy, place, entries),
        };
        let content = match content {
            Content::Indicators(mut indicators) => {
                let times = Times {
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
                Content::Indicators(indicators)
            }
            gone @ Content::Gone(_) => gone,
        };
        Ok(Entry { id: id.to_owned(), group: String::new(), version, place, content })
    }

    /// Why it is none any more, by all but its pattern.
    fn gone(&self, policy: &ReadPolicy, expires: Option<Timestamp>) -> Option<Reason> {
        let pattern_type = self.pattern_type.as_str();
        if self.revoked == Some(true) {
            return Some(Reason::Withdrawn);
        }
        if self.sorts().is_some_and(|mut sorts| sorts.all(|it| it.eq_ignore_ascii_case("benign"))) {
            return Some(Reason::Benign);
        }
        // STIX 2.0 had no such property, and no other language.
        if !pattern_type.is_empty() && !pattern_type.eq_ignore_ascii_case("stix") {
            return Some(Reason::PatternType(clipped(pattern_type, 100)));
        }
        if policy.is_low(self.confidence()) {
            return Some(Reason::LowConfidence);
        }
        expires.filter(|expires| *expires <= policy.now).map(|_past| Reason::Expired)
    }

    /// Indicators of what the pattern names, with their prefix only.
    fn used(&self, policy: &ReadPolicy, place: u64, entries: &mut dyn Entries) -> Content {
        let pattern = self.pattern.as_ref().map_or("", Text::as_str);
        let sufficient = match read_pattern(pattern) {
            Ok(sufficient) if sufficient.is_empty() => return Content::Gone(Reason::NotSufficient),
            Ok(sufficient) => sufficient,
            Err(fault) => return Content::Gone(Reason::Pattern(fault.to_string())),
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
            return Content::Gone(Reason::Excluded(*exclusion));
        }
        for (exclusion, entity) in excluded {
            entries.reject(place, Reason::Excluded(exclusion), &entity);
        }
        Content::Indicators(indicators)
    }

    fn fill(&self, indicator: &mut Indicator, most: usize, times: &Times) {
        let described = [&self.description, &self.name].map(Text::as_str);
        let description = described.into_iter().find(|it| !it.is_empty()).unwrap_or_default();
        let sort = self.sorts().and_then(|mut sorts| sorts.next());
        self.id.as_str().clone_into(&mut indicator.id);
        indicator.expires = times.expires;
        indicator.time_generated = times.version.unwrap_or(times.now);
        indicator.description = clipped(description, most);
        indicator.threat_type = clipped(sort.unwrap_or_default(), most);
        indicator.url = clipped(self.external_references.first().map_or("", Text::as_str), most);
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
            .map(|words| words.iter().map(Text::as_str))
    }

    /// 0 to 100; anything else is not known.
    fn confidence(&self) -> Option<f64> {
        self.confidence.or(self.x_opencti_score).filter(|it| (0.0..=100.0).contains(it))
    }
}

#[derive(Debug)]
struct Times {
    now: Timestamp,
    version: Option<Timestamp>,
    expires: Option<Timestamp>,
    created: Option<Timestamp>,
    valid_from: Option<Timestamp>,
}

/// A time with any number of digits of a second (section 2.16); what is finer than a nanosecond is
/// cut off. "" is none.
fn stix_time(property: &str, text: &str) -> Result<Option<Timestamp>, Reason> {
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
        Reason::Malformed(format!(
            "{property}: {text:?} is not a time such as 2026-11-24T10:00:00Z"
        ))
    })
}

/// The first `most` bytes, or a little less where a character would be cut.
fn clipped(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default().to_owned()
}
