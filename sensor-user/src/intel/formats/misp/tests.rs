//! Responses and events of MISP.

use super::*;
use crate::intel::address::PrefixPolicy;
use crate::intel::formats::entry::CollectedEntries;
use crate::intel::indicator::PortRange;

fn read(text: &str) -> (CollectedEntries, Result<u64, ReadError>) {
    let policy = ReadPolicy {
        prefixes: PrefixPolicy::default(),
        min_confidence: Some(50),
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
        oldest: Timestamp::MIN,
    };
    let mut found = CollectedEntries::default();
    let read = read_misp(text.as_bytes(), &policy, 1, &mut found);
    (found, read)
}

fn attribute(uuid: &str, kind: &str, value: &str, rest: &str) -> String {
    format!(
        "{{\"uuid\":\"{uuid}\",\"type\":\"{kind}\",\"value\":\"{value}\",\"to_ids\":true{rest}}}"
    )
}

/// Id of each entry, and its address or the reason for its removal.
fn outcomes(found: &CollectedEntries) -> Vec<(&str, String)> {
    let of = |entry: &'_ FeedEntry| match &entry.content {
        EntryContent::Indicators(of_entry) => of_entry[0].prefix.to_string(),
        EntryContent::Removed(reason) => reason.name().to_owned(),
    };
    found.entries.iter().map(|entry| (entry.id.as_str(), of(entry))).collect()
}

fn first(found: &CollectedEntries) -> &Indicator {
    let EntryContent::Indicators(of_entry) = &found.entries[0].content else { panic!("{found:?}") };
    &of_entry[0]
}

#[test]
fn attributes_of_a_response_are_entries_with_the_context_of_their_event() {
    let text = format!(
        "{{\"response\":{{\"Attribute\":[{}]}}}}",
        [
            attribute(
                "a",
                "ip-dst|port",
                "203.0.113.1|443",
                ",\"timestamp\":\"1795514400\",\"category\":\"Network activity\",\"comment\":\"c2\",\
                 \"first_seen\":\"2026-11-01T00:00:00.000000+00:00\",\"deleted\":false,\
                 \"Tag\":[{\"name\":\"tlp:amber\"},7,{\"name\":\
                 \"misp:confidence-level=\\\"completely-confident\\\"\"}],\
                 \"Event\":{\"uuid\":\"e\",\"info\":\"a campaign\"}"
            ),
            attribute("b", "ip-src", "198.51.100.0/24", ",\"timestamp\":1795514400,\"id\":7"),
            attribute("c", "domain|ip", "example.com|2001:db8::7", ""),
            attribute("d", "ip-src|port", "2001:db8::8|80", ""),
            attribute("e", "domain", "example.com", ""),
            attribute("f", "ip-dst", "203.0.113.6", ",\"deleted\":\"1\""),
            attribute("g", "ip-dst", "203.0.113.7", "").replace("\"to_ids\":true", "\"to_ids\":\"0\""),
            attribute("h", "ip-dst", "10.0.0.1", ""),
            attribute("i", "ip-dst", "host", ""),
            attribute("j", "ip-dst", "203.0.113.8", ",\"decay_score\":[{\"decayed\":true}]"),
            attribute(
                "k",
                "ip-dst",
                "203.0.113.9",
                ",\"Tag\":[{\"name\":\"misp:confidence-level=\\\"unconfident\\\"\"}]"
            ),
            "7".to_owned(),
            attribute("l", "ip-dst", "203.0.113.10", ",\"decay_score\":[{\"decayed\":true},{}]"),
        ]
        .join(",")
    );
    let (found, read) = read(&text);
    assert_eq!(read.unwrap(), 13);
    let text = |it: &str| it.to_owned();
    assert_eq!(
        outcomes(&found),
        [
            ("a", text("203.0.113.1/32")),
            ("b", text("198.51.100.0/24")),
            ("c", text("2001:db8::7/128")),
            ("d", text("2001:db8::8/128")),
            ("f", text("deleted or revoked")),
            ("g", text("not to be acted on")),
            ("h", text("private or special range")),
            ("i", text("not an address")),
            ("j", text("expired")),
            ("k", text("low confidence")),
            ("l", text("203.0.113.10/32")),
        ]
    );
    let it = first(&found);
    assert_eq!(found.entries[0].group, "e");
    assert_eq!(found.entries[0].version, "2026-11-24T10:00:00Z".parse().ok());
    assert_eq!(found.entries[1].version, "2026-11-24T10:00:00Z".parse().ok());
    assert_eq!(it.ports.remote, [PortRange { first: 443, last: 443 }]);
    assert_eq!((&*it.description, &*it.additional_information), ("c2", "a campaign"));
    assert_eq!((&*it.threat_type, &*it.tlp_level), ("Network activity", "amber"));
    assert_eq!(
        (it.confidence, it.id.as_str(), it.entity.as_str()),
        (Some(100.0), "a", "203.0.113.1")
    );
    assert_eq!(it.first_reported, "2026-11-01T00:00:00Z".parse().ok());
    assert_eq!(found.rejects.kept().len(), 1);
    assert_eq!((found.rejects.kept()[0].position, found.rejects.malformed()), (12, 1));
}

