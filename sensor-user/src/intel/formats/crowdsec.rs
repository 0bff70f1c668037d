//! `CrowdSec`: responses of the Local API's decision stream.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::BufRead;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};

use super::addresses::usable_endpoints;
use super::columns::lenient_time;
use super::endpoint::Endpoint;
use super::entry::{EntryContent, EntrySink, FeedEntry, ReadError, ReadPolicy};
use super::go_duration::go_duration;
use super::json::{
    EachElement, EachObject, LenientStr, ObjectVisitor, parse_document, unexpected_document,
};
use crate::intel::address::parse_prefix;
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

/// Types of decisions by which an address is let through. Bouncers give them no other meaning, whatever their
/// letter case.
const ALLOWING: [&str; 4] = ["whitelist", "allow", "allowlist", "bypass"];
const EXPECTED: &str = "a response of CrowdSec's decision stream";

/// Reads `{"new": …, "deleted": …}`; returns the number of decisions. A decision that is in both
/// lists is new, whatever their order.
pub fn read_crowdsec(
    input: impl BufRead,
    policy: &ReadPolicy,
    first_position: u64,
    entries: &mut dyn EntrySink,
) -> Result<u64, ReadError> {
    let mut stream = DecisionStream {
        policy,
        entries,
        position: first_position,
        new_ids: HashSet::new(),
        hasher: RandomState::new(),
        is_known: false,
        sample: String::new(),
    };
    let objects = parse_document(input, EachObject(&mut stream), EXPECTED)?;
    if objects.is_none_or(|objects| objects > 0) && !stream.is_known {
        return Err(unexpected_document(EXPECTED, &stream.sample));
    }
    Ok(stream.position.saturating_sub(first_position))
}

struct DecisionStream<'r> {
    policy: &'r ReadPolicy,
    entries: &'r mut dyn EntrySink,
    position: u64,
    /// Hashes of the new ids, for deletions after them.
    new_ids: HashSet<u64>,
    hasher: RandomState,
    is_known: bool,
    sample: String,
}

impl DecisionStream<'_> {
    fn decision(&mut self, text: &str, is_new: bool) {
        let position = self.position;
        self.position += 1;
        let decision: Decision<'_> = match serde_json::from_str(text) {
            Ok(decision) => decision,
            Err(error) => {
                let reason = RejectReason::from_json(&error);
                return self.entries.reject(position, reason, text);
            }
        };
        let id = decision.unique_id();
        if id.is_empty() {
            let reason = RejectReason::Malformed("a decision without id".to_owned());
            return self.entries.reject(position, reason, text);
        }
        let hash = self.hasher.hash_one(id);
        let content = if is_new {
            self.new_ids.insert(hash);
            match decision.indicators(self.policy) {
                Ok(indicators) => EntryContent::Indicators(indicators),
                Err(reason) => EntryContent::Removed(reason),
            }
        } else if self.new_ids.contains(&hash) {
            return self.entries.reject(position, RejectReason::Superseded, id);
        } else {
            EntryContent::Removed(RejectReason::Withdrawn)
        };
        let (id, group) = (id.to_owned(), decision.subject());
        self.entries.push(FeedEntry { id, group, version: None, position, content });
    }
}

