//! Detection of a document's format from its beginning.

use serde::de::{DeserializeSeed as _, Error as _, IgnoredAny, MapAccess};

use super::json::{EachObject, ObjectVisitor};
use super::kind::FeedKind;

/// Keys of the outermost object, or of the objects in the outermost array, that are unique to a
/// kind.
const KEYS: [(&str, FeedKind); 14] = [
    // STIX 2.1, 3.2 (every object has a type) and 8 (bundles); TAXII 2.1, 3.7 (envelopes).
    ("type", FeedKind::Stix),
    ("objects", FeedKind::Stix),
    // An event, with or without its envelope; a response of `restSearch`.
    ("Event", FeedKind::Misp),
    ("response", FeedKind::Misp),
    ("Attribute", FeedKind::Misp),
    ("Orgc", FeedKind::Misp),
    ("orgc_id", FeedKind::Misp),
    ("threat_level_id", FeedKind::Misp),
    ("publish_timestamp", FeedKind::Misp),
    // A response of the decision stream.
    ("new", FeedKind::CrowdSec),
    ("deleted", FeedKind::CrowdSec),
    // A response of `queryIndicators`.
    ("value", FeedKind::SentinelQuery),
    ("TimeGenerated", FeedKind::Sentinel),
    ("IndicatorId", FeedKind::Sentinel),
];

/// Detects the format of a file that begins with `head`. A file that is not JSON is a list, and
/// JSON without a known key is taken for rows.
pub fn sniff(head: &[u8]) -> FeedKind {
    let text = head.trim_ascii_start();
    // An IPv6 address may be in brackets.
    let inside = text.strip_prefix(b"[").map_or(text, <[u8]>::trim_ascii_start);
    if !inside.starts_with(b"{") {
        return FeedKind::List;
    }
    let mut first = FirstKnownKey(None);
    let mut json = serde_json::Deserializer::from_slice(text);
    // The head may end inside a value: the keys before it decide.
    let _cut = EachObject(&mut first).deserialize(&mut json).is_err();
    first.0.unwrap_or(FeedKind::Sentinel)
}

/// Kind of the first known key.
struct FirstKnownKey(Option<FeedKind>);

impl ObjectVisitor for FirstKnownKey {
    fn visit_member<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
    ) -> Result<(), A::Error> {
        self.0 = KEYS.iter().find(|(known, _)| *known == key).map(|(_, kind)| *kind);
        if self.0.is_some() {
            return Err(A::Error::custom("enough"));
        }
        map.next_value::<IgnoredAny>().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_follows_from_the_beginning() {
        let long = format!(r#"{{"id":"bundle--1","x_pad":"{}","objects":[{{"ty"#, "x".repeat(9999));
        let deep = format!(r#"{{"x":{}"#, "[".repeat(100_000));
        for (head, kind) in [
            ("", FeedKind::List),
            ("# a comment with {\"type\":1}\n203.0.113.7\n", FeedKind::List),
            ("[2001:db8::7]:443\n", FeedKind::List),
            ("[]", FeedKind::List),
            (r#"{"type":"bundle","id":"bundle--1""#, FeedKind::Stix),
            ("\n [ {\n \"id\": \"indicator--1\", \"type\": \"indicator\"", FeedKind::Stix),
            (r#"{"more":false,"objects":["#, FeedKind::Stix),
            (&long, FeedKind::Stix),
            (r#"{"Event":{"type":"#, FeedKind::Misp),
            (r#"[{"Event":{"#, FeedKind::Misp),
            (r#"{"response":{"Attribute":[{"type":"ip-dst"}]}}"#, FeedKind::Misp),
            (r#"{"id":"1","info":"x","Attribute":[{"type":"ip-dst"#, FeedKind::Misp),
            (r#"{"deleted":null,"new":[]}"#, FeedKind::CrowdSec),
            (r#"{"value":[{"name":"x"#, FeedKind::SentinelQuery),
            ("{\"TimeGenerated\":\"\",\"type\":\"\"}\n{\"type\":\"\"}", FeedKind::Sentinel),
            (r#"{"Type":"ThreatIntelIndicators","Data":{"type":"indicator"}}"#, FeedKind::Sentinel),
            ("{", FeedKind::Sentinel),
            ("{\"\u{1b}[31m", FeedKind::Sentinel),
            (&deep, FeedKind::Sentinel),
        ] {
            assert_eq!(sniff(head.as_bytes()), kind, "{head:.60}");
        }
    }
}
