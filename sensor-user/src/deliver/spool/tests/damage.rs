//! Damaged files.

use proptest::prelude::*;

use super::super::frame::HEADER;
use super::super::segment::SegmentFile;
use super::sim::SimDisk;
use super::{DrivenSpool, SMALL, SpoolConfig, change, id, snapshot};

/// Spool with some segments of alerts from 1 on, none acknowledged; and the ids of the alerts.
fn filled(count: u64) -> (SimDisk, Vec<u64>) {
    let disk = SimDisk::new();
    let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
    for id in 1..=count {
        let state = if driven.spool.wants_snapshot() { snapshot(0) } else { change(1) };
        driven.put([id], state);
    }
    driven.writer.end_active();
    drop(driven);
    (disk, (1..=count).collect())
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| SegmentFile::new(name.clone(), 0).is_some()).collect()
}

/// Offsets of the ends of the header and of each frame.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![usize::try_from(HEADER).unwrap()];
    while let Some(length) = bytes.get(ends[ends.len() - 1]..).and_then(<[u8]>::first_chunk)
        && *length != [0; 4]
    {
        ends.push(ends[ends.len() - 1] + 8 + u32::from_le_bytes(*length) as usize);
    }
    ends
}

#[test]
fn a_torn_end_is_cut_off_at_any_byte() {
    let (disk, all) = filled(2);
    let name = &segments(&disk)[0];
    let whole = disk.bytes(name);
    let ends = ends(&whole);
    assert_eq!(ends.len(), 3);
    for cut in ends[1] + 1..ends[2] {
        disk.put(name, &whole[..cut]);
        let (mut driven, recovered) = DrivenSpool::open(&disk, &SMALL);
        assert_eq!(driven.pending_ids("a"), all[..1], "cut at {cut}");
        assert_eq!(driven.stats.spool_repairs.value(), 1);
        let repair = format!(
            "offset {}: frame is truncated; the last {} bytes are cut off",
            ends[1],
            cut - ends[1]
        );
        assert!(recovered.repairs[0].ends_with(&repair), "{:?}", recovered.repairs);
        assert_eq!(driven.status().repairs, recovered.repairs);
        driven.put([9], None);
        let (driven, recovered) = driven.reopen();
        assert_eq!(driven.pending_ids("a"), [1, 9]);
        assert!(recovered.repairs.is_empty(), "it is repaired");
    }
    for rest in [vec![0xff; 77], b"\x50\0\0\0 no frame".to_vec()] {
        disk.put(name, &[whole.clone(), rest].concat());
        let (driven, recovered) = DrivenSpool::open(&disk, &SMALL);
        assert_eq!((driven.pending_ids("a"), recovered.repairs.len()), (all.clone(), 1));
        assert_eq!(disk.bytes(name), whole);
    }
}

#[test]
fn reserved_room_of_a_killed_agent_is_not_damage_and_is_used() {
    let disk = SimDisk::new();
    let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
    driven.put([1], snapshot(0));
    let name = &segments(&disk)[0];
    let with_room = disk.bytes(name);
    let end = *ends(&with_room).last().unwrap();
    assert_eq!(with_room.len() as u64, SMALL.segment_bytes, "room up to the size of a segment");
    assert!(with_room[end..].iter().all(|byte| *byte == 0));
    disk.kill();
    let (mut driven, recovered) = driven.reopen();
    assert!(recovered.repairs.is_empty() && driven.stats.spool_repairs.value() == 0);
    assert_eq!(driven.status().bytes, end as u64);
    driven.put([2], change(1));
    assert_eq!(&segments(&disk)[0], name);
    driven.writer.end_active();
    assert_eq!(ends(&disk.bytes(name))[1], end, "the segment continues at its end");
    assert!(disk.bytes(name).len() < with_room.len(), "unused room is released");
    // Room of less than a frame's prefix.
    for room in 1..8 {
        disk.put(name, &[&with_room[..end], &vec![0; room]].concat());
        let (driven, recovered) = DrivenSpool::open(&disk, &SMALL);
        assert_eq!((driven.pending_ids("a"), recovered.repairs), (vec![1], vec![]), "{room}");
    }
}

