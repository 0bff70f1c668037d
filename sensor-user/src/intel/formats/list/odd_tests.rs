//! Lists as producers really write them: several addresses together, ranges, other line endings,
//! byte order marks, cut texts. Each address counts, or is rejected with its reason.

use super::tests::{ids, named, only, policy, read, rejects};
use super::*;
use crate::intel::formats::entry::{CollectedEntries, EntryContent};

fn plain(text: &str) -> CollectedEntries {
    read(text, &ListFormat::default()).0
}

#[test]
fn every_network_of_a_range_has_the_properties_of_its_row() {
    let columns = [("address", "ip"), ("confidence", "c"), ("description", "d"), ("port", "p")];
    let csv = "ip,c,d,p\n192.0.2.1 - 192.0.2.4,90,x,443\n";
    let json = "[{\"ip\":\"192.0.2.1-192.0.2.4\",\"c\":90,\"d\":\"x\",\"p\":443}]";
    for (shape, text) in [("csv", csv), ("json", json), ("jsonl", json)] {
        let (found, _) = read(text, &named(shape, &columns));
        assert_eq!(
            ids(&found),
            ["192.0.2.1/32:443", "192.0.2.2/31:443", "192.0.2.4/32:443"],
            "{shape}"
        );
        for entry in &found.entries {
            let EntryContent::Indicators(of_entry) = &entry.content else { panic!("{found:?}") };
            let [it] = of_entry.as_slice() else { panic!("{found:?}") };
            assert_eq!((it.confidence, it.description.as_str()), (Some(90.0), "x"));
            assert!(it.entity.starts_with("192.0.2.1") && it.ports.remote[0].first == 443);
        }
    }
    // With an id, the range is one entry.
    let with_id = named("json", &[("address", "ip"), ("id", "id")]);
    let (found, _) = read("[{\"ip\":\"192.0.2.0-192.0.2.2\",\"id\":7}]", &with_id);
    assert_eq!(ids(&found), ["7"]);
    let EntryContent::Indicators(of_entry) = &found.entries[0].content else { panic!("{found:?}") };
    assert_eq!(of_entry.len(), 2);
}

#[test]
fn the_last_address_of_a_range_may_be_in_its_own_column() {
    let format = named("csv", &[("address", "first"), ("last_address", "last")]);
    let text = "first,last,n\n192.0.2.0,192.0.2.255,a\n198.51.100.7,,b\n\
                203.0.113.9,203.0.113.1,c\n203.0.113.5,203.0.113.5,d\n";
    let (found, _) = read(text, &format);
    assert_eq!(ids(&found), ["192.0.2.0/24", "198.51.100.7/32", "203.0.113.5/32"]);
    assert_eq!(rejects(&found), [(4, "malformed")]);
}

#[test]
fn a_range_that_is_too_wide_is_no_set_of_smaller_networks() {
    let found = plain("1.0.0.0-223.255.255.255\n9.255.255.0-10.0.0.255\n2000::-2fff:ffff::\n");
    assert_eq!(ids(&found), ["9.255.255.0/24"]);
    assert_eq!(
        rejects(&found),
        [(1, "prefix too short"), (2, "private or special range"), (3, "prefix too short")]
    );
}

#[test]
fn nothing_of_a_line_is_passed_over() {
    let found = plain(
        "192.0.2.7 203.0.113.9\n192.0.2.8 seen with 198.51.100.1\nmail.example 198.51.100.2\n\
         192.0.2.20 192.0.2.30\n192.0.2.9 # 198.51.100.3\n192.0.2.10\t12\t2026-11-24 10:00:00\n",
    );
    assert_eq!(
        ids(&found),
        ["192.0.2.7/32", "203.0.113.9/32", "192.0.2.8/32", "192.0.2.9/32", "192.0.2.10/32"]
    );
    assert_eq!(
        rejects(&found),
        [
            (2, "address in a text"),
            (3, "not an address"),
            (3, "address in a text"),
            (4, "address range")
        ]
    );
}