#[test]
fn the_context_of_an_event_may_follow_its_attributes() {
    let parts = [
        format!("\"Attribute\":[{}]", attribute("a", "ip-dst", "203.0.113.1", "")),
        format!(
            "\"Object\":[{{\"Attribute\":[{}]}},{{\"Attribute\":[{}],\"deleted\":true}}]",
            attribute("b", "ip-dst", "203.0.113.2", ",\"Tag\":[{\"name\":\"tlp:red\"}]"),
            attribute("c", "ip-dst", "203.0.113.3", "")
        ),
        "\"Tag\":[{\"name\":\"tlp:green\"}],\"info\":\"a campaign\",\"uuid\":\"e\"".to_owned(),
        "\"ShadowAttribute\":[{\"type\":\"ip-dst\",\"value\":\"203.0.113.9\"}]".to_owned(),
    ];
    for order in [[0, 1, 2, 3], [2, 3, 1, 0]] {
        let event = order.map(|part| parts[part].as_str()).join(",");
        for text in [
            format!("{{\"Event\":{{{event}}}}}"),
            format!("{{{event}}}"),
            format!("{{\"response\":[{{\"Event\":{{{event}}}}}]}}"),
        ] {
            let (found, read) = read(&text);
            assert_eq!(read.unwrap(), 3, "{text}");
            let mut outcomes = outcomes(&found);
            outcomes.sort_unstable();
            let expected =
                [("a", "203.0.113.1/32"), ("b", "203.0.113.2/32"), ("c", "deleted or revoked")];
            assert_eq!(outcomes, expected.map(|(id, it)| (id, it.to_owned())), "{text}");
            for entry in &found.entries {
                assert_eq!(entry.group, "e", "{text}");
                let EntryContent::Indicators(of_entry) = &entry.content else { continue };
                let level = if entry.id == "b" { "red" } else { "green" };
                assert_eq!(
                    (&*of_entry[0].tlp_level, &*of_entry[0].description),
                    (level, "a campaign")
                );
            }
        }
    }
}

#[test]
fn responses_without_attributes_differ_from_other_documents() {
    for text in ["{\"response\":[]}", "{\"response\":{\"Attribute\":[]}}", "[]"] {
        assert_eq!(read(text).1.unwrap(), 0, "{text}");
    }
    let (_, refused) = read("{\"name\":\"Authentication failed.\",\"url\":\"/x\"}");
    assert!(refused.unwrap_err().to_string().contains("name: Authentication failed."));
    let (_, cut) = read("{\"response\":{\"Attribute\":[{\"uuid\":\"a\"");
    assert!(matches!(cut, Err(ReadError::Truncated(_))), "{cut:?}");
}

