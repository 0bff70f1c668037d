//! Public MISP events: their STIX export by a MISP server, read as a feed, gives the addresses of
//! the events themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sensor_user::intel::{CollectedEntries, EntryContent, PrefixPolicy, ReadPolicy, read_stix};
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

/// `address` or `address|port` of each attribute of an event with `to_ids`.
fn event_addresses(path: &Path) -> BTreeSet<String> {
    let event: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let event = event.get("Event").unwrap_or(&event);
    let of = |it: &Value| it["Attribute"].as_array().cloned().unwrap_or_default();
    let objects = event["Object"].as_array().cloned().unwrap_or_default();
    // A domain and its address in one object: neither alone is an indicator.
    let objects = objects.iter().filter(|it| it["name"] != "domain-ip");
    let attributes = objects.chain([event]).flat_map(of);
    let types = ["ip-dst", "ip-src", "ip-dst|port", "ip-src|port"];
    attributes
        .filter(|it| types.contains(&it["type"].as_str().unwrap()))
        .filter(|it| it["to_ids"] == true)
        .map(|it| it["value"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_misp_event_and_its_stix_export_give_the_same_addresses() {
    let policy = ReadPolicy {
        // One event has an address of the victim's private network.
        prefixes: PrefixPolicy { allow_private: true, ..PrefixPolicy::default() },
        min_confidence: None,
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
        oldest: "2026-11-10T12:00:00Z".parse().unwrap(),
    };
    let mut all = 0;
    for entry in fs::read_dir(Path::new(FIXTURES).join("misp")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        if path.extension().is_none_or(|it| it != "json") {
            continue;
        }
        let input = fs::File::open(Path::new(FIXTURES).join("stix").join(&name)).unwrap();
        let mut found = CollectedEntries::default();
        let objects = read_stix(input, &policy, 1, &mut found).unwrap();
        let indicators: Vec<_> = found
            .entries
            .iter()
            .filter_map(|it| match &it.content {
                EntryContent::Indicators(indicators) => Some(indicators),
                EntryContent::Removed(_) => None,
            })
            .flatten()
            .collect();
        let addresses: BTreeSet<String> = indicators
            .iter()
            .map(|it| match it.ports.remote.as_slice() {
                [] => it.entity.clone(),
                [range] => format!("{}|{}", it.entity, range.first),
                several => panic!("{several:?}"),
            })
            .collect();
        assert_eq!(addresses, event_addresses(&path), "{}", name.display());
        assert!(indicators.iter().all(|it| it.version.is_some() && it.valid_from.is_some()));
        assert_eq!(found.rejects.total(), 0, "{:?}", found.rejects);
        assert!(found.entries.len() as u64 <= objects);
        all += indicators.len();
    }
    assert_eq!(all, 148);
}
