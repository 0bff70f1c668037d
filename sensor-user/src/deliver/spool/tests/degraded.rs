//! Disks that refuse writes for some time.

use super::super::SpoolConfig;
use super::sim::{Refuses, SimDisk};
use super::{DrivenSpool, SMALL, change, snapshot};
use crate::pipeline::dedup::DedupState;

#[test]
fn a_disk_error_is_reported_and_alerts_are_delivered_from_memory() {
    for (refuses, reason) in [
        (Refuses::Room(2500), "No space left on device; free space"),
        (Refuses::Writes, "read-only"),
        (Refuses::Syncs, "Input/output error"),
    ] {
        let disk = SimDisk::without_reserve();
        let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
        driven.put([1], snapshot(1));
        disk.refuse(refuses);
        driven.put([2, 3], change(2));
        let error = driven.status().error.unwrap().to_lowercase();
        assert!(error.contains(&reason.to_lowercase()), "{error}");
        assert!(error.contains("write /spool/") && error.contains("delivered from memory"));
        assert_eq!(driven.stats.spool_writes_failed.value(), 1);
        driven.put([4], change(3));
        assert_eq!(driven.stats.spool_writes_failed.value(), 1, "no retry within a second");
        assert!(driven.spool.last_written() < 4 && !driven.spool.wants_snapshot());
        assert_eq!(driven.pending_ids("a"), [1, 2, 3, 4], "{refuses:?}");
        driven.acknowledge("a", 4);
        driven.acknowledge("b", 3);
        driven.advance(1);
        assert_eq!(driven.stats.spool_writes_failed.value(), 2);
        disk.refuse(Refuses::Nothing);
        driven.advance(1);
        assert_eq!((driven.status().error, driven.spool.last_written()), (None, 3), "{refuses:?}");
        driven.put([5], change(4));
        let (driven, recovered) = driven.reopen();
        assert_eq!(driven.pending_ids("a"), [4, 5], "{refuses:?}");
        assert_eq!(driven.pending_ids("b"), [3, 4, 5], "{refuses:?}");
        assert_eq!(recovered.changes, [[2], [3], [4]], "{refuses:?}");
        assert!(recovered.repairs.is_empty(), "{recovered:?}");
    }
}

#[test]
fn alerts_that_are_neither_written_nor_acknowledged_at_the_end_are_counted() {
    let disk = SimDisk::new();
    let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
    driven.put([1], snapshot(1));
    disk.refuse(Refuses::Writes);
    driven.put([2, 3], None);
    driven.put([4], None);
    driven.acknowledge("a", 5);
    driven.acknowledge("b", 3);
    driven.writer.count_lost();
    assert_eq!(
        driven.stats.alerts_lost_unwritten.value(),
        2,
        "both sinks acknowledged one of them"
    );
    disk.refuse(Refuses::Nothing);
    driven.advance(1);
    driven.writer.count_lost();
    assert_eq!(driven.stats.alerts_lost_unwritten.value(), 2, "all alerts are written");
}

#[test]
fn acknowledged_alerts_need_neither_disk_nor_memory() {
    let disk = SimDisk::new();
    let config = SpoolConfig { queue: 10, ..SMALL };
    let (mut driven, _) = DrivenSpool::open(&disk, &config);
    disk.refuse(Refuses::Writes);
    for id in 1..=100 {
        driven.put([id], None);
        assert_eq!(driven.pending_ids("b"), [id]);
        driven.acknowledge("a", id + 1);
        driven.acknowledge("b", id + 1);
    }
    assert_eq!(driven.stats.alerts_dropped_queue_full.value(), 0);
    assert_eq!(driven.spool.last_written(), 100);
    for id in 101..=120 {
        driven.put([id], None);
    }
    assert_eq!(driven.stats.alerts_dropped_queue_full.value(), 10, "no sink acknowledged them");
    disk.refuse(Refuses::Nothing);
    driven.advance(1);
    let (driven, _) = driven.reopen();
    let stored = driven.pending_alerts("a");
    assert_eq!(stored.len(), 10);
    assert_eq!(stored[0].sequence, 101, "acknowledged numbers are not used again");
}

#[test]
fn a_full_disk_stays_an_error_without_pending_alerts() {
    let disk = SimDisk::without_reserve();
    let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
    driven.put([1], snapshot(1));
    disk.refuse(Refuses::Room(2500));
    driven.put([2], None);
    driven.acknowledge("a", 3);
    driven.acknowledge("b", 3);
    for _ in 0..3 {
        driven.advance(1);
        assert!(driven.status().error.is_some());
    }
    disk.refuse(Refuses::Nothing);
    driven.advance(1);
    assert_eq!(driven.status().error, None);
    let (driven, recovered) = driven.reopen();
    assert!(driven.pending_ids("a").is_empty() && recovered.repairs.is_empty());
}

#[test]
fn states_above_the_limit_are_dropped_and_a_snapshot_is_requested() {
    let disk = SimDisk::new();
    let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
    driven.put([1], snapshot(1));
    disk.refuse(Refuses::Writes);
    for _ in 0..20 {
        driven.put([], Some(DedupState::Change(vec![7; 1 << 20])));
    }
    driven.advance(1);
    disk.refuse(Refuses::Nothing);
    driven.advance(1);
    assert!(driven.spool.wants_snapshot());
    driven.put([2], change(8));
    assert!(driven.spool.wants_snapshot(), "a change is not enough");
    driven.put([3], snapshot(9));
    assert!(!driven.spool.wants_snapshot());
    driven.put([4], change(10));
    let (driven, recovered) = driven.reopen();
    assert_eq!(driven.pending_ids("a"), [1, 2, 3, 4]);
    assert_eq!((recovered.snapshot, recovered.changes), (Some(vec![9]), vec![vec![10]]));
}

#[test]
fn a_folder_that_is_unreadable_at_start_is_used_later() {
    let disk = SimDisk::new();
    let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
    driven.put([1, 2, 3], snapshot(1));
    driven.acknowledge("a", 4);
    driven.acknowledge("b", 2);
    disk.refuse(Refuses::All);
    let (mut driven, recovered) = driven.reopen();
    assert!(recovered.snapshot.is_none());
    assert!(driven.status().error.unwrap().contains("write /spool"));
    driven.put([4], None);
    assert_eq!(driven.pending_ids("a"), [4]);
    disk.refuse(Refuses::Nothing);
    driven.advance(1);
    assert_eq!(driven.status().error, None);
    driven.put([5], snapshot(2));
    let end = driven.pending_alerts("b").last().unwrap().sequence + 1;
    driven.acknowledge("b", end);
    let (driven, recovered) = driven.reopen();
    assert_eq!(driven.pending_ids("a"), [4, 5], "it had acknowledged the others");
    assert_eq!(driven.pending_ids("b"), [2, 3, 4, 5], "unreadable alerts are not lost");
    assert_eq!(recovered.snapshot, Some(vec![2]));
}
