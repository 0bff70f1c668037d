//! Documents and objects as producers really write them.

use super::tests::{first, indicator, outcomes, policy, read, rejected};
use super::*;
use crate::intel::formats::entry::{CollectedEntries, EntryContent};

const USED: [&str; 2] = ["indicator--a", "indicator--bb"];

fn used(found: &CollectedEntries) -> Vec<&str> {
    found.entries.iter().map(|entry| entry.id.as_str()).collect()
}

fn bundle(objects: &[&str]) -> String {
    let objects = objects.join(",\n");
    format!("{{\n\"type\": \"bundle\",\n\"id\": \"bundle--1\",\n\"objects\": [\n{objects}\n]\n}}")
}

#[test]
fn bundles_are_read_wherever_they_stand() {
    let (a, b) = (indicator("a", ""), indicator("bb", ""));
    let (of_a, of_b) = (bundle(&[&a]), bundle(&[&b]));
    let flat = |text: &str| text.replace('\n', "");
    let nested = |depth: usize| (0..depth).fold(of_b.clone(), |inner, _| bundle(&[&inner]));
    for document in [
        format!("[{of_a},{of_b}]"),
        format!("{of_a}\n{of_b}\n"),
        format!("{of_a}{of_b}"),
        format!("{}{}", flat(&of_a), flat(&of_b)),
        format!("{}\r{}", flat(&of_a), flat(&of_b)),
        format!("{}\n{}\n", flat(&of_a), flat(&of_b)),
        format!("\u{feff}{of_a}\n\u{feff}{of_b}"),
        format!("[{a}]\n[{b}]"),
        bundle(&[&a, &of_b]),
        bundle(&[&a, &nested(2)]),
        format!("{{\"objects\":{{\"0\":{a},\"7\":{b}}}}}"),
        format!("{{\"type\":\"bundle\",\"objects\":{{\"0\":{of_a},\"2\":{b}}}}}"),
    ] {
        let (outcome, found) = read(&document);
        assert_eq!((used(&found), rejected(&found).len()), (USED.to_vec(), 0), "{document}");
        assert!(outcome.is_ok(), "{document}");
    }
    let (_, found) = read(&bundle(&[&a, &nested(9)]));
    assert_eq!((used(&found), found.rejects.malformed()), (vec!["indicator--a"], 1));
    for document in ["{\"type\":\"bundle\",\"objects\":7}", "{\"objects\":\"x\"}"] {
        let error = read(document).0.unwrap_err().to_string();
        assert!(error.starts_with("none of the 1 objects"), "{document}: {error}");
    }
    // A bundle without objects is empty, also among others.
    for document in ["{\"type\":\"bundle\",\"id\":\"b\"}", "{\"objects\":[]}", "[]", "{}"] {
        let (outcome, found) = read(document);
        assert_eq!((outcome.unwrap(), found.rejects.total()), (0, 0), "{document}");
    }
}

#[test]
fn a_property_of_another_type_costs_only_itself() {
    for (rest, property) in [
        (",\"x_opencti_score\":false", Some("x_opencti_score")),
        (",\"confidence\":\"High\"", Some("confidence")),
        (",\"confidence\":250", Some("confidence")),
        (",\"confidence\":\"85%\"", None),
        (",\"confidence\":\"None\"", None),
        (",\"confidence\":{\"value\":85}", Some("confidence")),
        (",\"name\":42,\"description\":[\"a\",1]", None),
        (",\"revoked\":\"no\"", None),
        (",\"revoked\":\"perhaps\"", Some("revoked")),
        (",\"revoked\":[]", Some("revoked")),
        (",\"valid_from\":false", Some("valid_from")),
        (",\"valid_until\":\"None\"", None),
        (",\"labels\":7,\"indicator_types\":{\"a\":1},\"kill_chain_phases\":\"x\"", None),
        (",\"object_marking_refs\":false,\"external_references\":\"x\"", None),
        (",\"name\":\"\\ud83d\",\"x\":\"\\ude00\"", None),
    ] {
        let (_, found) = read(&indicator("a", rest));
        assert_eq!(outcomes(&found), [("indicator--a", 1, "used")], "{rest}");
        let unused: Vec<&RejectReason> = found.rejects.kept().iter().map(|it| &it.reason).collect();
        let expected = property.map(|it| RejectReason::PropertyUnused(it.to_owned()));
        assert_eq!(unused, expected.iter().collect::<Vec<_>>(), "{rest}");
        assert_eq!(found.rejects.total(), 0, "{rest}");
    }
    let (_, found) = read(&indicator("a", ",\"confidence\":\"High\",\"x_opencti_score\":60"));
    assert_eq!(first(&found).confidence, Some(60.0));
    let (_, found) = read(&indicator("a", ",\"valid_until\":1798761600"));
    assert_eq!(first(&found).expires, "2027-01-01T00:00:00Z".parse().ok());
    let created = indicator("a", "").replace("\"2026-11-01T00:00:00.000Z\"", "\"yesterday\"");
    assert_eq!(first(&read(&created).1).version, "2026-11-02T00:00:00.123456789Z".parse().ok());
}

