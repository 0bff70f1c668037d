//! Files that the agent writes to its state directory: an indicator set and the history.
//!
//! A fuzzer cannot guess checksums and lengths. They are corrected first, so that the fuzzer
//! reaches the code behind the checks.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use sensor_user::base::counters::Stats;
use sensor_user::intel::set::store::{SetFile, SetMeta, SetParts};
use sensor_user::intel::{
    Cursor, EntryContent, EntrySink as _, Extent, FeedEntry, FeedSegment, Indicator, IndicatorSet,
    Merge, Rejects, Ttl, Validity, parse_prefix,
};
use sensor_user::pipeline::history::{History, HistoryConfig};
use sensor_user::pipeline::matcher::{AllowList, Matcher};
use tempfile::TempDir;

use super::framing::fix_frames;
use super::policy;

/// Size of the footer of a set in bytes, as in `intel::set::store`.
const FOOTER: usize = 52;
const MAGIC: [u8; 8] = *b"NSENSET\x01";
/// Sizes in bytes of: a host (IPv4, IPv6), a network (IPv4, IPv6), a record's offset with its fact,
/// and an identity.
const WIDTHS: [usize; 6] = [8, 20, 9, 21, 4 + 16, 40];
const TTL: Ttl = Ttl { ttl: SignedDuration::from_hours(24), confirmed: None };

/// Fuzzes an indicator set: lookups, and a merge into it.
pub fn store(data: &[u8]) {
    let mut bytes = data.to_vec();
    fix_set(&mut bytes);
    let Some(folder) = folder() else { return };
    let path = folder.path().join("set");
    if fs::write(&path, &bytes).is_err() {
        return;
    }
    let Ok(set) = SetFile::open(&path, SetParts::Lookup) else { return };
    check_lookups(set);
    if let Ok(set) = SetFile::open(&path, SetParts::Merge) {
        check_merge(folder.path(), set);
    }
}

fn check_lookups(set: SetFile) {
    let prefixes: Vec<_> = set.prefixes().collect();
    assert_eq!(prefixes.len(), set.len());
    let mut records = set.record_reader();
    for number in (0..).take(set.prefixes_by_number().len()) {
        let record = set.read_record(number);
        let raw = records.read(number);
        assert!(raw.is_ok() || record.is_err(), "both readers return the same");
    }
    let validity =
        Validity { ttl: TTL, rows_for: Some(SignedDuration::from_hours(1)), is_list: true };
    let segment = FeedSegment::open(set, Arc::from("fuzz"), validity);
    for (prefix, _) in prefixes {
        for (number, found) in segment.covering(prefix.addr()) {
            assert!(found.contains(&prefix.addr()));
            let indicator = segment.indicator(number, found);
            assert!(indicator.is_some_and(|it| it.id.starts_with("fuzz:")));
        }
    }
}

fn check_merge(folder: &Path, before: SetFile) {
    let path = folder.join("new");
    let Ok(out) = File::create(&path) else { return };
    let max = before.len() + 1;
    let now = policy().now;
    let extent = Extent::Changes { replaced: vec!["event".to_owned()] };
    let mut merge = Merge::new(out, Some(before), extent, now);
    let Some(prefix) = parse_prefix("203.0.113.9") else { return };
    let content = EntryContent::Indicators(vec![Indicator::blank(prefix)]);
    merge.push(FeedEntry {
        id: "203.0.113.9".to_owned(),
        group: String::new(),
        version: Some(now),
        position: 1,
        content,
    });
    let meta = SetMeta {
        origin: "fuzz".to_owned(),
        pulled: now,
        cursor: Cursor::Start,
        rejects: Rejects::default(),
        has_repeated_groups: false,
    };
    let Ok(merged) = merge.finish(meta, TTL) else { return };
    let after = SetFile::open(&path, SetParts::Merge);
    let count = after.as_ref().map_or(0, SetFile::len);
    assert_eq!(count, merged.indicators as usize, "{after:?}");
    assert!(count <= max, "{count} of at most {max}");
}

