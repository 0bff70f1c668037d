//! Set files: written, merged, cut and damaged.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::intel::address::parse_prefix;
use crate::intel::formats::entry::{EntryContent, EntrySink as _, FeedEntry};
use crate::intel::indicator::{Indicator, PortRange, Ports};
use crate::intel::parser::merge::{Merge, MergeSummary};
use crate::intel::pull::Extent;
use crate::intel::rejects::RejectReason;
use crate::intel::set::ttl::Ttl;

const TTL: Ttl = Ttl { ttl: SignedDuration::from_secs(1000), confirmed: None };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn entry(id: &str, version: i64, prefix: &str) -> FeedEntry {
    let prefix = parse_prefix(prefix).unwrap();
    let indicator = Indicator {
        id: id.to_owned(),
        description: format!("{id} {version}"),
        version: Some(at(version)),
        ..Indicator::blank(prefix)
    };
    FeedEntry {
        id: id.to_owned(),
        group: String::new(),
        version: Some(at(version)),
        position: 1,
        content: EntryContent::Indicators(vec![indicator]),
    }
}

fn gone(id: &str, version: i64) -> FeedEntry {
    FeedEntry {
        content: EntryContent::Removed(RejectReason::Withdrawn),
        ..entry(id, version, "203.0.113.1")
    }
}

/// Merges into the set in `folder`, at `now`.
fn merge(
    folder: &Path,
    now: i64,
    extent: &Extent,
    entries: Vec<FeedEntry>,
) -> (MergeSummary, SetMeta) {
    merge_at_home(folder, now, extent, entries, &[])
}

/// Merges on a host with the addresses `own`.
fn merge_at_home(
    folder: &Path,
    now: i64,
    extent: &Extent,
    entries: Vec<FeedEntry>,
    own: &[&str],
) -> (MergeSummary, SetMeta) {
    let own: Vec<_> = own.iter().map(|address| address.parse().unwrap()).collect();
    let (set, new) = (folder.join("set"), folder.join("new"));
    let before = SetFile::open(&set, SetParts::Merge).ok();
    let out = std::fs::File::create(&new).unwrap();
    let mut merge = Merge::new(out, before, extent.clone(), at(now)).without_addresses(&own);
    for entry in entries {
        merge.push(entry);
    }
    let meta = SetMeta {
        origin: "test".to_owned(),
        pulled: at(now),
        cursor: Cursor::After(format!("{now}")),
        rejects: Rejects::default(),
        has_repeated_groups: false,
    };
    let merged = merge.finish(meta, TTL).unwrap();
    std::fs::rename(&new, &set).unwrap();
    (merged, SetFile::open(&set, SetParts::Lookup).unwrap().meta)
}

/// Prefix, description and the times of every record.
fn content(folder: &Path) -> Vec<(String, String, i64, i64)> {
    let set = SetFile::open(&folder.join("set"), SetParts::Lookup).unwrap();
    let mut all: Vec<_> = set
        .prefixes()
        .map(|(prefix, number)| {
            let stored = set.read_record(number).unwrap();
            assert_eq!(stored.indicator.prefix, prefix);
            let (since, pulled) = (stored.since.as_second(), stored.pulled.as_second());
            (prefix.to_string(), stored.indicator.description, since, pulled)
        })
        .collect();
    all.sort();
    all
}

fn changes() -> Extent {
    Extent::Changes { replaced: Vec::new() }
}

fn row(prefix: &str, text: &str, since: i64, pulled: i64) -> (String, String, i64, i64) {
    (prefix.to_owned(), text.to_owned(), since, pulled)
}

#[test]
fn an_indicator_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut indicator = Indicator {
        id: "indicator--1 \u{1b}[31m".to_owned(),
        entity: "2001:db8::7".to_owned(),
        expires: Some("2027-01-01T00:00:00.1234567Z".parse().unwrap()),
        time_generated: "2026-11-24T00:00:00.7654321Z".parse().unwrap(),
        description: "x".repeat(100_000),
        confidence: Some(0.1),
        threat_severity: Some(5),
        first_reported: Some(Timestamp::MIN),
        valid_from: Some(Timestamp::MAX),
        ports: Ports {
            remote: vec![PortRange { first: 443, last: 443 }],
            local: vec![PortRange { first: 0, last: u16::MAX }],
        },
        ..Indicator::blank(parse_prefix("2001:db8::7").unwrap())
    };
    indicator.tlp_level = "amber".to_owned();
    let entry = FeedEntry {
        content: EntryContent::Indicators(vec![indicator.clone()]),
        ..entry("indicator--1", 7, "203.0.113.1")
    };
    merge(folder.path(), 100, &Extent::Snapshot, vec![entry]);
    let set = SetFile::open(&folder.path().join("set"), SetParts::Lookup).unwrap();
    assert_eq!(set.read_record(0).unwrap().indicator, indicator);
    assert_eq!((set.len(), set.meta.cursor.clone()), (1, Cursor::After("100".to_owned())));
    set.read_record(1).unwrap_err();
}