#[test]
fn zeros_before_another_segment_are_counted_by_the_missing_numbers() {
    let (disk, all) = filled(12);
    let names = segments(&disk);
    let mut bytes = disk.bytes(&names[0]);
    let ends = ends(&bytes);
    bytes[ends[ends.len() - 2]..].fill(0);
    disk.put(&names[0], &bytes);
    let (driven, recovered) = DrivenSpool::open(&disk, &SMALL);
    let missing = ends.len() as u64 - 1;
    let left: Vec<u64> = all.into_iter().filter(|id| *id != missing).collect();
    assert_eq!((driven.pending_ids("a"), recovered.repairs), (left, vec![]));
    assert_eq!(driven.stats.spool_alerts_lost_corrupt.value(), 1);
}

#[test]
fn damage_in_the_middle_is_skipped_and_counted() {
    let (disk, all) = filled(20);
    let names = segments(&disk);
    assert!(names.len() > 4);
    for (position, name) in names.iter().enumerate() {
        let whole = disk.bytes(name);
        let ends = ends(&whole);
        if ends.len() < 4 {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[ends[1] + 60] ^= 0x10;
        disk.put(name, &bytes);
        let (mut driven, recovered) = DrivenSpool::open(&disk, &SMALL);
        let left = driven.pending_ids("a");
        assert_eq!(left.len(), all.len() - 1, "{name}");
        assert_eq!(driven.stats.spool_alerts_lost_corrupt.value(), 1);
        assert!(
            recovered.repairs[0].contains("frame checksum does not match"),
            "{:?}",
            recovered.repairs
        );
        assert_eq!(disk.bytes(name), bytes, "the file is not changed");
        assert_eq!(driven.spool.wants_snapshot(), position + 1 == names.len(), "a change is lost");
        driven.put([99], None);
        assert_eq!(driven.pending_ids("b").last(), Some(&99));
        drop(driven);
        // With a damaged length, the next frame must be searched for.
        bytes.clone_from(&whole);
        bytes[ends[1]] ^= 0x11;
        disk.put(name, &bytes);
        let (driven, _) = DrivenSpool::open(&disk, &SMALL);
        assert_eq!(driven.pending_ids("a"), [left, vec![99]].concat());
        return;
    }
    panic!("not a spool segment has three frames");
}

#[test]
fn a_file_with_an_invalid_header_is_renamed_and_the_last_eight_are_kept() {
    let (disk, all) = filled(20);
    let names = segments(&disk);
    let header = disk.bytes(&names[1]);
    let with = |at: usize, byte: u8| {
        let mut bytes = header.clone();
        bytes[at] = byte;
        bytes
    };
    let cases = [
        (with(0, 0), "not a spool segment"),
        (with(8, 2), "damaged"),
        (b"x".to_vec(), "has 1 bytes"),
    ];
    for (bytes, reason) in cases {
        disk.put(&names[1], &bytes);
        let (driven, recovered) = DrivenSpool::open(&disk, &SMALL);
        assert!(recovered.repairs[0].contains(reason), "{:?}", recovered.repairs);
        assert_eq!(disk.bytes(&format!("{}.bad", names[1])), bytes);
        let left = driven.pending_ids("a");
        assert!(left.len() < all.len() && left.last() == all.last(), "{left:?}");
        let lost = driven.stats.spool_alerts_lost_corrupt.value();
        assert_eq!(lost, (all.len() - left.len()) as u64);
    }
    for generation in 100..120 {
        disk.put(&format!("{:020}-{generation:010}.log.bad", 1), b"old");
    }
    let (driven, _) = DrivenSpool::open(&disk, &SMALL);
    let bad = disk.names().iter().filter(|name| name.contains(".bad")).count();
    assert_eq!(bad, 8);
    assert!(driven.status().error.is_none());
}

#[test]
fn missing_segments_are_found_and_their_alerts_counted() {
    let (disk, all) = filled(40);
    let names = segments(&disk);
    assert!(names.len() > 5, "{names:?}");
    let first = |at: usize| SegmentFile::new(names[at].clone(), 0).unwrap().first;
    // In the middle, two in a row, and the oldest.
    for (removed, numbers) in [
        (vec![2], first(2)..first(3)),
        (vec![2, 3], first(2)..first(4)),
        (vec![0], 1..first(1)),
        (vec![0, 1], 1..first(2)),
    ] {
        let (disk, _) = filled(40);
        let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
        driven.acknowledge("a", 1);
        driven.acknowledge("b", 1);
        drop(driven);
        for at in removed.clone() {
            disk.take(&names[at]);
        }
        let (driven, recovered) = DrivenSpool::open(&disk, &SMALL);
        let count = numbers.end - numbers.start;
        assert_eq!(driven.stats.spool_alerts_lost_corrupt.value(), count, "{removed:?}");
        assert_eq!(driven.stats.spool_repairs.value(), 1);
        let expected = format!(
            "segments before it are missing, with {count} alerts that were not delivered to every sink, \
             numbers {} to {};",
            numbers.start,
            numbers.end - 1
        );
        assert!(recovered.repairs[0].contains(&expected), "{:?}", recovered.repairs);
        let left: Vec<u64> = all.iter().copied().filter(|id| !numbers.contains(id)).collect();
        assert_eq!(driven.pending_ids("a"), left);
    }
}

#[test]
fn a_damaged_last_frame_counts_its_alerts() {
    let disk = SimDisk::new();
    let config = SpoolConfig { segment_bytes: 1 << 20, ..SMALL };
    let (mut driven, _) = DrivenSpool::open(&disk, &config);
    driven.put([1], snapshot(0));
    driven.put([2, 3, 4], None);
    driven.writer.end_active();
    drop(driven);
    let name = &segments(&disk)[0];
    let whole = disk.bytes(name);
    let ends = ends(&whole);
    for (at, count) in [(ends[1] + 60, 3), (ends[2] - 5, 3), (ends[1] + 17, 1)] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        disk.put(name, &bytes);
        let (driven, recovered) = DrivenSpool::open(&disk, &config);
        assert_eq!(driven.pending_ids("a"), [1]);
        assert_eq!(driven.stats.spool_alerts_lost_corrupt.value(), count, "byte {at}");
        let expected = format!("bytes are cut off; it had {count} alerts");
        assert!(recovered.repairs[0].ends_with(&expected), "{:?}", recovered.repairs);
    }
}

