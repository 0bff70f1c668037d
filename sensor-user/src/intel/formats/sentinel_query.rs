//! Replies of `queryIndicators`, the management interface of Microsoft Sentinel.

use std::io::BufRead;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};

use super::columns::loose_time;
use super::endpoint::Endpoint;
use super::entry::{Content, Entries, Entry, ReadFault, ReadPolicy};
use super::json::{Each, Loose, Members, Objects, document, not_a_list};
use super::stix_pattern::{Sufficient, read_pattern};
use crate::base::lines::json_fault;
use crate::intel::indicator::Indicator;
use crate::intel::rejects::Reason;

const WHAT: &str = "a reply of queryIndicators";
/// Types of patterns that name no address.
const OTHER_TYPES: [&str; 6] =
    ["url", "file", "domain-name", "email-addr", "windows-registry-key", "user-account"];

/// Reads the items of a page; gives their number.
pub fn read_sentinel_query(
    input: impl BufRead,
    policy: &ReadPolicy,
    first_place: u64,
    entries: &mut dyn Entries,
) -> Result<u64, ReadFault> {
    let mut page =
        Page { policy, entries, place: first_place, is_known: false, sample: String::new() };
    let objects = document(input, Objects(&mut page), WHAT)?;
    if objects == 0 || !page.is_known {
        return Err(not_a_list(WHAT, &page.sample));
    }
    Ok(page.place.saturating_sub(first_place))
}

struct Page<'p> {
    policy: &'p ReadPolicy,
    entries: &'p mut dyn Entries,
    place: u64,
    is_known: bool,
    sample: String,
}

impl Members for Page<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "value" => {
                self.is_known = true;
                map.next_value_seed(Each(|text: &str| self.item(text)))?;
            }
            "error" => {
                let mut error = Fault(&mut self.sample);
                map.next_value_seed(Objects(&mut error))?;
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// What `error` says.
struct Fault<'f>(&'f mut String);

impl Members for Fault<'_> {
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let text = map.next_value::<Loose<'_>>()?;
        if ["code", "message"].contains(&key) {
            self.0.extend([key, ": ", text.as_str(), "; "]);
        }
        Ok(())
    }
}

impl Page<'_> {
    fn item(&mut self, text: &str) {
        let place = self.place;
        self.place += 1;
        let item: Item<'_> = match serde_json::from_str(text) {
            Ok(item) => item,
            Err(error) => {
                let reason = Reason::Malformed(json_fault(&error));
                return self.entries.reject(place, reason, text);
            }
        };
        let id = item.name.as_str();
        if id.is_empty() {
            let reason = Reason::Malformed("an item without name".to_owned());
            return self.entries.reject(place, reason, text);
        }
        let version = loose_time(item.properties.last_updated_time_utc.as_str());
        let (kept, reason) = item.indicators(self.policy);
        let content = match reason {
            Some((reason, _)) if kept.is_empty() => Content::Gone(reason),
            Some((reason, text)) => {
                self.entries.reject(place, reason, &text);
                Content::Indicators(kept)
            }
            None => Content::Indicators(kept),
        };
        let (id, group) = (id.to_owned(), String::new());
        self.entries.take(Entry { id, group, version, place, content });
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow)]
    name: Loose<'a>,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Properties<'a> {
    #[serde(borrow)]
    confidence: Loose<'a>,
    #[serde(borrow)]
    created: Loose<'a>,
    #[serde(borrow)]
    last_updated_time_utc: Loose<'a>,
    #[serde(borrow)]
    source: Loose<'a>,
    #[serde(borrow)]
    display_name: Loose<'a>,
    #[serde(borrow)]
    description: Loose<'a>,
    #[serde(borrow)]
    threat_types: Loose<'a>,
    #[serde(borrow)]
    pattern: Loose<'a>,
    #[serde(borrow)]
    pattern_type: Loose<'a>,
    #[serde(borrow)]
    parsed_pattern: Vec<Parsed<'a>>,
    #[serde(borrow)]
    valid_from: Loose<'a>,
    #[serde(borrow)]
    valid_until: Loose<'a>,
    #[serde(borrow)]
    revoked: Loose<'a>,
}

