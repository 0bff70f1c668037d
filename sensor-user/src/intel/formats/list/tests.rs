//! Lists in all formats, and their configuration.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;
use crate::intel::address::PrefixPolicy;
use crate::intel::formats::entry::{CollectedEntries, EntryContent};
use crate::intel::indicator::{Indicator, Ports};

pub(super) fn policy() -> ReadPolicy {
    ReadPolicy {
        prefixes: PrefixPolicy::default(),
        min_confidence: Some(50),
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
        oldest: Timestamp::MIN,
    }
}

pub(super) fn read(text: &str, format: &ListFormat) -> (CollectedEntries, Result<u64, ReadError>) {
    let mut found = CollectedEntries::default();
    let used = read_list(text.as_bytes(), format, &policy(), 1, &mut found);
    (found, used)
}

pub(super) fn ids(found: &CollectedEntries) -> Vec<&str> {
    found.entries.iter().map(|entry| entry.id.as_str()).collect()
}

pub(super) fn only(found: &CollectedEntries) -> &Indicator {
    let [entry] = found.entries.as_slice() else { panic!("{found:?}") };
    let EntryContent::Indicators(of_entry) = &entry.content else { panic!("{found:?}") };
    let [indicator] = of_entry.as_slice() else { panic!("{found:?}") };
    indicator
}

pub(super) fn rejects(found: &CollectedEntries) -> Vec<(u64, &str)> {
    found.rejects.kept().iter().map(|it| (it.position, it.reason.name())).collect()
}

pub(super) fn named(shape: &str, columns: &[(&str, &str)]) -> ListFormat {
    let columns = columns
        .iter()
        .map(|(field, name)| ((*field).to_owned(), name.split('|').map(str::to_owned).collect()));
    ListFormat::from_config(None, Some(shape), None, &columns.collect()).unwrap()
}

#[test]
fn a_list_gives_its_prefixes_and_rejects_other_lines() {
    let text = "\u{feff}# list\r\n203.0.113.7 # c2\r\n\n198.51.100.0/24;SBL1\n203.0.113.7\n\
                example.com\n10.0.0.1\n192.0.2.1-192.0.2.9\n0.0.0.0/0\n  2001:db8::7\tx\n";
    let (found, lines) = read(text, &ListFormat::default());
    assert_eq!(lines.unwrap(), 10);
    let all = found.entries.iter().flat_map(|entry| match &entry.content {
        EntryContent::Indicators(of_entry) => of_entry.as_slice(),
        EntryContent::Removed(_) => &[],
    });
    let indicators: Vec<&Indicator> = all.collect();
    let ids: Vec<&str> = indicators.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "203.0.113.7/32",
            "198.51.100.0/24",
            "203.0.113.7/32",
            "192.0.2.1/32",
            "192.0.2.2/31",
            "192.0.2.4/30",
            "192.0.2.8/31",
            "2001:db8::7/128"
        ]
    );
    assert_eq!(indicators[4].entity, "192.0.2.1-192.0.2.9");
    assert_eq!(
        rejects(&found),
        [(6, "not an address"), (7, "private or special range"), (9, "prefix too short")]
    );
    assert_eq!(found.rejects.malformed(), 1);
}

#[test]
fn a_plain_list_may_have_ports_and_netmasks() {
    let text = "203.0.113.7:443\n203.0.113.7:80\n[2001:db8::7]:80 x\n198.51.100.7/255.255.255.0\n";
    let (found, used) = read(text, &ListFormat::default());
    assert_eq!(
        ids(&found),
        ["203.0.113.7/32:443", "203.0.113.7/32:80", "2001:db8::7/128:80", "198.51.100.0/24"]
    );
    assert_eq!(used.unwrap(), 4);
    let positions: Vec<u64> = found.entries.iter().map(|entry| entry.position).collect();
    assert_eq!(positions, [1, 2, 3, 4]);
}