#[test]
fn each_address_of_a_pattern_is_used_or_has_a_reason() {
    let own = "[ipv4-addr:value = '203.0.113.1']";
    for (pattern, prefixes, reasons) in [
        (
            "[ipv4-addr:value IN ('203.0.113.1', '203.0.113.1.2')]",
            1,
            &["pattern cannot be read"][..],
        ),
        (
            "[ipv4-addr:value = '203.0.113.1' OR ipv4-addr:value = ' ']",
            1,
            &["pattern cannot be read"],
        ),
        (
            "[ipv4-addr:value = '203.0.113.1-203.0.113.4' OR ipv6-addr:value = 'fe80::1']",
            3,
            &["private or special range"],
        ),
    ] {
        let (_, found) = read(&indicator("a", "").replace(own, pattern));
        let EntryContent::Indicators(used) = &found.entries[0].content else { panic!("{pattern}") };
        assert_eq!(used.len(), prefixes, "{pattern}");
        let counted: Vec<&str> = found.rejects.kept().iter().map(|it| it.reason.name()).collect();
        assert_eq!(counted, reasons, "{pattern}");
        assert_eq!(found.rejects.total(), 1, "{pattern}");
    }
}

#[test]
fn the_labels_of_misp_are_no_threat_type_and_its_addresses_are_alternatives() {
    let exported = ",\"labels\":[\"misp:type=\\\"ip-dst\\\"\",\"misp:category=\\\"x\\\"\"],\
        \"kill_chain_phases\":[{\"kill_chain_name\":\"other\",\"phase_name\":\"no\"},\
        {\"kill_chain_name\":\"misp-category\",\"phase_name\":\"Network activity\"}]";
    assert_eq!(first(&read(&indicator("a", exported)).1).threat_type, "Network activity");
    let mixed = ",\"labels\":[\"misp:to_ids=\\\"true\\\"\",\"botnet\"]";
    assert_eq!(first(&read(&indicator("a", mixed)).1).threat_type, "botnet");
    let benign = ",\"labels\":[\"misp:x\",\"benign\"]";
    assert_eq!(outcomes(&read(&indicator("a", benign)).1), [("indicator--a", 1, "benign")]);

    let both = "[network-traffic:dst_ref.value = '203.0.113.20' AND \
                network-traffic:dst_ref.value = '203.0.113.21' AND network-traffic:dst_port = '80']";
    let object = |labels: &str| {
        let text = indicator("a", &format!(",\"labels\":[{labels}]"));
        let (_, found) = read(&text.replace("[ipv4-addr:value = '203.0.113.1']", both));
        found.entries.into_iter().next().unwrap().content
    };
    let EntryContent::Indicators(found) = object("\"misp:name=\\\"ip-port\\\"\"") else { panic!() };
    let prefixes: Vec<String> = found.iter().map(|it| it.prefix.to_string()).collect();
    assert_eq!(prefixes, ["203.0.113.20/32", "203.0.113.21/32"]);
    assert!(found.iter().all(|it| it.ports.remote[0].first == 80));
    let other = object("\"misp:name=\\\"network-connection\\\"\"");
    assert_eq!(other, EntryContent::Removed(RejectReason::NotSufficient));
    assert_eq!(policy().min_confidence, Some(40));
}