#[test]
fn a_very_large_event_is_read_in_bounded_memory() {
    let count = PENDING_MAX + 10;
    let one = attribute("u", "ip-dst", "203.0.113.1", "");
    let text = format!(
        "{{\"Event\":{{\"uuid\":\"e\",\"Attribute\":[{}],\"info\":\"late\"}}}}",
        vec![one; count].join(",")
    );
    let (found, read) = read(&text);
    assert_eq!((read.unwrap(), found.entries.len()), (count as u64, count));
    assert!(found.entries.iter().all(|entry| entry.group == "e"));
    assert_eq!(first(&found).description, "");
}

#[test]
fn a_list_may_be_an_object_with_numbers_as_keys() {
    let (a, b) = (
        attribute("a", "ip-dst", "203.0.113.1", ",\"Tag\":{\"1\":{\"name\":\"tlp:red\"}}"),
        attribute(
            "b",
            "ip-src",
            "203.0.113.2",
            ",\"Tag\":\"x\",\"decay_score\":{\"0\":{\"decayed\":\"0\"}}",
        ),
    );
    let event = |attributes: &str| {
        format!("{{\"Event\":{{\"uuid\":\"e\",\"info\":\"i\",\"Attribute\":{attributes}}}}}")
    };
    let gaps = format!("{{\"0\":{a},\"7\":{b}}}");
    let used = [("a", "203.0.113.1/32".to_owned()), ("b", "203.0.113.2/32".to_owned())];
    for text in [
        format!("{{\"response\":{{\"Attribute\":{gaps}}}}}"),
        format!("{{\"response\":{{\"0\":{},\"2\":{}}}}}", event(&format!("[{a}]")), event(&b)),
        event(&gaps),
        format!("{{\"Event\":{{\"Object\":{{\"3\":{{\"Attribute\":{gaps}}}}}}}}}"),
        format!("\u{feff}{}", event(&format!("[{a},{b}]"))),
        event(&gaps)
            .replace("\"i\"", "\"i \\ud83d\"")
            .replace("ip-src\",", "ip-src\",\"comment\":\"\\ude00\","),
    ] {
        let (found, read) = read(&text);
        assert_eq!(outcomes(&found), used, "{text}");
        assert_eq!((read.unwrap(), found.rejects.total()), (2, 0), "{text}");
        assert_eq!(first(&found).tlp_level, "red", "{text}");
    }
    for text in
        ["{\"response\":\"nothing\"}", "{\"response\":{\"Attribute\":7}}", "\"Forbidden\"", "17"]
    {
        read(text).1.unwrap_err();
    }
    for text in ["{\"response\":[]}", "{\"response\":{\"Attribute\":[]}}", "{\"response\":null}"] {
        assert_eq!(read(text).1.unwrap(), 0, "{text}");
    }
}

#[test]
fn a_range_has_the_id_of_its_attribute_and_the_lowest_confidence_counts() {
    let tags = |first: &str, second: &str| {
        let tag = |name: &str| format!("{{\"name\":\"misp:confidence-level=\\\"{name}\\\"\"}}");
        format!(",\"Tag\":[{},{}]", tag(first), tag(second))
    };
    for (one, other) in [
        ("usually-confident", "completely-confident"),
        ("completely-confident", "usually-confident"),
    ] {
        let text = attribute("a", "ip-dst", "198.51.100.0 - 198.51.100.2", &tags(one, other));
        let (found, _) = read(&format!("{{\"Attribute\":[{text}]}}"));
        let [entry] = found.entries.as_slice() else { panic!("{found:?}") };
        let EntryContent::Indicators(of_entry) = &entry.content else { panic!("{found:?}") };
        let prefixes: Vec<String> = of_entry.iter().map(|it| it.prefix.to_string()).collect();
        assert_eq!(prefixes, ["198.51.100.0/31", "198.51.100.2/32"]);
        assert_eq!(of_entry[0].confidence, Some(75.0));
    }
    let untyped = "{\"Attribute\":[{\"uuid\":\"a\",\"value\":\"203.0.113.1\"}]}";
    assert_eq!(read(untyped).0.rejects.malformed(), 1);
}