#[test]
fn the_newest_version_of_an_id_applies() {
    let folder = tempfile::tempdir().unwrap();
    let entries = vec![
        entry("a", 5, "203.0.113.1"),
        entry("a", 7, "203.0.113.2"),
        entry("a", 6, "203.0.113.3"),
        // Of equal versions, the later in input applies.
        entry("b", 5, "203.0.113.4"),
        entry("b", 5, "203.0.113.5"),
        entry("c", 5, "203.0.113.6"),
        gone("c", 6),
        gone("d", 6),
        entry("d", 5, "203.0.113.7"),
    ];
    let (merged, meta) = merge(folder.path(), 100, &Extent::Snapshot, entries);
    assert_eq!(
        content(folder.path()),
        [row("203.0.113.2/32", "a 7", 100, 100), row("203.0.113.5/32", "b 5", 100, 100)]
    );
    assert_eq!((merged.indicators, merged.previous, merged.entries), (2, 0, 9));
    let counts: Vec<_> = meta.rejects.counts().iter().map(|(name, n)| (&**name, *n)).collect();
    assert_eq!(counts, [("deleted or revoked", 2), ("superseded", 5)]);
}

/// A duplicate matches the same connections. Anything else with the id of another entry replaces it.
#[test]
fn a_repeated_entry_is_a_duplicate_and_no_reject() {
    let at_port = |port: u16| {
        let mut entry = entry("port", 5, "203.0.113.9");
        if let EntryContent::Indicators(all) = &mut entry.content {
            all[0].ports.remote = vec![PortRange { first: port, last: port }];
        }
        entry
    };
    for (first, second, duplicates, superseded) in [
        (entry("a", 5, "203.0.113.1"), entry("a", 5, "203.0.113.1"), 1, 0),
        (entry("net", 5, "192.0.2.0/24"), entry("net", 5, "192.0.2.77/24"), 1, 0),
        (entry("b", 5, "203.0.113.1"), entry("b", 5, "203.0.113.2"), 0, 1),
        (entry("c", 5, "203.0.113.1"), entry("c", 6, "203.0.113.1"), 0, 1),
        (entry("c", 6, "203.0.113.1"), entry("c", 5, "203.0.113.1"), 0, 1),
        (at_port(80), at_port(80), 1, 0),
        (at_port(80), at_port(443), 0, 1),
        (entry("d", 5, "203.0.113.1"), gone("d", 5), 0, 1),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let name = first.id.clone();
        let (merged, meta) = merge(folder.path(), 100, &Extent::Snapshot, vec![first, second]);
        let count = meta.rejects.counts().get("superseded").copied().unwrap_or(0);
        assert_eq!((meta.rejects.duplicates(), count), (duplicates, superseded), "{name}");
        assert_eq!(merged.indicators, u32::from(name != "d"), "{name}");
    }
}

#[test]
fn a_snapshot_replaces_the_set_and_keeps_the_time_of_versions() {
    let folder = tempfile::tempdir().unwrap();
    let first = vec![
        entry("a", 5, "203.0.113.1"),
        entry("b", 5, "203.0.113.2"),
        entry("c", 5, "203.0.113.3"),
    ];
    merge(folder.path(), 100, &Extent::Snapshot, first);
    let second = vec![entry("b", 5, "203.0.113.2"), entry("c", 6, "203.0.113.3")];
    let (merged, _) = merge(folder.path(), 200, &Extent::Snapshot, second);
    assert_eq!((merged.indicators, merged.previous), (2, 3));
    assert_eq!(
        content(folder.path()),
        [row("203.0.113.2/32", "b 5", 100, 200), row("203.0.113.3/32", "c 6", 200, 200)]
    );
    // The old versions of a restored server apply.
    merge(folder.path(), 250, &Extent::Snapshot, vec![entry("c", 4, "203.0.113.3")]);
    assert_eq!(content(folder.path()), [row("203.0.113.3/32", "c 4", 250, 250)]);
    // A removed id may return with an old version.
    merge(folder.path(), 300, &Extent::Snapshot, vec![entry("a", 1, "203.0.113.1")]);
    assert_eq!(content(folder.path()), [row("203.0.113.1/32", "a 1", 300, 300)]);
}

#[test]
fn changes_keep_other_entries_until_they_expire() {
    let folder = tempfile::tempdir().unwrap();
    let mut dated = entry("e", 5, "203.0.113.5");
    if let EntryContent::Indicators(indicators) = &mut dated.content {
        indicators[0].expires = Some(at(250));
    }
    let first = vec![
        entry("a", 5, "203.0.113.1"),
        entry("b", 5, "203.0.113.0/24"),
        entry("c", 5, "2001:db8::/48"),
        dated,
    ];
    merge(folder.path(), 100, &changes(), first);
    let second = vec![gone("a", 6), entry("b", 4, "203.0.113.9"), entry("d", 5, "203.0.113.4")];
    let (merged, _) = merge(folder.path(), 200, &changes(), second);
    assert_eq!((merged.indicators, merged.previous), (4, 4));
    let kept = [
        row("2001:db8::/48", "c 5", 100, 100),
        row("203.0.113.0/24", "b 5", 100, 100),
        row("203.0.113.4/32", "d 5", 200, 200),
    ];
    assert_eq!(content(folder.path())[..3], kept);
    // A revoked version stays revoked if an older version arrives later.
    let (merged, _) = merge(folder.path(), 300, &changes(), vec![entry("a", 5, "203.0.113.1")]);
    assert_eq!(content(folder.path()), kept, "and e has expired");
    assert_eq!((merged.indicators, merged.previous), (3, 3));
    let (merged, _) = merge(folder.path(), 1150, &changes(), vec![entry("a", 7, "203.0.113.1")]);
    assert_eq!((merged.indicators, merged.previous), (2, 1), "a, and d, pulled at 200");
}