impl ObjectVisitor for DecisionStream<'_> {
    fn visit_member<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        match key {
            "new" | "deleted" => {
                let is_new = key == "new";
                let each = EachElement(|text: &str| self.decision(text, is_new));
                let is_list = map.next_value_seed(each)?;
                self.is_known |= is_list;
            }
            "message" | "error" | "errors" => {
                self.sample = format!("{key}: {}", map.next_value::<LenientStr<'_>>()?.as_str());
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Decision<'a> {
    #[serde(borrow)]
    uuid: LenientStr<'a>,
    #[serde(borrow)]
    id: LenientStr<'a>,
    #[serde(borrow)]
    origin: LenientStr<'a>,
    #[serde(borrow, rename = "type")]
    action: LenientStr<'a>,
    #[serde(borrow)]
    scope: LenientStr<'a>,
    #[serde(borrow)]
    value: LenientStr<'a>,
    #[serde(borrow)]
    duration: LenientStr<'a>,
    #[serde(borrow)]
    until: LenientStr<'a>,
    #[serde(borrow)]
    scenario: LenientStr<'a>,
    #[serde(borrow)]
    simulated: LenientStr<'a>,
}

impl Decision<'_> {
    fn unique_id(&self) -> &str {
        if self.uuid.as_str().is_empty() { self.id.as_str() } else { self.uuid.as_str() }
    }

    /// Scope, value and type, by which a server without `dedup=false` selects one decision of several.
    fn subject(&self) -> String {
        let value = self.value.as_str().trim();
        let value = parse_prefix(value).map_or_else(|| value.to_owned(), |it| it.to_string());
        let [scope, action] =
            [&self.scope, &self.action].map(|it| it.as_str().trim().to_ascii_lowercase());
        format!("{scope} {action} {value}")
    }

    fn indicators(&self, policy: &ReadPolicy) -> Result<Vec<Indicator>, RejectReason> {
        let scope = self.scope.as_str().trim();
        if !scope.eq_ignore_ascii_case("ip") && !scope.eq_ignore_ascii_case("range") {
            return Err(RejectReason::NotAnIndicator);
        }
        if self.simulated.to_flag() == Some(true) {
            return Err(RejectReason::NotActionable);
        }
        let action = self.action.as_str().trim();
        if ALLOWING.iter().any(|it| action.eq_ignore_ascii_case(it)) {
            return Err(RejectReason::Benign);
        }
        let endpoints = usable_endpoints(self.value.as_str(), policy)?;
        let expires = self.expires(policy.now)?;
        if policy.is_expired(expires) {
            return Err(RejectReason::Expired);
        }
        let origin = self.origin.as_str();
        let indicator = |endpoint: Endpoint<'_>| Indicator {
            id: self.unique_id().to_owned(),
            expires,
            threat_type: self.scenario.to_text(),
            description: format!("CrowdSec decision: {action}, by {origin}"),
            ..endpoint.indicator(endpoint.port, policy)
        };
        Ok(endpoints.into_iter().map(indicator).collect())
    }

    /// Returns the expiry from the remaining duration, which does not depend on the server's clock;
    /// otherwise from the end time.
    fn expires(&self, now: Timestamp) -> Result<Option<Timestamp>, RejectReason> {
        match (self.duration.as_str(), self.until.as_str()) {
            ("", "") => Ok(None),
            ("", until) => match lenient_time(until) {
                Some(until) => Ok(Some(until)),
                None => Err(RejectReason::Malformed("until is not a time".to_owned())),
            },
            (text, _) => match go_duration(text) {
                Some(left) => Ok(Some(now.checked_add(left).unwrap_or(Timestamp::MAX))),
                None => Err(RejectReason::Malformed("duration is not a duration".to_owned())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intel::address::PrefixPolicy;
    use crate::intel::formats::entry::CollectedEntries;

    fn read(text: &str) -> (CollectedEntries, Result<u64, ReadError>) {
        let policy = ReadPolicy {
            prefixes: PrefixPolicy::default(),
            min_confidence: None,
            now: "2026-11-24T12:00:00Z".parse().unwrap(),
            oldest: Timestamp::MIN,
        };
        let mut found = CollectedEntries::default();
        let read = read_crowdsec(text.as_bytes(), &policy, 1, &mut found);
        (found, read)
    }

    #[test]
    fn decisions_about_addresses_are_indicators_until_they_end() {
        let text = "{\"new\":[\
            {\"id\":1,\"uuid\":\"u-1\",\"origin\":\"crowdsec\",\"type\":\"ban\",\"scope\":\"Ip\",\
             \"value\":\"203.0.113.1\",\"duration\":\"1h0m0.5s\",\"scenario\":\"x/ssh-bf\",\
             \"simulated\":false},\
            {\"id\":2,\"scope\":\"range\",\"value\":\"198.51.100.0/24\",\
             \"until\":\"2026-11-25T00:00:00Z\"},\
            {\"id\":3,\"scope\":\"Country\",\"value\":\"XX\",\"duration\":\"1h\"},\
            {\"id\":4,\"scope\":\"ip\",\"value\":\"203.0.113.4\",\"duration\":\"1h\",\
             \"simulated\":true},\
            {\"id\":5,\"scope\":\"ip\",\"value\":\"203.0.113.5\",\"duration\":\"-1s\"},\
            {\"id\":6,\"scope\":\"ip\",\"value\":\"host\",\"duration\":\"1h\"},\
            {\"scope\":\"ip\"},\"x\",\
            {\"id\":7,\"scope\":\"ip\",\"value\":\"203.0.113.7\",\"duration\":\"soon\"}],\
            \"deleted\":[{\"id\":9,\"scope\":\"Ip\",\"value\":\"203.0.113.9\",\
             \"duration\":\"-20.9ms\"},{\"id\":2}]}";
        let (found, read) = read(text);
        assert_eq!(read.unwrap(), 11);
        let outcomes: Vec<(&str, Option<&str>)> = found
            .entries
            .iter()
            .map(|entry| match &entry.content {
                EntryContent::Indicators(_) => (entry.id.as_str(), None),
                EntryContent::Removed(reason) => (entry.id.as_str(), Some(reason.name())),
            })
            .collect();
        assert_eq!(
            outcomes,
            [
                ("u-1", None),
                ("2", None),
                ("3", Some("not an address indicator")),
                ("4", Some("not to be acted on")),
                ("5", Some("expired")),
                ("6", Some("not an address")),
                ("7", Some("malformed")),
                ("9", Some("deleted or revoked")),
            ]
        );
        let EntryContent::Indicators(first) = &found.entries[0].content else {
            panic!("{found:?}")
        };
        assert_eq!(first[0].expires, "2026-11-24T13:00:00.5Z".parse().ok());
        assert_eq!(first[0].id, "u-1");
        assert_eq!(first[0].threat_type, "x/ssh-bf");
        assert_eq!(first[0].description, "CrowdSec decision: ban, by crowdsec");
        let rejects: Vec<(u64, &str)> =
            found.rejects.kept().iter().map(|it| (it.position, it.reason.name())).collect();
        assert_eq!(rejects, [(7, "malformed"), (8, "malformed"), (11, "superseded")]);
    }

    #[test]
    fn a_decision_that_allows_an_address_is_no_indicator() {
        for (action, is_used) in [
            ("ban", true),
            ("captcha", true),
            ("throttle", true),
            ("BAN", true),
            ("", true),
            ("whitelist", false),
            ("Whitelist", false),
            ("allow", false),
            (" ALLOW", false),
            ("bypass", false),
            ("allowlist", false),
        ] {
            let text = format!(
                "{{\"new\":[{{\"id\":1,\"type\":\"{action}\",\"scope\":\"Ip\",\
                 \"value\":\"203.0.113.1\",\"duration\":\"1h\"}}]}}"
            );
            let content = &read(&text).0.entries[0].content;
            let benign = EntryContent::Removed(RejectReason::Benign);
            assert_eq!(*content == benign, !is_used, "{action}: {content:?}");
        }
    }

    #[test]
    fn decisions_of_one_scope_type_and_value_have_one_group() {
        let groups = |value: &str, scope: &str, action: &str| {
            let text = format!(
                "{{\"deleted\":[{{\"id\":1,\"type\":\"{action}\",\"scope\":\"{scope}\",\
                 \"value\":\"{value}\"}}]}}"
            );
            read(&text).0.entries[0].group.clone()
        };
        let ban = groups("203.0.113.1", "Ip", "ban");
        assert_eq!(groups("::ffff:203.0.113.1", "ip", "Ban"), ban);
        assert_eq!(groups("2001:DB8::1", "Ip", "ban"), groups("2001:db8:0::1", "Ip", "ban"));
        for other in [
            groups("203.0.113.2", "Ip", "ban"),
            groups("203.0.113.1", "Range", "ban"),
            groups("203.0.113.1", "Ip", "captcha"),
            groups("user", "username", "ban"),
        ] {
            assert_ne!(other, ban);
        }
    }

    #[test]
    fn responses_without_decisions_differ_from_other_documents() {
        for text in ["{\"new\":null,\"deleted\":null}", "null", "{\"new\":[]}"] {
            assert_eq!(read(text).1.unwrap(), 0, "{text}");
        }
        let (_, refused) = read("{\"message\":\"access forbidden\"}");
        assert!(refused.unwrap_err().to_string().contains("message: access forbidden"));
        let (_, cut) = read("{\"new\":[{\"id\":1}");
        assert!(matches!(cut, Err(ReadError::Truncated(_))));
    }

    #[test]
    fn decisions_may_be_an_object_with_numbers_as_keys() {
        let decision = |id: u8| {
            format!(
                "{{\"id\":{id},\"scope\":\"Ip\",\"value\":\"203.0.113.{id}\",\"duration\":\"1h\"}}"
            )
        };
        for text in [
            format!("\u{feff}{{\"new\":{{\"0\":{},\"4\":{}}}}}", decision(1), decision(2)),
            format!("{{\"new\":[{},{}],\"x\":\"\\ud83d\"}}", decision(1), decision(2)),
        ] {
            let (found, read) = read(&text);
            assert_eq!((found.entries.len(), read.unwrap()), (2, 2), "{text}");
        }
        let range =
            decision(1).replace("203.0.113.1", "203.0.113.0-203.0.113.2").replace("Ip", "range");
        let (found, _) = read(&format!("{{\"new\":{range}}}"));
        let EntryContent::Indicators(all) = &found.entries[0].content else { panic!("{found:?}") };
        assert_eq!(all.len(), 2);
        for text in ["{\"new\":\"none\"}", "\"denied\"", "{\"new\":7}"] {
            read(text).1.unwrap_err();
        }
    }
}