#[test]
fn an_unreadable_alert_is_skipped() {
    let (disk, _) = filled(3);
    let name = &segments(&disk)[0];
    let mut bytes = disk.bytes(name);
    let ends = ends(&bytes);
    // A valid frame without an alert.
    let frame = &mut bytes[ends[1]..ends[2]];
    let at = frame.windows(7).position(|part| part == b"AlertId").unwrap();
    frame[at] = b'B';
    let crc = crc32fast::hash(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    disk.put(name, &bytes);
    let (driven, recovered) = DrivenSpool::open(&disk, &SMALL);
    assert!(recovered.repairs.is_empty());
    assert_eq!(driven.pending_ids("a"), [1, 3]);
    assert_eq!(driven.stats.spool_alerts_lost_corrupt.value(), 1);
}

#[derive(Debug, Clone)]
enum Harm {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<usize>(), 1_u8..).prop_map(|(at, bits)| Harm::Flip(at, bits)),
        any::<usize>().prop_map(Harm::Cut),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 1..60))
            .prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn alerts_before_any_damage_are_readable(
        segment in 0_usize..5,
        harms in prop::collection::vec(harm(), 1..4),
    ) {
        let (disk, all) = filled(12);
        let names = segments(&disk);
        let name = &names[segment % names.len()];
        let mut bytes = disk.bytes(name);
        let ends = ends(&bytes);
        let mut first = bytes.len();
        for harm in harms {
            let at = match &harm {
                Harm::Flip(at, _) | Harm::Cut(at) | Harm::Insert(at, _) => at % bytes.len().max(1),
            };
            first = first.min(at);
            match harm {
                Harm::Flip(_, bits) => bytes.iter_mut().skip(at).take(1).for_each(|it| *it ^= bits),
                Harm::Cut(_) => bytes.truncate(at),
                Harm::Insert(_, more) => { bytes.splice(at..at, more); }
            }
        }
        disk.put(name, &bytes);
        let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
        let stored = driven.pending_alerts("a");
        prop_assert!(stored.is_sorted_by(|a, b| a.sequence < b.sequence));
        let left: Vec<u64> = stored.iter().map(id).collect();
        prop_assert!(left.iter().all(|id| all.contains(id)));
        // Alerts of other segments, and of this one before the damage.
        let before = ends.iter().filter(|end| **end <= first).count().saturating_sub(1);
        let number = |name: &String| SegmentFile::new(name.clone(), 0).unwrap().first;
        let next = names.iter().map(number).find(|it| *it > number(name)).unwrap_or(13);
        for id in all.iter().filter(|id| **id < number(name) + before as u64 || **id >= next) {
            prop_assert!(left.contains(id), "{id} of {left:?}");
        }
        driven.put([50], None);
        let (driven, _) = driven.reopen();
        prop_assert_eq!(driven.pending_ids("a"), [left, vec![50]].concat());
    }
}
