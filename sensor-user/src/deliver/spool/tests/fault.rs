//! Disks that take nothing for a while.

use super::super::SpoolConfig;
use super::sim::{Refuses, SimDisk};
use super::{Driven, SMALL, change, snapshot};
use crate::pipeline::dedup::DedupState;

#[test]
fn a_disk_that_takes_nothing_is_told_and_alerts_go_on_from_memory() {
    for (refuses, told) in [
        (Refuses::Room(2500), "No space left on device; free space"),
        (Refuses::Writes, "read-only"),
        (Refuses::Syncs, "Input/output error"),
    ] {
        let disk = SimDisk::without_reserve();
        let (mut driven, _) = Driven::open(&disk, &SMALL);
        driven.put([1], snapshot(1));
        disk.refuse(refuses);
        driven.put([2, 3], change(2));
        let fault = driven.status().fault.unwrap().to_lowercase();
        assert!(fault.contains(&told.to_lowercase()), "{fault}");
        assert!(fault.contains("write /spool/") && fault.contains("delivered from memory"));
        assert_eq!(driven.stats.spool_writes_failed.value(), 1);
        driven.put([4], change(3));
        assert_eq!(driven.stats.spool_writes_failed.value(), 1, "it is left alone for a second");
        assert!(driven.spool.written() < 4 && !driven.spool.wants_snapshot());
        assert_eq!(driven.unsettled_ids("a"), [1, 2, 3, 4], "{refuses:?}");
        driven.settle("a", 4);
        driven.settle("b", 3);
        driven.pass(1);
        assert_eq!(driven.stats.spool_writes_failed.value(), 2);
        disk.refuse(Refuses::Nothing);
        driven.pass(1);
        assert_eq!((driven.status().fault, driven.spool.written()), (None, 3), "{refuses:?}");
        driven.put([5], change(4));
        let (driven, recovered) = driven.again();
        assert_eq!(driven.unsettled_ids("a"), [4, 5], "{refuses:?}");
        assert_eq!(driven.unsettled_ids("b"), [3, 4, 5], "{refuses:?}");
        assert_eq!(recovered.changes, [[2], [3], [4]], "{refuses:?}");
        assert!(recovered.repairs.is_empty(), "{recovered:?}");
    }
}

#[test]
fn what_no_disk_and_no_sink_has_taken_at_the_end_is_counted() {
    let disk = SimDisk::new();
    let (mut driven, _) = Driven::open(&disk, &SMALL);
    driven.put([1], snapshot(1));
    disk.refuse(Refuses::Writes);
    driven.put([2, 3], None);
    driven.put([4], None);
    driven.settle("a", 5);
    driven.settle("b", 3);
    driven.log.count_lost();
    assert_eq!(driven.stats.alerts_lost_unwritten.value(), 2, "one of them was settled by both");
    disk.refuse(Refuses::Nothing);
    driven.pass(1);
    driven.log.count_lost();
    assert_eq!(driven.stats.alerts_lost_unwritten.value(), 2, "nothing is left by then");
}

#[test]
fn what_is_settled_meanwhile_needs_no_disk_and_no_memory() {
    let disk = SimDisk::new();
    let config = SpoolConfig { queue: 10, ..SMALL };
    let (mut driven, _) = Driven::open(&disk, &config);
    disk.refuse(Refuses::Writes);
    for id in 1..=100 {
        driven.put([id], None);
        assert_eq!(driven.unsettled_ids("b"), [id]);
        driven.settle("a", id + 1);
        driven.settle("b", id + 1);
    }
    assert_eq!(driven.stats.alerts_dropped_queue_full.value(), 0);
    assert_eq!(driven.spool.written(), 100);
    for id in 101..=120 {
        driven.put([id], None);
    }
    assert_eq!(driven.stats.alerts_dropped_queue_full.value(), 10, "nobody took them");
    disk.refuse(Refuses::Nothing);
    driven.pass(1);
    let (driven, _) = driven.again();
    let stored = driven.unsettled("a");
    assert_eq!(stored.len(), 10);
    assert_eq!(stored[0].sequence, 101, "numbers that were settled are not used again");
}

#[test]
fn a_full_disk_that_nothing_waits_for_is_not_taken_for_well() {
    let disk = SimDisk::without_reserve();
    let (mut driven, _) = Driven::open(&disk, &SMALL);
    driven.put([1], snapshot(1));
    disk.refuse(Refuses::Room(2500));
    driven.put([2], None);
    driven.settle("a", 3);
    driven.settle("b", 3);
    for _ in 0..3 {
        driven.pass(1);
        assert!(driven.status().fault.is_some());
    }
    disk.refuse(Refuses::Nothing);
    driven.pass(1);
    assert_eq!(driven.status().fault, None);
    let (driven, recovered) = driven.again();
    assert!(driven.unsettled_ids("a").is_empty() && recovered.repairs.is_empty());
}

#[test]
fn of_states_only_so_much_is_kept_and_then_a_snapshot_is_wanted() {
    let disk = SimDisk::new();
    let (mut driven, _) = Driven::open(&disk, &SMALL);
    driven.put([1], snapshot(1));
    disk.refuse(Refuses::Writes);
    for _ in 0..20 {
        driven.put([], Some(DedupState::Change(vec![7; 1 << 20])));
    }
    driven.pass(1);
    disk.refuse(Refuses::Nothing);
    driven.pass(1);
    assert!(driven.spool.wants_snapshot());
    driven.put([2], change(8));
    assert!(driven.spool.wants_snapshot(), "a change does not do");
    driven.put([3], snapshot(9));
    assert!(!driven.spool.wants_snapshot());
    driven.put([4], change(10));
    let (driven, recovered) = driven.again();
    assert_eq!(driven.unsettled_ids("a"), [1, 2, 3, 4]);
    assert_eq!((recovered.snapshot, recovered.changes), (Some(vec![9]), vec![vec![10]]));
}

#[test]
fn a_folder_that_cannot_be_read_at_start_is_used_once_it_can() {
    let disk = SimDisk::new();
    let (mut driven, _) = Driven::open(&disk, &SMALL);
    driven.put([1, 2, 3], snapshot(1));
    driven.settle("a", 4);
    driven.settle("b", 2);
    disk.refuse(Refuses::All);
    let (mut driven, recovered) = driven.again();
    assert!(recovered.snapshot.is_none());
    assert!(driven.status().fault.unwrap().contains("write /spool"));
    driven.put([4], None);
    assert_eq!(driven.unsettled_ids("a"), [4]);
    disk.refuse(Refuses::Nothing);
    driven.pass(1);
    assert_eq!(driven.status().fault, None);
    driven.put([5], snapshot(2));
    let end = driven.unsettled("b").last().unwrap().sequence + 1;
    driven.settle("b", end);
    let (driven, recovered) = driven.again();
    assert_eq!(driven.unsettled_ids("a"), [4, 5], "it had taken the others");
    assert_eq!(driven.unsettled_ids("b"), [2, 3, 4, 5], "what could not be read is not lost");
    assert_eq!(recovered.snapshot, Some(vec![2]));
}