#[test]
fn rows_of_csv_are_read_by_the_names_of_their_header() {
    let format = named(
        "csv",
        &[
            ("address", "ip"),
            ("port", "Port"),
            ("confidence", "score"),
            ("expires", "until"),
            ("first_seen", "since"),
            ("tags", "tags"),
            ("description", "what"),
            ("url", "link"),
        ],
    );
    let text = "# a list\n# \"since\", \"ip\", \"port\", \"score\", \"until\", \"what\", \"tags\"\n\
                \"2026-11-01 00:00:00\", \"203.0.113.7\", \"443\", \"80\", \"2027-01-01\", \
                \"a \"\"c2\"\"\", \"x,y\"\n";
    let (found, used) = read(text, &format);
    let indicator = only(&found);
    assert_eq!(used.unwrap(), 3);
    assert_eq!(indicator.id, "203.0.113.7/32:443");
    assert_eq!(
        indicator.ports.remote,
        [crate::intel::indicator::PortRange { first: 443, last: 443 }]
    );
    assert_eq!(indicator.confidence, Some(80.0));
    assert_eq!(indicator.expires, "2027-01-01T00:00:00Z".parse().ok());
    assert_eq!(indicator.first_reported, "2026-11-01T00:00:00Z".parse().ok());
    assert_eq!((indicator.description.as_str(), indicator.url.as_str()), ("a \"c2\"", ""));
    assert_eq!(indicator.additional_information, "tags: x,y");
}

#[test]
fn an_invalid_row_of_csv_loses_only_itself() {
    let format = named("csv", &[("address", "ip"), ("port", "port"), ("confidence", "c")]);
    let text = "ip,port,c\n203.0.113.1,x,90\n\"203.0.113.2,1,90\n203.0.113.3,70000,90\n\
                203.0.113.4,,90\nhost,1,90\n,1,90\n203.0.113.5,0,10\n203.0.113.6,0,None\n";
    let (found, _) = read(text, &format);
    assert_eq!(ids(&found), ["203.0.113.4/32", "203.0.113.6/32"]);
    assert_eq!(
        rejects(&found),
        [
            (2, "malformed"),
            (3, "malformed"),
            (4, "malformed"),
            (6, "not an address"),
            (7, "no address"),
            (8, "low confidence"),
        ]
    );
}

#[test]
fn columns_may_be_numbers_and_a_header_is_then_left_out() {
    let mut format = named("csv", &[("address", "2"), ("prefix_len", "3")]);
    format.separator = Some('|');
    for (text, count) in
        [("n|Start|Length\n1|198.51.100.0|24\n2|2001:db8::|32\n", 2), ("1|203.0.113.7|32\n", 1)]
    {
        let (found, _) = read(text, &format);
        assert_eq!((found.entries.len(), found.rejects.total()), (count, 0), "{text}");
    }
    let (_, outcome) = read("a,b\n1,2\n", &named("csv", &[("address", "ip")]));
    let error = outcome.unwrap_err().to_string();
    assert!(error.starts_with("no header with a column ip before the row \"a,b\""), "{error}");
}

#[test]
fn objects_with_an_address_are_found_at_any_depth() {
    let format = named("json", &[("address", "ip"), ("port", "port"), ("threat_type", "t|u")]);
    let row = |ip: &str| format!("{{\"x\":[1,{{\"y\":2}}],\"ip\":\"{ip}\",\"port\":443}}");
    let (one, two) = (row("203.0.113.1"), row("203.0.113.2"));
    for document in [
        format!("[{one},{two}]"),
        format!("{{\"status\":\"ok\",\"data\":[{one},{two}],\"next\":null}}"),
        format!("{{\"7\":[{one}],\"8\":[{two}]}}"),
        format!("{{\"7\":{one},\"8\":{two}}}"),
        format!("[{{\"name\":\"n\",\"list\":[{one}]}},{{\"list\":[{two}]}}]"),
    ] {
        let (found, used) = read(&document, &format);
        assert_eq!(ids(&found), ["203.0.113.1/32:443", "203.0.113.2/32:443"], "{document}");
        assert_eq!((used.unwrap(), found.rejects.total()), (2, 0), "{document}");
    }
    let (found, _) = read("[{\"ip\":\"203.0.113.1\",\"u\":\"later\",\"t\":\"first\"}]", &format);
    assert_eq!(only(&found).threat_type, "first");
}

