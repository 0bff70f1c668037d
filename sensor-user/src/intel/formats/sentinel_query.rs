//! Responses of `queryIndicators`, the management API of Microsoft Sentinel.

use std::io::BufRead;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;

use super::columns::{is_absent, lenient_time};
use super::entry::{EntryContent, EntrySink, FeedEntry, ReadError, ReadPolicy};
use super::json::{
    EachElement, EachObject, LenientStr, ObjectVisitor, parse_document, unexpected_document,
};
use super::stix_pattern::{PatternAddresses, SufficientPrefix, UsableAddresses, read_pattern};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

const EXPECTED: &str = "a response of queryIndicators";
/// Pattern types without addresses.
const OTHER_TYPES: [&str; 6] =
    ["url", "file", "domain-name", "email-addr", "windows-registry-key", "user-account"];

/// Reads the items of a page; returns their number.
pub fn read_sentinel_query(
    input: impl BufRead,
    policy: &ReadPolicy,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let mut page = IndicatorPage {
        policy,
        entries,
        position: first_position,
        is_known: false,
        sample: String::new(),
    };
    let objects = parse_document(input, EachObject(&mut page), EXPECTED)?;
    if objects.is_none_or(|objects| objects == 0) || !page.is_known {
        return Err(unexpected_document(EXPECTED, &page.sample));
    }
    Ok(page.position.saturating_sub(first_position))
}

struct IndicatorPage<'p> {
    policy: &'p ReadPolicy,
    entries: &'p mut dyn EntrySink,
    position: u64,
    is_known: bool,
    sample: String,
}

impl ObjectVisitor for IndicatorPage<'_> {
    fn visit_member<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "value" => {
                let is_list = map.next_value_seed(EachElement(|text: &str| self.item(text)))?;
                self.is_known |= is_list;
            }
            "error" => {
                let mut error = ErrorBody(&mut self.sample);
                map.next_value_seed(EachObject(&mut error))?;
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// Code and message of `error`.
struct ErrorBody<'t>(&'t mut String);

impl ObjectVisitor for ErrorBody<'_> {
    fn visit_member<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let text = map.next_value::<LenientStr<'_>>()?;
        if ["code", "message"].contains(&key) {
            self.0.extend([key, ": ", text.as_str(), "; "]);
        }
        Ok(())
    }
}

impl IndicatorPage<'_> {
    fn item(&mut self, text: &str) {
        let position = self.position;
        self.position += 1;
        let item: Item<'_> = match serde_json::from_str(text) {
            Ok(item) => item,
            Err(error) => {
                let reason = RejectReason::from_json(&error);
                return self.entries.reject(position, reason, text);
            }
        };
        let id = item.name.as_str();
        if id.is_empty() {
            let reason = RejectReason::Malformed("an item without name".to_owned());
            return self.entries.reject(position, reason, text);
        }
        let version = lenient_time(item.properties.last_updated_time_utc.as_str());
        let confidence = item.properties.confidence.as_str();
        if !is_absent(confidence) && item.properties.confidence().is_none() {
            let reason = RejectReason::PropertyUnused("confidence".to_owned());
            self.entries.reject(position, reason, confidence);
        }
        let content = match item.addresses(self.policy) {
            Ok(UsableAddresses { usable, rejected }) => {
                for (reason, text) in rejected {
                    self.entries.reject(position, reason, &text);
                }
                let indicator = |address| item.indicator(address, self.policy);
                EntryContent::Indicators(usable.into_iter().map(indicator).collect())
            }
            Err(reason) => EntryContent::Removed(reason),
        };
        let (id, group) = (id.to_owned(), String::new());
        self.entries.push(FeedEntry { id, group, version, position, content });
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow)]
    name: LenientStr<'a>,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Properties<'a> {
    #[serde(borrow)]
    confidence: LenientStr<'a>,
    #[serde(borrow)]
    created: LenientStr<'a>,
    #[serde(borrow)]
    last_updated_time_utc: LenientStr<'a>,
    #[serde(borrow)]
    source: LenientStr<'a>,
    #[serde(borrow)]
    display_name: LenientStr<'a>,
    #[serde(borrow)]
    description: LenientStr<'a>,
    #[serde(borrow)]
    threat_types: LenientStr<'a>,
    #[serde(borrow)]
    pattern: LenientStr<'a>,
    #[serde(borrow)]
    pattern_type: LenientStr<'a>,
    #[serde(borrow)]
    parsed_pattern: Option<&'a RawValue>,
    #[serde(borrow)]
    valid_from: LenientStr<'a>,
    #[serde(borrow)]
    valid_until: LenientStr<'a>,
    #[serde(borrow)]
    revoked: LenientStr<'a>,
}