/// Corrects the magic number, the length of the records and the checksums, if the counts are
/// possible. Also corrects the checksum of the record at byte 0 and of those that follow.
fn fix_set(bytes: &mut [u8]) -> Option<()> {
    let (body, footer) = bytes.split_at_mut_checked(bytes.len().checked_sub(FOOTER)?)?;
    let mut counts = [0; 7];
    for (count, bytes) in counts.iter_mut().zip(footer.chunks_exact(4)) {
        *count = u32::from_le_bytes(bytes.try_into().ok()?) as usize;
    }
    let [hosts_v4, hosts_v6, nets_v4, nets_v6, offsets, identities, meta] = counts;
    let sizes = [hosts_v4, hosts_v6, nets_v4, nets_v6, offsets, identities];
    let parts = sizes.iter().zip(WIDTHS).map(|(count, width)| count * width).sum::<usize>() + meta;
    let (records, parts) = body.split_at_mut_checked(body.len().checked_sub(parts)?)?;
    fix_records(records);
    let (merging, lookups) = parts.split_at_checked(offsets * 16 + identities * 40)?;
    let numbers = [
        &u64::try_from(records.len()).ok()?.to_le_bytes()[..],
        &crc32fast::hash(merging).to_le_bytes(),
        &crc32fast::hash(lookups).to_le_bytes(),
        &MAGIC,
    ];
    footer.get_mut(28..)?.copy_from_slice(&numbers.concat());
    Some(())
}

/// Corrects the records of a set: checksum, length, two times, bytes, padded to eight bytes.
fn fix_records(mut rest: &mut [u8]) -> Option<()> {
    loop {
        let (head, after) = rest.split_first_chunk_mut::<16>()?;
        let [_, _, _, _, a, b, c, d, ..] = *head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let crc = crc32fast::hash(after.get(..length)?).to_le_bytes();
        head.first_chunk_mut::<4>()?.copy_from_slice(&crc);
        rest = after.get_mut(length.next_multiple_of(8)..)?;
    }
}

/// Fuzzes a history file as the next run of the agent opens it.
pub fn history(data: &[u8]) {
    let mut bytes = data.to_vec();
    let _stopped_early = fix_frames(&mut bytes);
    let Some(folder) = folder() else { return };
    let now = policy().now;
    let start = now.checked_sub(SignedDuration::from_mins(30)).unwrap_or(Timestamp::MIN);
    let path = folder.path().join("history").join(format!("{:020}.log", start.as_nanosecond()));
    let written =
        fs::create_dir(folder.path().join("history")).and_then(|()| fs::write(&path, bytes));
    if written.is_err() {
        return;
    }
    let open = || {
        let stats = Arc::new(Stats::default());
        let opened = History::open(folder.path(), HistoryConfig::USUAL, now, stats);
        assert!(opened.is_ok(), "{opened:?}");
        opened.ok()
    };
    let Some(mut history) = open() else { return };
    assert!(path.exists(), "files within the lookback period are kept");
    let matcher = matcher();
    for retro in history.retro_matches(&matcher, now) {
        assert!(retro.tally.connections > 0);
        assert!(retro.tally.first_seen <= retro.tally.last_seen);
    }
    assert!(history.retro_matches(&matcher, now).is_empty(), "reported once");
    history.flush();
    let Some(mut history) = open() else { return };
    assert!(history.retro_matches(&matcher, now).is_empty(), "reported once across both runs");
    history.evict(Timestamp::MAX);
}

fn matcher() -> Matcher {
    let named = |(id, prefix): (&str, &str)| {
        let blank = Indicator::blank(parse_prefix(prefix)?);
        Some(Arc::new(Indicator { id: id.to_owned(), ..blank }))
    };
    let indicators = [("a", "203.0.113.0/24"), ("b", "2001:db8::/32"), ("c", "203.0.113.9")];
    let set = IndicatorSet::from_indicators(indicators.into_iter().filter_map(named).collect());
    let set = Arc::new(ArcSwap::from_pointee(set));
    Matcher::new(set, AllowList::default(), HashSet::new(), Arc::new(Stats::default()))
}

/// Temporary directory, in memory where `/dev/shm` exists.
pub(super) fn folder() -> Option<TempDir> {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    folder.ok()
}
