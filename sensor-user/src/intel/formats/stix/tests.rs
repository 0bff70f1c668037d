//! Documents in all forms, their errors, and the entries of their objects.

use super::*;
use crate::intel::address::{Exclusion, PrefixPolicy};
use crate::intel::formats::entry::{CollectedEntries, EntryContent};
use crate::intel::indicator::{Indicator, PortRange};

pub(super) fn policy() -> ReadPolicy {
    ReadPolicy {
        prefixes: PrefixPolicy::default(),
        min_confidence: Some(40),
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
        oldest: "2026-11-10T12:00:00Z".parse().unwrap(),
    }
}

pub(super) fn read(text: &str) -> (Result<u64, ReadError>, CollectedEntries) {
    let mut found = CollectedEntries::default();
    let positions = read_stix(text.as_bytes(), &policy(), 1, &mut found);
    (positions, found)
}

pub(super) fn indicator(id: &str, rest: &str) -> String {
    format!(
        "{{\"type\":\"indicator\",\"spec_version\":\"2.1\",\"id\":\"indicator--{id}\",\
         \"created\":\"2026-11-01T00:00:00.000Z\",\"modified\":\"2026-11-02T00:00:00.123456789123Z\",\
         \"pattern_type\":\"stix\",\"pattern\":\"[ipv4-addr:value = '203.0.113.{}']\"{rest}}}",
        id.len()
    )
}

/// Id, position and outcome of each entry.
pub(super) fn outcomes(found: &CollectedEntries) -> Vec<(&str, u64, &str)> {
    let outcome = |content: &EntryContent| match content {
        EntryContent::Indicators(_) => "used",
        EntryContent::Removed(reason) => reason.name(),
    };
    found.entries.iter().map(|it| (it.id.as_str(), it.position, outcome(&it.content))).collect()
}

pub(super) fn rejected(found: &CollectedEntries) -> Vec<(u64, String)> {
    found.rejects.kept().iter().map(|it| (it.position, it.reason.to_string())).collect()
}

pub(super) fn first(found: &CollectedEntries) -> &Indicator {
    match &found.entries[0].content {
        EntryContent::Indicators(indicators) => &indicators[0],
        EntryContent::Removed(reason) => panic!("{reason}"),
    }
}