/// Part of a pattern, as parsed by Sentinel.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ParsedPattern<'a> {
    #[serde(borrow)]
    pattern_type_key: LenientStr<'a>,
    #[serde(borrow)]
    pattern_type_values: Vec<PatternValue<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PatternValue<'a> {
    #[serde(borrow)]
    value: LenientStr<'a>,
}

impl Properties<'_> {
    /// Returns the confidence, 0 to 100; `None` for any other value.
    fn confidence(&self) -> Option<f64> {
        self.confidence.as_str().parse().ok().filter(|it| (0.0..=100.0).contains(it))
    }
}

impl Item<'_> {
    /// Returns the addresses of an item that may be used, at least one.
    fn addresses(&self, policy: &ReadPolicy) -> Result<UsableAddresses, RejectReason> {
        let it = &self.properties;
        if it.revoked.to_flag() == Some(true) {
            return Err(RejectReason::Withdrawn);
        }
        if policy.is_expired(lenient_time(it.valid_until.as_str())) {
            return Err(RejectReason::Expired);
        }
        if it.threat_types.as_str() == "benign" {
            return Err(RejectReason::Benign);
        }
        if policy.is_low(it.confidence()) {
            return Err(RejectReason::LowConfidence);
        }
        if OTHER_TYPES.contains(&it.pattern_type.as_str()) {
            return Err(RejectReason::NotAnIndicator);
        }
        let found = match it.pattern.as_str() {
            "" => self.parsed_addresses(),
            pattern => {
                read_pattern(pattern).map_err(|error| RejectReason::Pattern(error.to_string()))?
            }
        };
        found.check(policy).map_err(|(reason, _text)| reason)
    }

    fn indicator(&self, address: SufficientPrefix, policy: &ReadPolicy) -> Indicator {
        let it = &self.properties;
        let updated = lenient_time(it.last_updated_time_utc.as_str());
        let description =
            if it.description.as_str().is_empty() { &it.display_name } else { &it.description };
        Indicator {
            id: self.name.to_text(),
            entity: address.entity,
            ports: address.ports,
            expires: lenient_time(it.valid_until.as_str()),
            valid_from: lenient_time(it.valid_from.as_str()),
            time_generated: updated.unwrap_or(policy.now),
            version: updated,
            first_reported: lenient_time(it.created.as_str()),
            description: description.to_text(),
            threat_type: it.threat_types.as_str().split(", ").next().unwrap_or_default().to_owned(),
            confidence: it.confidence(),
            additional_information: match it.source.as_str() {
                "" => String::new(),
                source => format!("source: {source}"),
            },
            ..Indicator::blank(address.prefix)
        }
    }

    /// Returns the addresses of a pattern that Sentinel parsed.
    fn parsed_addresses(&self) -> PatternAddresses {
        let mut found = PatternAddresses::default();
        let parsed = self.properties.parsed_pattern;
        let parsed: Vec<ParsedPattern<'_>> =
            parsed.and_then(|it| serde_json::from_str(it.get()).ok()).unwrap_or_default();
        let [ParsedPattern { pattern_type_key, pattern_type_values }] = parsed.as_slice() else {
            return found;
        };
        if !["ipv4-addr", "ipv6-addr"].contains(&pattern_type_key.as_str()) {
            return found;
        }
        for value in pattern_type_values {
            found.add(value.value.as_str().trim_matches('\''));
        }
        found
    }
}

#[cfg(test)]
#[path = "sentinel_query_tests.rs"]
mod tests;
