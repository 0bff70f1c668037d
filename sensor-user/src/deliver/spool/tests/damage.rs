//! Files that something has damaged.

use proptest::prelude::*;

use super::super::frame::HEADER;
use super::super::segment::Segment;
use super::sim::SimDisk;
use super::{Driven, SMALL, change, id, snapshot};

/// A spool with a few segments of alerts from 1 on, nothing of it settled; the alerts.
fn filled(count: u64) -> (SimDisk, Vec<u64>) {
    let disk = SimDisk::new();
    let (mut driven, _) = Driven::open(&disk, &SMALL);
    for id in 1..=count {
        let state = if driven.spool.wants_snapshot() { snapshot(0) } else { change(1) };
        driven.put([id], state);
    }
    driven.log.end_active();
    drop(driven);
    (disk, (1..=count).collect())
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| Segment::numbers_of(name).is_some()).collect()
}

/// Where each frame of a segment ends.
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
fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let (disk, all) = filled(2);
    let name = &segments(&disk)[0];
    let whole = disk.bytes(name);
    let ends = ends(&whole);
    assert_eq!(ends.len(), 3);
    for cut in ends[1] + 1..ends[2] {
        disk.put(name, &whole[..cut]);
        let (mut driven, recovered) = Driven::open(&disk, &SMALL);
        assert_eq!(driven.unsettled_ids("a"), all[..1], "cut at {cut}");
        assert_eq!(driven.stats.spool_repairs.value(), 1);
        let told = format!(
            "offset {}: the frame is cut; the last {} bytes are cut off",
            ends[1],
            cut - ends[1]
        );
        assert!(recovered.repairs[0].ends_with(&told), "{:?}", recovered.repairs);
        assert_eq!(driven.status().repairs, recovered.repairs);
        driven.put([9], None);
        let (driven, recovered) = driven.again();
        assert_eq!(driven.unsettled_ids("a"), [1, 9]);
        assert!(recovered.repairs.is_empty(), "it is repaired");
    }
    for rest in [vec![0xff; 77], b"\x50\0\0\0 no frame".to_vec()] {
        disk.put(name, &[whole.clone(), rest].concat());
        let (driven, recovered) = Driven::open(&disk, &SMALL);
        assert_eq!((driven.unsettled_ids("a"), recovered.repairs.len()), (all.clone(), 1));
        assert_eq!(disk.bytes(name), whole);
    }
}

#[test]
fn room_that_a_killed_agent_left_is_no_damage_and_is_written_to() {
    let disk = SimDisk::new();
    let (mut driven, _) = Driven::open(&disk, &SMALL);
    driven.put([1], snapshot(0));
    let name = &segments(&disk)[0];
    let with_room = disk.bytes(name);
    let end = *ends(&with_room).last().unwrap();
    assert_eq!(with_room.len() as u64, SMALL.segment_bytes, "room, but not beyond the segment");
    assert!(with_room[end..].iter().all(|byte| *byte == 0));
    disk.kill();
    let (mut driven, recovered) = driven.again();
    assert!(recovered.repairs.is_empty() && driven.stats.spool_repairs.value() == 0);
    assert_eq!(driven.status().bytes, end as u64);
    driven.put([2], change(1));
    assert_eq!(&segments(&disk)[0], name);
    driven.log.end_active();
    assert_eq!(ends(&disk.bytes(name))[1], end, "it goes on where it ended");
    assert!(disk.bytes(name).len() < with_room.len(), "room that nobody needs is given back");
    // Room up to less than a frame's length and crc32.
    for room in 1..8 {
        disk.put(name, &[&with_room[..end], &vec![0; room]].concat());
        let (driven, recovered) = Driven::open(&disk, &SMALL);
        assert_eq!((driven.unsettled_ids("a"), recovered.repairs), (vec![1], vec![]), "{room}");
    }
}

#[test]
fn an_end_of_zeros_in_front_of_another_segment_is_counted_by_the_numbers_that_are_missing() {
    let (disk, all) = filled(12);
    let names = segments(&disk);
    let mut bytes = disk.bytes(&names[0]);
    let ends = ends(&bytes);
    bytes[ends[ends.len() - 2]..].fill(0);
    disk.put(&names[0], &bytes);
    let (driven, recovered) = Driven::open(&disk, &SMALL);
    let missing = ends.len() as u64 - 1;
    let left: Vec<u64> = all.into_iter().filter(|id| *id != missing).collect();
    assert_eq!((driven.unsettled_ids("a"), recovered.repairs), (left, vec![]));
    assert_eq!(driven.stats.spool_alerts_lost_corrupt.value(), 1);
}

