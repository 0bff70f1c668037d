//! `StixObject`: the used properties of a STIX object, and the conversion of an indicator to an
//! entry.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::columns::{JsonStr, Lenient, flag, is_absent, lenient_time, number, parse_time};
use super::super::entry::{EntryContent, EntrySink, FeedEntry, ReadPolicy};
use super::super::stix_pattern::{
    SufficientPrefix, UsableAddresses, read_alternatives, read_pattern,
};
use super::text_list::{levels, texts, urls};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// Maximum length of an id in bytes.
const ID_MAX: usize = 1024;
/// Maximum length of a kept text in bytes.
const TEXT_MAX: usize = 4096;
/// Maximum length in bytes of the copies of a text in all indicators of an object.
const TEXT_COPIES_MAX: usize = 4 << 20;
/// Label of MISP's export of an object with the addresses and ports of a service. It joins its
/// addresses by `AND`, although each of them is meant.
const MISP_IP_PORT: &str = r#"misp:name="ip-port""#;
/// Values of a confidence.
const CONFIDENCE: std::ops::RangeInclusive<f64> = 0.0..=100.0;

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
    revoked: Lenient<bool>,
    #[serde(default, deserialize_with = "number")]
    confidence: Lenient<f64>,
    /// Substitute of `OpenCTI` exports for a missing confidence, on the same scale.
    #[serde(default, deserialize_with = "number")]
    x_opencti_score: Lenient<f64>,
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
    #[serde(borrow, default)]
    kill_chain_phases: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "object_marking_refs", deserialize_with = "texts")]
    marking_refs: Vec<JsonStr<'a>>,
    #[serde(borrow, default, deserialize_with = "urls")]
    external_references: Vec<JsonStr<'a>>,
    #[serde(borrow, default, deserialize_with = "levels")]
    definition: Vec<JsonStr<'a>>,
    /// Objects of a bundle.
    #[serde(borrow, default)]
    pub(super) objects: Option<&'a RawValue>,
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
        let created = stix_time(self.created.as_str());
        let modified = stix_time(self.modified.as_str());
        let version = modified.get().or_else(|| created.get());
        let valid_from = stix_time(self.valid_from.as_str());
        // An indicator whose expiry cannot be read may be over.
        let expires = stix_time(self.valid_until.as_str());
        if let Some(text) = expires.unused() {
            return Err(RejectReason::Malformed(format!(
                "valid_until: {text:?} is not a time such as 2026-11-24T10:00:00Z"
            )));
        }
        let expires = expires.get();
        for (property, text) in self.unused([&created, &modified, &valid_from]) {
            let reason = RejectReason::PropertyUnused(property.to_owned());
            entries.reject(position, reason, &text);
        }
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
                    created: created.get(),
                    valid_from: valid_from.get(),
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

    /// Returns the properties that are not used since they are of another type, and their texts.
    fn unused(
        &self,
        [created, modified, valid_from]: [&Lenient<Timestamp>; 3],
    ) -> Vec<(&'static str, String)> {
        let out_of_range = |number: &Lenient<f64>| match number {
            Lenient::Value(value) if !CONFIDENCE.contains(value) => Some(value.to_string()),
            other => other.unused().map(str::to_owned),
        };
        let text = |text: Option<&str>| text.map(str::to_owned);
        let all = [
            ("revoked", text(self.revoked.unused())),
            ("confidence", out_of_range(&self.confidence)),
            ("x_opencti_score", out_of_range(&self.x_opencti_score)),
            ("created", text(created.unused())),
            ("modified", text(modified.unused())),
            ("valid_from", text(valid_from.unused())),
        ];
        all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
    }

    /// Returns why it is not an indicator any more, by all properties except the pattern.
    fn removal_reason(
        &self,
        policy: &ReadPolicy,
        expires: Option<Timestamp>,
    ) -> Option<RejectReason> {
        let pattern_type = self.pattern_type.as_str();
        if self.revoked.get() == Some(true) {
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
        let is_object = self.labels.iter().any(|it| it.as_str() == MISP_IP_PORT);
        let read = if is_object { read_alternatives(pattern) } else { read_pattern(pattern) };
        let UsableAddresses { usable, rejected } = match read.map(|found| found.check(policy)) {
            Ok(Ok(addresses)) => addresses,
            Ok(Err((reason, _text))) => return EntryContent::Removed(reason),
            Err(error) => return EntryContent::Removed(RejectReason::Pattern(error.to_string())),
        };
        for (reason, text) in rejected {
            entries.reject(position, reason, &text);
        }
        let indicator = |it: SufficientPrefix| Indicator {
            entity: it.entity,
            ports: it.ports,
            ..Indicator::blank(it.prefix)
        };
        EntryContent::Indicators(usable.into_iter().map(indicator).collect())
    }

    fn fill(&self, indicator: &mut Indicator, max: usize, times: &IndicatorTimes) {
        let described = [&self.description, &self.name].map(JsonStr::as_str);
        let description = described.into_iter().find(|it| !it.is_empty()).unwrap_or_default();
        let threat_type = self.indicator_types().and_then(|mut types| types.next());
        let threat_type = threat_type.map_or_else(|| self.misp_category(), str::to_owned);
        self.id.as_str().clone_into(&mut indicator.id);
        indicator.expires = times.expires;
        indicator.time_generated = times.version.unwrap_or(times.now);
        indicator.description = clipped(description, max);
        indicator.threat_type = clipped(&threat_type, max);
        indicator.url = clipped(self.external_references.first().map_or("", JsonStr::as_str), max);
        indicator.confidence = self.confidence();
        indicator.first_reported = times.created;
        indicator.version = times.version;
        indicator.valid_from = times.valid_from;
    }

    /// Returns `indicator_types`, which were `labels` in STIX 2.0; `None` for none. MISP's export has
    /// tags of its own kind in the labels.
    fn indicator_types(&self) -> Option<impl Iterator<Item = &str>> {
        let is_type = |text: &&str| !text.starts_with("misp:");
        [&self.indicator_types, &self.labels]
            .map(|words| words.iter().map(JsonStr::as_str).filter(is_type))
            .into_iter()
            .find(|words| words.clone().next().is_some())
    }

    /// Returns the category of the attribute that MISP exported; "" for other producers.
    fn misp_category(&self) -> String {
        #[derive(Deserialize)]
        struct Phase<'p> {
            #[serde(borrow, default)]
            kill_chain_name: JsonStr<'p>,
            #[serde(borrow, default)]
            phase_name: JsonStr<'p>,
        }
        let phases =
            self.kill_chain_phases.map(|it| serde_json::from_str::<Vec<Phase<'_>>>(it.get()));
        let phases = phases.and_then(Result::ok).unwrap_or_default();
        let category = phases.iter().find(|it| it.kill_chain_name.as_str() == "misp-category");
        category.map(|it| it.phase_name.as_str().to_owned()).unwrap_or_default()
    }

    /// Returns the confidence, 0 to 100; any other value counts as unknown.
    fn confidence(&self) -> Option<f64> {
        [&self.confidence, &self.x_opencti_score].into_iter().find_map(|it| match it {
            Lenient::Absent => None,
            Lenient::Value(value) => Some(Some(*value).filter(|it| CONFIDENCE.contains(it))),
            Lenient::Unused(_) => None,
        })?
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

/// Parses a time with any number of digits of a second (section 2.16), truncated to nanoseconds, or a
/// number of seconds.
fn stix_time(text: &str) -> Lenient<Timestamp> {
    let text = text.trim();
    if is_absent(text) {
        return Lenient::Absent;
    }
    let fine = || {
        const DIGITS: usize = 9;
        let (whole, rest) = text.split_once('.')?;
        let zone = rest.trim_start_matches(|it: char| it.is_ascii_digit());
        let digits = rest.get(..DIGITS.min(rest.len() - zone.len()))?;
        parse_time(&format!("{whole}.{digits}{zone}"))
    };
    match lenient_time(text).or_else(fine) {
        Some(time) => Lenient::Value(time),
        None => Lenient::Unused(clipped(text, 100)),
    }
}

/// Truncates a text to at most `max` bytes, between characters.
fn clipped(text: &str, max: usize) -> String {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default().to_owned()
}
