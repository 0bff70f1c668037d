//! Each format is one line that its readers parse, whatever text an alert contains.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::Format;
use crate::deliver::item::Item;
use crate::pipeline::dedup::{Alert, AlertKind, RULE_ID};
use crate::schema::{ConnectionRow, TableRow};

fn alert() -> Alert {
    Alert {
        description: "a | b = c \\ d".to_owned(),
        computer: "web01.example.net".to_owned(),
        dns_domain: "example.net".to_owned(),
        alert_id: "0123456789abcdef0123456789abcdef".to_owned(),
        rule_id: RULE_ID.to_owned(),
        rule_name: "TI Map IP Entity".to_owned(),
        tactics: vec!["CommandAndControl".to_owned()],
        techniques: vec!["T1071".to_owned()],
        tlp_level: "Amber".to_owned(),
        last_seen: "2026-11-24T10:00:00.123456Z".parse().unwrap(),
        bytes_sent: 10,
        bytes_received: 20,
        command_line: "curl -H a=b\nc".to_owned(),
        user_name: "root".to_owned(),
        parent_process_name: "bash".to_owned(),
        remote_dns_questions: "[\"c2.example\"]".to_owned(),
        ..Alert::sample()
    }
}

fn line(format: Format, alert: &Alert) -> String {
    format.line(&Item::Alert(Arc::new(alert.clone())))
}

/// Returns the seven fields of the header and the pairs, as a reader of the format parses them.
fn read_cef(line: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let mut header = vec![String::new()];
    let mut characters = line.chars();
    while header.len() < 8 {
        match characters.next().expect("a whole header") {
            '|' => header.push(String::new()),
            '\\' => header.last_mut().unwrap().push(characters.next().unwrap()),
            other => header.last_mut().unwrap().push(other),
        }
    }
    header.pop();
    let extension: String = characters.collect();
    // A key is before each `=` that is not escaped, after a space or at the beginning.
    let (mut pairs, mut escaped, mut keys) = (BTreeMap::new(), false, Vec::new());
    for (at, character) in extension.char_indices() {
        if character == '=' && !escaped {
            keys.push((extension.get(..at).unwrap().rfind(' ').map_or(0, |space| space + 1), at));
        }
        escaped = character == '\\' && !escaped;
    }
    for (index, (from, to)) in keys.iter().enumerate() {
        let end = keys.get(index + 1).map_or(extension.len(), |(next, _)| next - 1);
        let mut value = String::new();
        let mut rest = extension.get(to + 1..end).unwrap().chars();
        while let Some(character) = rest.next() {
            match character {
                '\\' => match rest.next().unwrap() {
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    other @ ('\\' | '=') => value.push(other),
                    other => panic!("escaped {other:?} in {line}"),
                },
                other => value.push(other),
            }
        }
        let key = extension.get(*from..*to).unwrap().to_owned();
        assert!(pairs.insert(key.clone(), value).is_none(), "{key} twice: {line}");
    }
    (header, pairs)
}

#[test]
fn cef_is_read_back_as_it_was() {
    let (header, pairs) = read_cef(&line(Format::Cef, &alert()));
    let version = env!("CARGO_PKG_VERSION");
    let id = "9713e3c0-1410-468d-b79e-383448434b2d";
    assert_eq!(
        header,
        ["CEF:0", "netsensor", "netsensor", version, id, "TI Map IP Entity", "5"],
        "{header:?}"
    );
    for (key, value) in [
        ("externalId", "0123456789abcdef0123456789abcdef"),
        ("rt", "1795514400123"),
        ("dvchost", "web01.example.net"),
        ("type", "0"),
        ("deviceDirection", "1"),
        ("proto", "TCP"),
        ("src", "10.0.0.5"),
        ("spt", "43210"),
        ("dst", "203.0.113.7"),
        ("dpt", "443"),
        ("in", "20"),
        ("out", "10"),
        ("cnt", "1"),
        ("sproc", "curl"),
        ("spid", "4711"),
        ("suser", "root"),
        ("dhost", "c2.example"),
        ("msg", "a | b = c \\ d"),
        ("cs5", "curl -H a=b\nc"),
        ("cs5Label", "CommandLine"),
        ("cn1", "80"),
    ] {
        assert_eq!(pairs.get(key).map(String::as_str), Some(value), "{key}");
    }
}

