//! `CrowdSec`: responses of the Local API's decision stream.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io::BufRead;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};

use super::columns::lenient_time;
use super::endpoint::Endpoint;
use super::entry::{EntryContent, EntrySink, FeedEntry, ReadError, ReadPolicy};
use super::json::{
    EachElement, EachObject, LenientStr, ObjectVisitor, parse_document, unexpected_document,
};
use crate::intel::indicator::Indicator;
use crate::intel::rejects::RejectReason;

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
    if objects > 0 && !stream.is_known {
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
            match decision.indicator(self.policy) {
                Ok(indicator) => EntryContent::Indicators(vec![indicator]),
                Err(reason) => EntryContent::Removed(reason),
            }
        } else if self.new_ids.contains(&hash) {
            return self.entries.reject(position, RejectReason::Superseded, id);
        } else {
            EntryContent::Removed(RejectReason::Withdrawn)
        };
        let (id, group) = (id.to_owned(), String::new());
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
                self.is_known = true;
                let is_new = key == "new";
                map.next_value_seed(EachElement(|text: &str| self.decision(text, is_new)))?;
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

    fn indicator(&self, policy: &ReadPolicy) -> Result<Indicator, RejectReason> {
        let scope = self.scope.as_str();
        if !scope.eq_ignore_ascii_case("ip") && !scope.eq_ignore_ascii_case("range") {
            return Err(RejectReason::NotAnIndicator);
        }
        if self.simulated.to_flag() == Some(true) {
            return Err(RejectReason::NotActionable);
        }
        let endpoint = Endpoint::parse(self.value.as_str())?;
        policy.accept(endpoint.prefix)?;
        let expires = self.expires(policy.now)?;
        if policy.is_expired(expires) {
            return Err(RejectReason::Expired);
        }
        let (action, origin) = (self.action.as_str(), self.origin.as_str());
        Ok(Indicator {
            id: self.unique_id().to_owned(),
            expires,
            threat_type: self.scenario.to_text(),
            description: format!("CrowdSec decision: {action}, by {origin}"),
            ..endpoint.indicator(endpoint.port, policy)
        })
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

/// Parses a duration in Go's format: `-1h2m3.5s`, `1.5ms`; `None` for anything else.
fn go_duration(text: &str) -> Option<SignedDuration> {
    const SECOND: i128 = 1_000_000_000;
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let (unit, after) = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("μs", 1_000),
            ("ms", 1_000_000),
            ("s", SECOND),
            ("m", 60 * SECOND),
            ("h", 3600 * SECOND),
        ]
        .into_iter()
        .find_map(|(name, unit)| after.strip_prefix(name).map(|rest| (unit, rest)))?;
        if whole.len() > 18 || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let mut part = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()? } * unit;
        let mut scale = unit;
        for digit in fraction.chars() {
            scale /= 10;
            part += i128::from(digit.to_digit(10)?) * scale;
        }
        total = total.checked_add(part)?;
        rest = after;
    }
    let seconds = i64::try_from(total / SECOND).ok()?;
    let nanoseconds = i32::try_from(total % SECOND).ok()?;
    let duration = SignedDuration::new(seconds, nanoseconds);
    Some(if is_negative { -duration } else { duration })
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
    fn durations_of_go_are_read_in_all_their_units() {
        for (text, nanoseconds) in [
            ("3h59m57.64s", Some(14_397_640_000_000)),
            ("-20.9ms", Some(-20_900_000)),
            ("1.5µs", Some(1_500)),
            ("1μs2us", Some(3_000)),
            ("7ns", Some(7)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1.0000000000000009s", Some(1_000_000_000)),
            ("", None),
            ("-", None),
            ("5", None),
            ("h", None),
            (".s", None),
            ("1.2.3s", None),
            ("1d", None),
            ("99999999999999999999h", None),
            ("999999999999999999h", None),
        ] {
            let expected = nanoseconds.map(SignedDuration::from_nanos);
            assert_eq!(go_duration(text), expected, "{text}");
        }
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
    fn responses_without_decisions_differ_from_other_documents() {
        for text in ["{\"new\":null,\"deleted\":null}", "null", "{\"new\":[]}"] {
            assert_eq!(read(text).1.unwrap(), 0, "{text}");
        }
        let (_, refused) = read("{\"message\":\"access forbidden\"}");
        assert!(refused.unwrap_err().to_string().contains("message: access forbidden"));
        let (_, cut) = read("{\"new\":[{\"id\":1}");
        assert!(matches!(cut, Err(ReadError::Truncated(_))));
    }
}