#[test]
fn lines_end_as_on_any_system() {
    let expected = ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"];
    for end in ["\n", "\r\n", "\r", "\u{85}", "\u{2028}", "\u{2029}", "\u{c}", "\u{b}"] {
        let text = ["# a list", "192.0.2.1 # one", "192.0.2.2", "192.0.2.3"].join(end);
        assert_eq!(ids(&plain(&text)), expected, "{end:?}");
        let text = ["ip,n", "192.0.2.1,a", "192.0.2.2,b", "192.0.2.3,c"].join(end);
        let (found, _) = read(&text, &named("csv", &[("address", "ip")]));
        assert_eq!(ids(&found), expected, "{end:?}");
    }
    let found = plain("192.0.2.1\r# 192.0.2.9\r192.0.2.2\rx");
    assert_eq!(
        (ids(&found), rejects(&found)),
        (expected[..2].to_vec(), vec![(4, "not an address")])
    );
    let rows = "{\"ip\":\"192.0.2.1\"}\r{\"ip\":\"192.0.2.2\"}\r{\"ip\":\"192.0.2.3\"}";
    assert_eq!(ids(&read(rows, &named("jsonl", &[("address", "ip")])).0), expected);
    // A separator of Unicode inside quotes is text.
    let quoted = "ip,n\n192.0.2.1,\"a\u{2028}b\"\n";
    let (found, _) = read(quoted, &named("csv", &[("address", "ip")]));
    assert_eq!((ids(&found), rejects(&found)), (vec!["192.0.2.1/32"], vec![]));
}

#[test]
fn addresses_in_json_are_found_in_arrays_and_as_texts() {
    let format = named("json", &[("address", "ip|ips"), ("description", "n")]);
    for (document, expected) in [
        ("[{\"ip\":[\"192.0.2.1\",\"2001:db8::1\"]}]", &["192.0.2.1/32", "2001:db8::1/128"][..]),
        ("{\"ips\":[\"192.0.2.1\",\"192.0.2.2\"]}", &["192.0.2.1/32", "192.0.2.2/32"]),
        ("[\"192.0.2.1\",\"192.0.2.2\"]", &["192.0.2.1/32", "192.0.2.2/32"]),
        ("[[\"192.0.2.1\"],[\"192.0.2.2\"]]", &["192.0.2.1/32", "192.0.2.2/32"]),
        ("{\"ips\":{\"0\":\"192.0.2.1\",\"2\":\"192.0.2.2\"}}", &["192.0.2.1/32", "192.0.2.2/32"]),
        (
            "{\"ips\":[{\"ip\":\"192.0.2.1\"},{\"ip\":[\"192.0.2.2\"]}]}",
            &["192.0.2.1/32", "192.0.2.2/32"],
        ),
        ("{\"a\":{\"ip\":\"192.0.2.1, 192.0.2.2\"}}", &["192.0.2.1/32", "192.0.2.2/32"]),
        ("[{\"ip\":null,\"ips\":[\"192.0.2.1\"]}]", &["192.0.2.1/32"]),
        // Other arrays of an entry are its properties.
        ("[{\"dns\":[\"203.0.113.53\"],\"ip\":\"192.0.2.1\",\"n\":[\"a\"]}]", &["192.0.2.1/32"]),
    ] {
        let (found, used) = read(document, &format);
        assert_eq!((ids(&found), rejects(&found)), (expected.to_vec(), vec![]), "{document}");
        assert!(used.is_ok(), "{document}");
    }
    let (found, _) = read("[{\"ip\":[\"192.0.2.1\",\"x\",\"10.0.0.1\"],\"n\":\"d\"}]", &format);
    assert_eq!(only(&found).description, "d");
    assert_eq!(rejects(&found), [(1, "not an address"), (1, "private or special range")]);
    let lines = "\"192.0.2.1\"\n[\"192.0.2.2\",\"x\"]\n17\n";
    let (found, _) = read(lines, &named("jsonl", &[("address", "ip")]));
    assert_eq!(ids(&found), ["192.0.2.1/32", "192.0.2.2/32"]);
    assert_eq!(rejects(&found), [(2, "not an address"), (3, "not an address")]);
}

