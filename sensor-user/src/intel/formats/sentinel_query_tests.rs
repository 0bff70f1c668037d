//! Pages of a workspace.

use super::*;
use crate::intel::address::PrefixPolicy;
use crate::intel::formats::entry::CollectedEntries;

fn read(text: &str) -> (CollectedEntries, Result<u64, ReadError>) {
    let policy = ReadPolicy {
        prefixes: PrefixPolicy::default(),
        min_confidence: Some(30),
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
        oldest: jiff::Timestamp::MIN,
    };
    let mut found = CollectedEntries::default();
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
            EntryContent::Indicators(of_item) => (entry.id.as_str(), of_item[0].entity.as_str()),
            EntryContent::Removed(reason) => (entry.id.as_str(), reason.name()),
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
    let EntryContent::Indicators(of_a) = &found.entries[0].content else { panic!("{found:?}") };
    assert_eq!(found.entries[0].version, "2026-11-20T00:00:00.7654321Z".parse().ok());
    assert_eq!(of_a[0].time_generated, "2026-11-20T00:00:00.7654321Z".parse().unwrap());
    assert_eq!(of_a[0].first_reported, "2026-11-01T00:00:00.1234567Z".parse().ok());
    assert_eq!((&*of_a[0].threat_type, &*of_a[0].description), ("botnet", "d"));
    assert_eq!(of_a[0].confidence, Some(78.0));
    let rejects: Vec<(u64, &str)> =
        found.rejects.kept().iter().map(|it| (it.position, it.reason.name())).collect();
    assert_eq!(rejects, [(5, "private or special range"), (12, "malformed"), (13, "malformed")]);
}

#[test]
fn each_address_of_an_item_is_used_or_has_a_reason() {
    let parsed = |values: &str| {
        format!(
            ",\"parsedPattern\":[{{\"patternTypeKey\":\"ipv4-addr\",\"patternTypeValues\":[{values}]}}]"
        )
    };
    let values = ["'203.0.113.4-203.0.113.7'", "203.0.113.x", "10.0.0.1"]
        .map(|value| format!("{{\"value\":\"{value}\"}}"));
    for rest in [
        parsed(&values.join(",")),
        ",\"pattern\":\"[ipv4-addr:value IN ('203.0.113.4-203.0.113.7', '203.0.113.x', '10.0.0.1')]\""
            .to_owned(),
    ] {
        let (found, read) = read(&format!("{{\"value\":[{}]}}", item("a", &rest)));
        assert_eq!(read.unwrap(), 1);
        let EntryContent::Indicators(of_item) = &found.entries[0].content else {
            panic!("{found:?}")
        };
        assert_eq!(of_item.len(), 1);
        assert_eq!(of_item[0].prefix.to_string(), "203.0.113.4/30");
        let reasons: Vec<&str> = found.rejects.kept().iter().map(|it| it.reason.name()).collect();
        assert_eq!(reasons, ["private or special range", "pattern cannot be read"], "{rest}");
    }
}

#[test]
fn an_error_is_reported() {
    let (_, refused) = read("{\"error\":{\"code\":\"AuthorizationFailed\",\"message\":\"no\"}}");
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("code: AuthorizationFailed; message: no"), "{error}");
    assert_eq!(read("{\"value\":[]}").1.unwrap(), 0);
    assert!(matches!(read("[]").1, Err(ReadError::Format(_))));
}

#[test]
fn a_property_of_another_type_costs_only_itself() {
    let pattern = ",\"pattern\":\"[ipv4-addr:value = '203.0.113.1']\"";
    for rest in [
        ",\"confidence\":\"High\"",
        ",\"confidence\":false",
        ",\"confidence\":250",
        ",\"confidence\":\"x\",\"parsedPattern\":\"x\",\"threatTypes\":7,\"description\":\"\\ud83d\"",
    ] {
        let page =
            format!("\u{feff}{{\"value\":{{\"3\":{}}}}}", item("a", &format!("{pattern}{rest}")));
        let (found, read) = read(&page);
        assert!(matches!(found.entries[0].content, EntryContent::Indicators(_)), "{rest}");
        assert_eq!((found.rejects.properties(), found.rejects.total()), (1, 0), "{rest}");
        assert_eq!(read.unwrap(), 1);
    }
    read("{\"value\":\"none\"}").1.unwrap_err();
}