#[test]
fn cef_has_separate_fields_for_ipv6_addresses_and_the_accepting_process() {
    let mut alert = alert();
    alert.alert_kind = AlertKind::Summary;
    alert.direction = "inbound".into();
    alert.source_ip = "2001:db8::7".into();
    alert.destination_ip = "2001:db8::5".into();
    alert.severity = "High".into();
    let (header, pairs) = read_cef(&line(Format::Cef, &alert));
    assert_eq!(header[6], "8");
    for (key, value) in [
        ("c6a2", "2001:db8::7"),
        ("c6a2Label", "Source IPv6 Address"),
        ("c6a3", "2001:db8::5"),
        ("dproc", "curl"),
        ("dpid", "4711"),
        ("shost", "c2.example"),
        ("deviceDirection", "0"),
        ("type", "1"),
    ] {
        assert_eq!(pairs.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(!pairs.contains_key("src") && !pairs.contains_key("dst"), "{pairs:?}");
}

#[test]
fn ten_thousand_names_and_long_text_stay_bounded() {
    let mut alert = alert();
    let names: Vec<String> = (0..10_000).map(|name| format!("n{name}.example")).collect();
    alert.remote_dns_questions = serde_json::to_string(&names).unwrap();
    alert.command_line = "=".repeat(1 << 20);
    alert.rule_name = "|".repeat(1 << 20);
    let cef = line(Format::Cef, &alert);
    assert!(cef.len() < 16 << 10, "{}", cef.len());
    let (header, pairs) = read_cef(&cef);
    assert_eq!((header[5].len(), pairs["cs5"].len()), (512, 4000));
    let ecs: Value = serde_json::from_str(&line(Format::Ecs, &alert)).unwrap();
    assert_eq!(ecs["related"]["hosts"].as_array().unwrap().len(), 64);
    assert_eq!(ecs["destination"]["domain"], "n0.example");
}

#[test]
fn rows_stay_native_in_cef() {
    let item = Item::Row(Arc::new(TableRow::Connection(Box::<ConnectionRow>::default())));
    assert_eq!(Format::Cef.line(&item), Format::Native.line(&item));
}

#[test]
fn configuration_words_cover_all_formats() {
    assert_eq!(Format::ALL.map(Format::as_str), Format::WORDS);
}

/// Text that an attacker may choose: names of processes and hosts.
fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("|".to_owned()),
        Just("=".to_owned()),
        Just("\\".to_owned()),
        Just(" cs1=".to_owned()),
        Just("\0\u{1b}[31m\u{7f}\u{9b}".to_owned()),
        Just("\u{202e}\u{2028}".to_owned()),
        any::<String>(),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn hostile_text_breaks_no_format(
        name in hostile(), command in hostile(), rule in hostile(), about in hostile(),
        computer in hostile(), address in hostile(), questions in hostile(),
    ) {
        let mut alert = alert();
        alert.process_name.clone_from(&name);
        alert.command_line.clone_from(&command);
        alert.rule_name = rule;
        alert.description.clone_from(&about);
        alert.computer = computer;
        alert.source_ip.clone_from(&address);
        alert.matched_prefix = address;
        alert.remote_dns_questions = serde_json::to_string(&[questions]).unwrap();
        let cef = line(Format::Cef, &alert);
        prop_assert!(!cef.chars().any(char::is_control), "{cef:?}");
        let (header, pairs) = read_cef(&cef);
        prop_assert_eq!(header.len(), 7);
        prop_assert_eq!(&pairs["externalId"], &alert.alert_id);
        prop_assert_eq!(&pairs["cs1"], "i");
        let plain = |text: &str| text.chars().all(|c| matches!(c, '\n' | '\r' | ' '..='~'));
        if plain(&command) && !command.is_empty() {
            prop_assert_eq!(&pairs["cs5"], &command);
        }
        for format in [Format::Native, Format::Ecs, Format::Ocsf] {
            let text = line(format, &alert);
            prop_assert!(!text.contains(['\n', '\r']), "{text:?}");
            let document: Value = serde_json::from_str(&text).unwrap();
            let shown = match format {
                Format::Ecs => &document["process"]["command_line"],
                Format::Ocsf => &document["evidences"][0]["process"]["cmd_line"],
                Format::Native | Format::Cef => &document["CommandLine"],
            };
            prop_assert_eq!(shown.as_str().unwrap_or_default(), &command);
        }
    }
}