#[test]
fn a_long_array_of_addresses_is_read_in_parts() {
    let texts: Vec<String> = (0..70_000)
        .map(|at| format!("\"198.{}.{}.{}\"", 18 + at / 65_536, at / 256 % 256, at % 256))
        .collect();
    let document = format!("{{\"id\":\"a\",\"ip\":[{}],\"n\":\"late\"}}", texts.join(","));
    let (found, _) = read(&document, &named("json", &[("address", "ip"), ("id", "id")]));
    let count = |entry: &crate::intel::formats::entry::FeedEntry| match &entry.content {
        EntryContent::Indicators(of_entry) => of_entry.len(),
        EntryContent::Removed(_) => 0,
    };
    assert_eq!(ids(&found), ["a/0", "a"]);
    assert_eq!(found.entries.iter().map(count).collect::<Vec<_>>(), [65_536, 70_000 - 65_536]);
}

#[test]
fn a_document_with_texts_that_are_no_entries_is_refused_and_an_empty_list_is_not() {
    let format = named("json", &[("address", "ip")]);
    for (document, is_refused) in [
        ("{\"data\":[\"192.0.2.1\",\"192.0.2.2\"]}", true),
        ("{\"data\":[1,2]}", true),
        ("{\"sources\":[\"a\"],\"data\":[]}", false),
        ("{\"data\":[]}", false),
        ("{\"meta\":{\"generated\":\"2026-11-24\"},\"data\":[]}", false),
        ("[]", false),
        ("[[]]", false),
    ] {
        let (found, outcome) = read(document, &format);
        assert_eq!(outcome.is_err(), is_refused, "{document}");
        assert!(found.entries.is_empty() && found.rejects.total() == 0, "{document}");
    }
    // Objects of a list in which the address is elsewhere are counted.
    let (found, _) = read("{\"data\":[{\"host\":\"a\",\"tags\":[\"b\"]}]}", &format);
    assert_eq!(rejects(&found), [(1, "no address")]);
    let (_, outcome) = read("{\"data\":[\"192.0.2.1\"]}", &format);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("it is \"data: 192.0.2.1\""), "{error}");
}

#[test]
fn a_mark_or_a_cut_text_costs_nothing() {
    let columns = [("address", "ip"), ("description", "n"), ("confidence", "c")];
    let entry = "{\"ip\":\"192.0.2.1\",\"n\":\"x \\ud83d\",\"unread\":\"\\udc00\"}";
    let second = "{\"ip\":\"192.0.2.2\",\"n\":[1],\"c\":\"High\"}";
    for (shape, text) in [
        ("json", format!("\u{feff} [{entry},{second}]")),
        ("jsonl", format!("\u{feff}{entry}\n\u{feff}{second}\n")),
    ] {
        let (found, used) = read(&text, &named(shape, &columns));
        assert_eq!(ids(&found), ["192.0.2.1/32", "192.0.2.2/32"], "{shape}");
        let EntryContent::Indicators(first) = &found.entries[0].content else {
            panic!("{found:?}")
        };
        assert_eq!(first[0].description, "x \u{fffd}", "{shape}");
        // A confidence in words is not known, and counted without being a reject.
        assert_eq!(rejects(&found), [(2, "property not used")], "{shape}");
        assert_eq!((found.rejects.total(), found.rejects.properties()), (0, 1), "{shape}");
        used.unwrap();
    }
    let latin = [b"[{\"ip\":\"192.0.2.1\",\"n\":\"caf".as_slice(), b"\xe9", b"\"}]"].concat();
    let mut found = CollectedEntries::default();
    read_list(&*latin, &named("json", &columns), &policy(), 1, &mut found).unwrap();
    assert_eq!(only(&found).description, "caf?");
}