#[test]
fn addresses_of_this_host_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = entry("pair", 5, "203.0.113.3");
    if let EntryContent::Indicators(indicators) = &mut pair.content {
        let prefix = parse_prefix("2001:db8::7").unwrap();
        indicators.push(Indicator { prefix, ..indicators[0].clone() });
    }
    let entries = || {
        let net = entry("net", 5, "203.0.113.0/24");
        vec![entry("a", 5, "203.0.113.1"), net, pair.clone(), entry("mapped", 5, "203.0.113.2")]
    };
    let rest = ["203.0.113.0/24", "203.0.113.3/32"];
    let own = ["203.0.113.1", "2001:db8::7", "::ffff:203.0.113.2"];
    let (merged, meta) = merge_at_home(folder.path(), 100, &changes(), entries(), &own);
    let left: Vec<_> = content(folder.path()).into_iter().map(|row| row.0).collect();
    assert_eq!((left.as_slice(), merged.indicators), (&rest.map(str::to_owned)[..], 2));
    let rejected: Vec<_> = meta.rejects.kept().iter().map(|it| (&*it.text, &it.reason)).collect();
    let reason = &RejectReason::OwnAddress;
    assert_eq!(rejected, [("a", reason), ("2001:db8::7/128", reason), ("mapped", reason)]);
    assert_eq!(meta.rejects.malformed(), 0);
    // An address that became the host's own is not carried over, and returns when it is not.
    merge(folder.path(), 200, &changes(), entries());
    assert_eq!(content(folder.path()).len(), 5);
    merge_at_home(folder.path(), 300, &changes(), vec![], &own);
    let left: Vec<_> = content(folder.path()).into_iter().map(|row| row.0).collect();
    assert_eq!(left, rest);
    merge(folder.path(), 400, &changes(), entries());
    assert_eq!(content(folder.path()).len(), 5);
}

#[test]
fn a_group_is_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let of = |group: &str, entry: FeedEntry| FeedEntry { group: group.to_owned(), ..entry };
    let first = vec![
        of("g", entry("a", 5, "203.0.113.1")),
        of("g", entry("b", 5, "203.0.113.2")),
        of("h", entry("c", 5, "203.0.113.3")),
        of("i", entry("d", 5, "203.0.113.4")),
    ];
    merge(folder.path(), 100, &changes(), first);
    let extent = Extent::Changes { replaced: vec!["g".to_owned(), "i".to_owned()] };
    merge(folder.path(), 200, &extent, vec![of("g", entry("b", 5, "203.0.113.2"))]);
    assert_eq!(
        content(folder.path()),
        [row("203.0.113.2/32", "b 5", 100, 200), row("203.0.113.3/32", "c 5", 100, 100)]
    );
}

#[test]
fn a_damaged_file_is_refused_or_loses_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let entries = vec![entry("a", 5, "203.0.113.1"), entry("b", 5, "203.0.113.0/24")];
    merge(folder.path(), 100, &Extent::Snapshot, entries);
    let path = folder.path().join("set");
    let good = std::fs::read(&path).unwrap();
    for length in 0..good.len() {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(SetFile::open(&path, SetParts::Merge).is_err(), "{length}");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        if let Ok(set) = SetFile::open(&path, SetParts::Merge) {
            // Only records are not covered by the checks of `open`. Each has its own checksum, without
            // its times and the padding.
            let damaged = (0..2).filter(|number| set.read_record(*number).is_err()).count();
            assert!(damaged <= 1, "{at}");
        }
    }
}

proptest! {
    /// In any order of pulls, the newest version of each id applies.
    #[test]
    fn merges_in_parts_equal_one_merge(
        entries in prop::collection::vec((0..6_u8, 0..6_i64, prop::bool::ANY), 1..30),
        cut in 0..30_usize,
    ) {
        let make = |(id, version, is_gone): &(u8, i64, bool)| {
            // A version of an id has one content.
            let is_gone = *is_gone && version % 2 == 1;
            let id = format!("id{id}");
            if is_gone { gone(&id, 2 * version + 1) } else {
                entry(&id, 2 * version, &format!("203.0.113.{version}"))
            }
        };
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        merge(one.path(), 100, &changes(), entries.iter().map(make).collect());
        let cut = cut.min(entries.len());
        merge(two.path(), 100, &changes(), entries[..cut].iter().map(make).collect());
        merge(two.path(), 100, &changes(), entries[cut..].iter().map(make).collect());
        prop_assert_eq!(content(one.path()), content(two.path()));
    }
}