#[test]
fn the_same_objects_are_read_from_every_form() {
    let (a, b) = (indicator("a", ""), indicator("bb", ""));
    let identity = r#"{"type":"identity","id":"identity--1","name":"x \"]}","labels":7,"name":8}"#;
    for (document, positions) in [
        (format!(r#"{{"type":"bundle","id":"bundle--1","objects":[{a},{identity},{b}]}}"#), [1, 3]),
        (format!(r#"{{"objects":[{a},{identity},{b}],"more":true,"next":"]}}{{\""}}"#), [1, 3]),
        (
            format!(
                "\u{feff} {{\n \"x\" : [1, {{}}, \"objects\"],\n\"objects\" : [\n{a} ,\n{identity},{b}\n] }}\n"
            ),
            [1, 3],
        ),
        (format!("[{a},{identity},{b}]"), [1, 3]),
        (format!("{a}\n\n{identity}\r\n{b}"), [1, 4]),
        (format!("{a}\n{{\"type\":\"bundle\",\"objects\":[{identity},{b}]}}\n"), [1, 2]),
        (format!("{{\"objects\":[\n{a},\n{identity},\n{b}]}}"), [1, 3]),
    ] {
        let (read, found) = read(&document);
        assert_eq!(
            outcomes(&found),
            [("indicator--a", positions[0], "used"), ("indicator--bb", positions[1], "used")],
            "{document}"
        );
        assert_eq!(read.unwrap(), positions[1], "{document}");
        assert_eq!(rejected(&found), []);
    }
    let (behind, found) = read(&format!("{{}}{a}"));
    assert_eq!((behind.unwrap(), outcomes(&found)), (2, vec![("indicator--a", 2, "used")]));
    let (alone, found) = read(&a);
    assert_eq!((alone.unwrap(), outcomes(&found)), (1, vec![("indicator--a", 1, "used")]));
}

#[test]
fn an_empty_page_is_neither_an_error_nor_an_object() {
    for document in [
        "{}",
        " {} \n",
        "[]",
        r#"{"more":false}"#,
        r#"{"objects":[]}"#,
        r#"{"objects":null,"more":false}"#,
        r#"{"type":"bundle","id":"bundle--1"}"#,
        r#"{"type":"identity","id":"identity--1"}"#,
    ] {
        let (read, found) = read(document);
        assert_eq!(read.unwrap(), u64::from(document.contains("identity")), "{document}");
        assert_eq!((outcomes(&found), rejected(&found)), (vec![], vec![]), "{document}");
    }
}

#[test]
fn other_and_truncated_documents_are_errors() {
    let a = indicator("a", "");
    for (document, message) in [
        (String::new(), "the body is empty; check the feed's kind and URL"),
        ("<html>".to_owned(), "the body begins with \"<html>\" and is not JSON"),
        (r#"{"response":[]}"#.to_owned(), "none of the 1 objects in the body is a STIX object"),
        (
            r#"[1,{"ip":"192.0.2.1"}]"#.to_owned(),
            "none of the 2 objects in the body is a STIX object",
        ),
        ("{\"objects\":[}".to_owned(), "invalid JSON after 0 objects, at \"}\""),
        ("{objects}".to_owned(), "invalid JSON after 0 objects, at \"objects}\""),
        (format!("{{\"objects\":[{a}"), "the body ends early, after 1 objects"),
        (format!("{{\"objects\":[{a},"), "the body ends early, after 1 objects"),
        (format!("{{\"objects\":[{a}]"), "the body ends early, after 1 objects"),
        (format!("[{a},{}", a.strip_suffix('}').unwrap()), "the body ends early, after 1 objects"),
        (a.chars().take(40).collect(), "the body ends early, after 0 objects"),
        (format!("{a}\n{}", a.strip_suffix('}').unwrap()), "the body ends early, in its last line"),
    ] {
        let (read, _) = read(&document);
        let error = read.unwrap_err().to_string();
        assert!(error.starts_with(message), "{document}: {error}");
    }
}

#[test]
fn an_invalid_object_loses_only_itself() {
    let (a, b) = (indicator("a", ""), indicator("bb", ""));
    for bad in [
        "7",
        "\"}\"",
        "[{}]",
        "null",
        "{\"type\":tru}",
        "{\"type\":\"indicator\",\"id\":[]}",
        "{\"ip\":\"192.0.2.1\"}",
        &"[".repeat(100_000)
            .replace('[', "[ ")
            .chars()
            .chain("]".repeat(100_000).chars())
            .collect::<String>(),
        &indicator("x", ",\"valid_until\":\"soon\""),
        &indicator("", "").replace("indicator--", ""),
        &indicator("x", ",\"revoked\":true,\"revoked\":true"),
    ] {
        let (read, found) = read(&format!("[{a},{bad},{b}]"));
        assert_eq!(
            outcomes(&found),
            [("indicator--a", 1, "used"), ("indicator--bb", 3, "used")],
            "{bad}"
        );
        assert_eq!((read.unwrap(), found.rejects.malformed()), (3, 1), "{bad}");
        assert_eq!(found.rejects.kept()[0].position, 2);
    }
    let list = r#"["indicator","indicator--x"]"#;
    let (_, found) = read(&format!("{a}\n{list}\n{b}"));
    assert_eq!((found.entries.len(), rejected(&found).len()), (2, 1));
    let (read, found) = read(&format!("garbage\n{a}\n{{\"cut\":\n{b}\n"));
    assert_eq!(outcomes(&found), [("indicator--a", 2, "used"), ("indicator--bb", 4, "used")]);
    assert_eq!((read.unwrap(), found.rejects.malformed()), (4, 2));
}

#[test]
fn an_object_that_is_too_large_is_skipped() {
    let (a, b) = (indicator("a", ""), indicator("bb", ""));
    let large = format!("{{\"type\":\"x\",\"text\":\"{}\"}}", "}".repeat(17 << 20));
    for document in [format!("[{a},{large},{b}]"), format!("{a}\n{large}\n{b}")] {
        let (read, found) = read(&document);
        assert_eq!(outcomes(&found), [("indicator--a", 1, "used"), ("indicator--bb", 3, "used")]);
        assert_eq!(read.unwrap(), 3);
        assert_eq!(found.rejects.kept()[0].reason, RejectReason::LineTooLong);
    }
}

#[test]
fn an_unused_indicator_has_a_reason() {
    let port = "[ipv4-addr:value = '203.0.113.1' AND file:name = 'x']";
    for (rest, reason) in [
        (",\"revoked\":true", Some(RejectReason::Withdrawn)),
        (",\"indicator_types\":[\"benign\"]", Some(RejectReason::Benign)),
        (",\"labels\":\"benign\"", Some(RejectReason::Benign)),
        (",\"indicator_types\":[\"benign\",\"malicious-activity\"]", None),
        (",\"indicator_types\":[\"anonymization\"],\"labels\":[\"benign\"]", None),
        (",\"confidence\":39", Some(RejectReason::LowConfidence)),
        (",\"confidence\":\"39.5\",\"x_opencti_score\":90", Some(RejectReason::LowConfidence)),
        (",\"x_opencti_score\":10", Some(RejectReason::LowConfidence)),
        (",\"confidence\":40", None),
        (",\"confidence\":-1", None),
        (",\"valid_until\":\"2026-11-24T12:00:00.000Z\"", Some(RejectReason::Expired)),
        (",\"valid_until\":\"2026-11-24T12:00:00.001Z\"", None),
        (",\"valid_until\":null", None),
    ] {
        let (_, found) = read(&indicator("a", rest));
        let expected = reason.as_ref().map_or("used", RejectReason::name);
        assert_eq!(outcomes(&found), [("indicator--a", 1, expected)], "{rest}");
        assert_eq!(found.rejects.total(), 0);
    }
    for (from, to, reason) in [
        ("\"stix\"", "\"yara\"", RejectReason::PatternType("yara".to_owned())),
        ("[ipv4-addr:value = '203.0.113.1']", port, RejectReason::NotSufficient),
        (
            "203.0.113.1",
            "10.0.0.1",
            RejectReason::Excluded(Exclusion::Private("10.0.0.0/8".parse().unwrap())),
        ),
        (
            "[ipv4",
            "(ipv4",
            RejectReason::Pattern(
                "expected [ or (, found \"ipv4-addr:value = '2\" at byte 1".to_owned(),
            ),
        ),
    ] {
        let (_, found) = read(&indicator("a", "").replace(from, to));
        assert_eq!(found.entries[0].content, EntryContent::Removed(reason));
    }
    let (_, found) =
        read(&indicator("a", "").replace(" = '203.0.113.1'", " IN ('203.0.113.1','10.1.1.1')"));
    assert_eq!(outcomes(&found), [("indicator--a", 1, "used")]);
    assert_eq!(
        rejected(&found),
        [(1, "meets the private or special range 10.0.0.0/8; see allow_private".to_owned())]
    );
}

#[test]
fn an_indicator_has_the_properties_of_its_object() {
    let rest = ",\"name\":\"short\",\"description\":\"l\\u00f6ng \\\"x\\\"\",\"confidence\":85,\
        \"indicator_types\":[\"malicious-activity\",\"compromised\"],\"labels\":[\"l\"],\
        \"external_references\":[{\"source_name\":\"a\"},{\"source_name\":\"b\",\"url\":\"https://b.example/\"}],\
        \"valid_from\":\"2026-11-03T00:00:00+01:00\",\"valid_until\":\"2026-12-01T00:00:00.5Z\",\
        \"object_marking_refs\":[\"marking-definition--f88d31f6-486f-44da-b317-01333bde0b82\"]";
    let document = indicator("a", rest).replace(
        "[ipv4-addr:value = '203.0.113.1']",
        "[network-traffic:dst_ref.value = '203.0.113.1/24' AND network-traffic:dst_port = 443]",
    );
    let (_, found) = read(&document);
    let version = "2026-11-02T00:00:00.123456789Z".parse().ok();
    assert_eq!(found.entries[0].version, version);
    let blank = Indicator::blank("203.0.113.0/24".parse().unwrap());
    let mut expected = Indicator {
        id: "indicator--a".to_owned(),
        entity: "203.0.113.1/24".to_owned(),
        expires: "2026-12-01T00:00:00.5Z".parse().ok(),
        time_generated: version.unwrap(),
        description: "löng \"x\"".to_owned(),
        threat_type: "malicious-activity".to_owned(),
        url: "https://b.example/".to_owned(),
        confidence: Some(85.0),
        tlp_level: "amber".to_owned(),
        first_reported: "2026-11-01T00:00:00Z".parse().ok(),
        version,
        valid_from: "2026-11-02T23:00:00Z".parse().ok(),
        ..blank
    };
    expected.ports.remote = vec![PortRange { first: 443, last: 443 }];
    assert_eq!(first(&found), &expected);
    // A minimal object leaves the other fields empty.
    let least = r#"{"type":"indicator","id":"i","name":"n","labels":["l"],"pattern":"[ipv4-addr:value='203.0.113.1']"}"#;
    let (_, found) = read(least);
    let least = first(&found);
    assert_eq!((least.time_generated, least.version, least.expires), (policy().now, None, None));
    assert_eq!(
        (least.description.as_str(), least.threat_type.as_str(), least.tlp_level.as_str()),
        ("n", "l", "")
    );
}

#[test]
fn the_strictest_marking_applies_wherever_it_is_defined() {
    let marked = |id: &str, markings: &[&str]| {
        let ids: Vec<String> =
            markings.iter().map(|it| format!("\"marking-definition--{it}\"")).collect();
        indicator(id, &format!(",\"object_marking_refs\":[{}]", ids.join(",")))
    };
    let define = |id: &str, rest: &str| {
        format!("{{\"type\":\"marking-definition\",\"id\":\"marking-definition--{id}\"{rest}}}")
    };
    let green = "34098fce-860f-48ae-8e50-ebd3cc5e41da";
    let document = [
        define("early", ",\"definition_type\":\"tlp\",\"definition\":{\"tlp\":\"red\"}"),
        marked("a", &[green, "early"]),
        marked("bb", &["late", green]),
        marked("ccc", &["never", "94868c89-83c2-464b-929b-a1a8aa3c8487"]),
        indicator("dddd", ""),
        marked("eeeee", &["statement"]),
        indicator("ffffff", ",\"revoked\":true"),
        define("late", ",\"name\":\"TLP:AMBER+STRICT\""),
        define(
            "statement",
            ",\"definition_type\":\"statement\",\"definition\":{\"statement\":\"(c)\"}",
        ),
    ];
    let (read, found) = read(&format!("[{}]", document.join(",")));
    assert_eq!(read.unwrap(), 9);
    let levels: Vec<(&str, &str)> = found
        .entries
        .iter()
        .map(|it| {
            (
                it.id.as_str(),
                match &it.content {
                    EntryContent::Indicators(it) => it[0].tlp_level.as_str(),
                    EntryContent::Removed(_) => "gone",
                },
            )
        })
        .collect();
    assert_eq!(
        levels,
        [
            ("indicator--a", "red"),
            ("indicator--bb", "amber+strict"),
            ("indicator--ccc", "clear"),
            ("indicator--dddd", ""),
            ("indicator--eeeee", ""),
            ("indicator--ffffff", "gone"),
        ]
    );
}

#[test]
fn entries_wait_for_a_marking_in_bounded_number_and_in_order() {
    let marked = ",\"object_marking_refs\":[\"marking-definition--late\"]";
    let mut objects: Vec<String> =
        (0..5000).map(|at| indicator("a", marked).replace("--a", &format!("--{at}"))).collect();
    objects.push("{\"type\":\"marking-definition\",\"id\":\"marking-definition--late\",\"name\":\"TLP:RED\"}".to_owned());
    let (read, found) = read(&objects.join("\n"));
    assert_eq!(read.unwrap(), 5001);
    assert!(found.entries.iter().map(|it| it.position).eq(1..=5000));
    let red = found.entries.iter().filter(
        |it| matches!(&it.content, EntryContent::Indicators(it) if it[0].tlp_level == "red"),
    );
    assert_eq!(red.count(), 4096);
}

#[test]
fn many_indicators_of_one_object_have_short_texts() {
    let list: Vec<String> =
        (0..8192).map(|at| format!("'198.51.{}.{}'", at / 256, at % 256)).collect();
    let many = indicator("a", &format!(",\"description\":\"{}\"", "é".repeat(9000)));
    let (_, found) = read(&many.replace(" = '203.0.113.1'", &format!(" IN ({})", list.join(","))));
    let EntryContent::Indicators(indicators) = &found.entries[0].content else { panic!() };
    assert_eq!((indicators.len(), indicators[0].description.len()), (8192, 512));
    let (_, found) = read(&many);
    assert_eq!(first(&found).description.len(), 4096);
}