/// The parts of a pattern, as Sentinel took it apart.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Parsed<'a> {
    #[serde(borrow)]
    pattern_type_key: Loose<'a>,
    #[serde(borrow)]
    pattern_type_values: Vec<ParsedValue<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ParsedValue<'a> {
    #[serde(borrow)]
    value: Loose<'a>,
}

impl Item<'_> {
    /// The indicators of an item, and why there are none, or not all.
    fn indicators(&self, policy: &ReadPolicy) -> (Vec<Indicator>, Option<(Reason, String)>) {
        let gone = |reason| (Vec::new(), Some((reason, String::new())));
        let it = &self.properties;
        let expires = loose_time(it.valid_until.as_str());
        let confidence = it.confidence.as_str().parse::<f64>().ok();
        let threat_types = it.threat_types.as_str().split(", ");
        if it.revoked.flag() == Some(true) {
            return gone(Reason::Withdrawn);
        }
        if expires.is_some_and(|expires| expires <= policy.now) {
            return gone(Reason::Expired);
        }
        let mut kinds = threat_types.clone();
        if kinds.next() == Some("benign") && kinds.next().is_none() {
            return gone(Reason::Benign);
        }
        if policy.is_low(confidence) {
            return gone(Reason::LowConfidence);
        }
        let sufficient = match self.sufficient() {
            Ok(sufficient) => sufficient,
            Err(reason) => return gone(reason),
        };
        let updated = loose_time(it.last_updated_time_utc.as_str());
        let (mut kept, mut left_out) = (Vec::new(), None);
        for Sufficient { prefix, entity, ports } in sufficient {
            if let Some(exclusion) = policy.prefixes.exclusion(&prefix) {
                left_out = Some((Reason::Excluded(exclusion), entity));
                continue;
            }
            let name =
                if it.description.as_str().is_empty() { &it.display_name } else { &it.description };
            kept.push(Indicator {
                id: self.name.text(),
                entity,
                ports,
                expires,
                valid_from: loose_time(it.valid_from.as_str()),
                time_generated: updated.unwrap_or(policy.now),
                version: updated,
                first_reported: loose_time(it.created.as_str()),
                description: name.text(),
                threat_type: threat_types.clone().next().unwrap_or_default().to_owned(),
                confidence,
                additional_information: match it.source.as_str() {
                    "" => String::new(),
                    source => format!("source: {source}"),
                },
                ..Indicator::blank(prefix)
            });
        }
        (kept, left_out)
    }

    /// At least one.
    fn sufficient(&self) -> Result<Vec<Sufficient>, Reason> {
        let it = &self.properties;
        if OTHER_TYPES.contains(&it.pattern_type.as_str()) {
            return Err(Reason::NotAnIndicator);
        }
        let found = match it.pattern.as_str() {
            "" => self.parsed(),
            pattern => read_pattern(pattern).map_err(|fault| Reason::Pattern(fault.to_string()))?,
        };
        if found.is_empty() { Err(Reason::NotSufficient) } else { Ok(found) }
    }

    /// Of an item without pattern: its parts, where all are of an address.
    fn parsed(&self) -> Vec<Sufficient> {
        let [Parsed { pattern_type_key, pattern_type_values }] =
            self.properties.parsed_pattern.as_slice()
        else {
            return Vec::new();
        };
        if !["ipv4-addr", "ipv6-addr"].contains(&pattern_type_key.as_str()) {
            return Vec::new();
        }
        let values = pattern_type_values.iter().map(|it| it.value.as_str());
        values
            .filter_map(|value| Endpoint::parse(value.trim_matches('\'')).ok())
            .map(|it| Sufficient {
                prefix: it.prefix,
                entity: it.entity.to_owned(),
                ports: crate::intel::indicator::Ports::default(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intel::address::PrefixPolicy;
    use crate::intel::formats::entry::Collected;

    fn read(text: &str) -> (Collected, Result<u64, ReadFault>) {
        let policy = ReadPolicy {
            prefixes: PrefixPolicy::default(),
            min_confidence: Some(30),
            now: "2026-11-24T12:00:00Z".parse().unwrap(),
            oldest: jiff::Timestamp::MIN,
        };
        let mut found = Collected::default();
        let read = read_sentinel_query(text.as_bytes(), &policy, 1, &mut found);
        (found, read)
    }

    fn item(name: &str, rest: &str) -> String {
        format!(
            "{{\"id\":\"/subscriptions/s/{name}\",\"name\":\"{name}\",\"kind\":\"indicator\",\
             \"properties\":{{\"displayName\":\"n\",\"source\":\"s\"{rest}}}}}"
        )
    }

    #[test]
    fn items_are_indicators_by_their_pattern() {
        let pattern = ",\"pattern\":\"[ipv4-addr:value = '203.0.113.1']\"";
        let full = format!(
            "{pattern},\"patternType\":\"ipv4-addr\",\"confidence\":78,\"created\":\
             \"2026-11-01T00:00:00.1234567Z\",\"lastUpdatedTimeUtc\":\"2026-11-20T00:00:00.7654321Z\",\
             \"validFrom\":\"2026-11-02T00:00:00Z\",\"validUntil\":\"2027-01-01T00:00:00Z\",\
             \"threatTypes\":[\"botnet\",\"x\"],\"description\":\"d\""
        );
        let page = [
            item("a", &full),
            item("b", &format!("{pattern},\"revoked\":true")),
            item("c", &format!("{pattern},\"validUntil\":\"2026-11-24T12:00:00Z\"")),
            item("d", ",\"pattern\":\"[url:value = 'x']\",\"patternType\":\"url\""),
            item(
                "e",
                ",\"pattern\":\"[ipv4-addr:value = '10.0.0.1' OR ipv4-addr:value = '203.0.113.5']\"",
            ),
            item("f", ",\"pattern\":\"[ipv4-addr:value = '10.0.0.1']\""),
            item(
                "g",
                ",\"parsedPattern\":[{\"patternTypeKey\":\"ipv6-addr\",\"patternTypeValues\":[{\"valueType\":\"ipv6-addr\",\"value\":\"2001:db8::7\"}]}]",
            ),
            item("h", &format!("{pattern},\"confidence\":29")),
            item("i", &format!("{pattern},\"threatTypes\":[\"benign\"]")),
            item("j", ",\"pattern\":\"[ipv4-addr\""),
            item("k", ""),
            "7".to_owned(),
            "{}".to_owned(),
        ];
        let (found, read) = read(&format!("{{\"value\":[{}],\"nextLink\":null}}", page.join(",")));
        assert_eq!(read.unwrap(), 13);
        let outcomes: Vec<(&str, &str)> = found
            .entries
            .iter()
            .map(|entry| match &entry.content {
                Content::Indicators(of_item) => (entry.id.as_str(), of_item[0].entity.as_str()),
                Content::Gone(reason) => (entry.id.as_str(), reason.name()),
            })
            .collect();
        assert_eq!(
            outcomes,
            [
                ("a", "203.0.113.1"),
                ("b", "deleted or revoked"),
                ("c", "expired"),
                ("d", "not an address indicator"),
                ("e", "203.0.113.5"),
                ("f", "private or special range"),
                ("g", "2001:db8::7"),
                ("h", "low confidence"),
                ("i", "benign"),
                ("j", "pattern cannot be read"),
                ("k", "no address is sufficient alone"),
            ]
        );
        let Content::Indicators(of_a) = &found.entries[0].content else { panic!("{found:?}") };
        assert_eq!(found.entries[0].version, "2026-11-20T00:00:00.7654321Z".parse().ok());
        assert_eq!(of_a[0].time_generated, "2026-11-20T00:00:00.7654321Z".parse().unwrap());
        assert_eq!(of_a[0].first_reported, "2026-11-01T00:00:00.1234567Z".parse().ok());
        assert_eq!((&*of_a[0].threat_type, &*of_a[0].description), ("botnet", "d"));
        assert_eq!(of_a[0].confidence, Some(78.0));
        let rejects: Vec<(u64, &str)> =
            found.rejects.kept().iter().map(|it| (it.place, it.reason.name())).collect();
        assert_eq!(
            rejects,
            [(5, "private or special range"), (12, "malformed"), (13, "malformed")]
        );
    }

    #[test]
    fn an_error_is_told() {
        let (_, refused) =
            read("{\"error\":{\"code\":\"AuthorizationFailed\",\"message\":\"no\"}}");
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("code: AuthorizationFailed; message: no"), "{told}");
        assert_eq!(read("{\"value\":[]}").1.unwrap(), 0);
        assert!(matches!(read("[]").1, Err(ReadFault::Form(_))));
    }
}