#[test]
fn other_json_differs_from_an_empty_list() {
    let format = named("json", &[("address", "ip")]);
    for (document, error) in [
        ("[]", None),
        ("{}", None),
        ("{\"data\":[]}", None),
        ("{\"error\":\"bad key\"}", Some("it is \"error: bad key\"")),
        ("\"x\"", Some("the body is not a list in JSON: it is \"x\"")),
        ("<html>", Some("the body is not a list in JSON: expected value")),
        ("[{\"ip\":\"203.0.113.1\"}", Some("ends early, at line 1 column 21")),
        ("", Some("ends early")),
        ("[]]", Some("the body is not a list in JSON: trailing characters")),
    ] {
        let (_, outcome) = read(document, &format);
        match (outcome, error) {
            (Ok(0), None) => {}
            (Err(error), Some(part)) if error.to_string().contains(part) => {}
            other => panic!("{document}: {other:?}"),
        }
    }
    let (found, used) = read("[1,\"x\",{\"ip\":7},{\"host\":\"a\"},[[]]]", &format);
    assert_eq!(
        rejects(&found),
        [(1, "not an address"), (2, "not an address"), (3, "not an address"), (1, "no address")]
    );
    assert_eq!(used.unwrap(), 4);
    let (_, deep) = read(&"[".repeat(100_000), &format);
    assert!(deep.unwrap_err().to_string().contains("recursion limit"));
}

#[test]
fn an_invalid_line_of_json_loses_only_itself() {
    let format = named("jsonl", &[("address", "ip")]);
    let (found, used) = read(
        "{\"ip\":\"203.0.113.1\"}\n{\"ip\":\n\n{\"host\":1}\n{\"ip\":\"203.0.113.2\"}",
        &format,
    );
    assert_eq!(ids(&found), ["203.0.113.1/32", "203.0.113.2/32"]);
    assert_eq!(rejects(&found), [(2, "malformed"), (4, "no address")]);
    assert_eq!(used.unwrap(), 5);
    let (_, cut) = read("{\"ip\":\"203.0.113.1\"}\n{\"ip\":\"203.0", &format);
    assert!(matches!(cut, Err(ReadError::Truncated(_))), "{cut:?}");
}

#[test]
fn an_entry_with_an_id_of_its_own_that_ended_is_gone_others_are_left_out() {
    let rows = "[{\"ip\":\"203.0.113.1\",\"id\":7,\"to\":\"2026-11-24T12:00:00Z\"}]";
    let with_id = named("json", &[("address", "ip"), ("expires", "to"), ("id", "id")]);
    let (found, _) = read(rows, &with_id);
    assert_eq!(ids(&found), ["7"]);
    assert_eq!(
        found.entries[0].content,
        EntryContent::Removed(crate::intel::rejects::RejectReason::Expired)
    );
    let (found, _) = read(rows, &named("json", &[("address", "ip"), ("expires", "to")]));
    assert_eq!(rejects(&found), [(1, "expired")]);
}

#[test]
fn the_configuration_gives_a_format_or_an_error() {
    let columns =
        |field: &str, name: &str| BTreeMap::from([(field.to_owned(), vec![name.to_owned()])]);
    let none = BTreeMap::new();
    let csv = Some("csv");
    for (format, message) in [
        (ListFormat::from_config(Some("feodoo"), None, None, &none), "there is no \"feodoo\""),
        (ListFormat::from_config(None, Some("xml"), None, &none), "there is no \"xml\""),
        (ListFormat::from_config(None, csv, None, &columns("ip", "a")), "there is no \"ip\""),
        (ListFormat::from_config(None, csv, None, &none), "address is missing"),
        (ListFormat::from_config(None, csv, None, &columns("address", "0")), "address: name"),
        (ListFormat::from_config(None, None, None, &columns("address", "1")), "a plain list"),
        (ListFormat::from_config(Some("feodo"), None, Some(';'), &none), "only"),
    ] {
        let error = format.unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    let changed =
        ListFormat::from_config(Some("feodo"), None, None, &columns("id", "key")).unwrap();
    assert_eq!(changed.columns.get(ListField::Id), ["key"]);
    assert_eq!(changed.columns.get(ListField::Port), ["port", "dst_port"]);
    for name in PRESETS {
        assert!(preset(name).is_some(), "{name}");
    }
    assert_eq!(ListFormat::from_config(None, None, None, &none), Ok(ListFormat::default()));
    assert!(Ports::default().is_any());
}