#[test]
fn damage_in_the_middle_is_read_around_and_counted() {
    let (disk, all) = filled(20);
    let names = segments(&disk);
    assert!(names.len() > 4);
    for (place, name) in names.iter().enumerate() {
        let whole = disk.bytes(name);
        let ends = ends(&whole);
        if ends.len() < 4 {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[ends[1] + 60] ^= 0x10;
        disk.put(name, &bytes);
        let (mut driven, recovered) = Driven::open(&disk, &SMALL);
        let left = driven.unsettled_ids("a");
        assert_eq!(left.len(), all.len() - 1, "{name}");
        assert_eq!(driven.stats.spool_alerts_lost_corrupt.value(), 1);
        assert!(recovered.repairs[0].contains("crc32 is wrong"), "{:?}", recovered.repairs);
        assert_eq!(disk.bytes(name), bytes, "it is left as it is");
        assert_eq!(driven.spool.wants_snapshot(), place + 1 == names.len(), "a change is lost");
        driven.put([99], None);
        assert_eq!(driven.unsettled_ids("b").last(), Some(&99));
        drop(driven);
        // The length is damaged: where the next frame begins must be found.
        bytes.clone_from(&whole);
        bytes[ends[1]] ^= 0x11;
        disk.put(name, &bytes);
        let (driven, _) = Driven::open(&disk, &SMALL);
        assert_eq!(driven.unsettled_ids("a"), [left, vec![99]].concat());
        return;
    }
    panic!("no segment has three frames");
}

#[test]
fn a_file_that_is_no_segment_is_moved_aside_and_only_so_many_stay() {
    let (disk, all) = filled(20);
    let names = segments(&disk);
    let header = disk.bytes(&names[1]);
    let with = |at: usize, byte: u8| {
        let mut bytes = header.clone();
        bytes[at] = byte;
        bytes
    };
    let cases =
        [(with(0, 0), "no segment"), (with(8, 2), "damaged"), (b"x".to_vec(), "has 1 bytes")];
    for (bytes, told) in cases {
        disk.put(&names[1], &bytes);
        let (driven, recovered) = Driven::open(&disk, &SMALL);
        assert!(recovered.repairs[0].contains(told), "{:?}", recovered.repairs);
        assert_eq!(disk.bytes(&format!("{}.bad", names[1])), bytes);
        let left = driven.unsettled_ids("a");
        assert!(left.len() < all.len() && left.last() == all.last(), "{left:?}");
        let lost = driven.stats.spool_alerts_lost_corrupt.value();
        assert_eq!(lost, (all.len() - left.len()) as u64);
    }
    for generation in 100..120 {
        disk.put(&format!("{:020}-{generation:010}.log.bad", 1), b"old");
    }
    let (driven, _) = Driven::open(&disk, &SMALL);
    let bad = disk.names().iter().filter(|name| name.contains(".bad")).count();
    assert_eq!(bad, 8);
    assert!(driven.status().fault.is_none());
}

#[test]
fn an_alert_that_cannot_be_read_any_more_holds_up_no_other() {
    let (disk, _) = filled(3);
    let name = &segments(&disk)[0];
    let mut bytes = disk.bytes(name);
    let ends = ends(&bytes);
    // Whole, and not an alert.
    let frame = &mut bytes[ends[1]..ends[2]];
    let at = frame.windows(7).position(|part| part == b"AlertId").unwrap();
    frame[at] = b'B';
    let crc = crc32fast::hash(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    disk.put(name, &bytes);
    let (driven, recovered) = Driven::open(&disk, &SMALL);
    assert!(recovered.repairs.is_empty());
    assert_eq!(driven.unsettled_ids("a"), [1, 3]);
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
    fn whatever_harms_a_segment_what_is_before_it_is_there(
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
            let place = |at: usize| at % bytes.len().max(1);
            let at = match &harm {
                Harm::Flip(at, _) | Harm::Cut(at) | Harm::Insert(at, _) => place(*at),
            };
            first = first.min(at);
            match harm {
                Harm::Flip(_, bits) => bytes.iter_mut().skip(at).take(1).for_each(|it| *it ^= bits),
                Harm::Cut(_) => bytes.truncate(at),
                Harm::Insert(_, more) => { bytes.splice(at..at, more); }
            }
        }
        disk.put(name, &bytes);
        let (mut driven, _) = Driven::open(&disk, &SMALL);
        let stored = driven.unsettled("a");
        prop_assert!(stored.is_sorted_by(|a, b| a.sequence < b.sequence));
        let left: Vec<u64> = stored.iter().map(id).collect();
        prop_assert!(left.iter().all(|id| all.contains(id)));
        // What stands in other segments, and in this one before the harm.
        let before = ends.iter().filter(|end| **end <= first).count().saturating_sub(1);
        let number = |name: &String| Segment::numbers_of(name).unwrap().1;
        let next = names.iter().map(number).find(|it| *it > number(name)).unwrap_or(13);
        for id in all.iter().filter(|id| **id < number(name) + before as u64 || **id >= next) {
            prop_assert!(left.contains(id), "{id} of {left:?}");
        }
        driven.put([50], None);
        let (driven, _) = driven.again();
        prop_assert_eq!(driven.unsettled_ids("a"), [left, vec![50]].concat());
    }
}
