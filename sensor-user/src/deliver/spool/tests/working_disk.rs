//! Spools on a working disk.

use std::sync::Arc;
use std::time::Duration;

use super::super::storage::Disk;
use super::super::{BatchLimit, Commit, Spool, SpoolConfig, SpoolError};
use super::sim::SimDisk;
use super::{DrivenSpool, SMALL, TestClock, alert, change, id, snapshot};
use crate::base::clock::SystemClock;
use crate::base::counters::Stats;

#[test]
fn alerts_and_states_are_recovered_in_order() {
    let disk = SimDisk::new();
    let (mut driven, recovered) = DrivenSpool::open(&disk, &SMALL);
    assert!(recovered.snapshot.is_none() && recovered.repairs.is_empty());
    assert!(driven.spool.wants_snapshot(), "nothing is on disk yet");
    assert_eq!(driven.put([1, 2], snapshot(1)), 1);
    assert_eq!(driven.put([], change(2)), 2);
    assert_eq!(driven.put([3], change(3)), 3);
    assert_eq!(driven.spool.last_written(), 3);
    let sequences: Vec<u64> = driven.pending_alerts("a").iter().map(|it| it.sequence).collect();
    assert_eq!(sequences, [1, 2, 3]);
    driven.acknowledge("a", 3);
    let (driven, recovered) = driven.reopen();
    assert_eq!(recovered.snapshot, Some(vec![1]));
    assert_eq!(recovered.changes, [[2], [3]]);
    assert_eq!(driven.pending_ids("a"), [3]);
    assert_eq!(driven.pending_ids("b"), [1, 2, 3]);
    let status = driven.status();
    assert_eq!((status.segments, status.error), (1, None));
    assert_eq!(status.sinks.iter().map(|sink| sink.waiting).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn an_alert_from_disk_equals_the_alert_from_memory() {
    let disk = SimDisk::new();
    let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
    driven.put([7], None);
    let (driven, _) = driven.reopen();
    let stored = driven.pending_alerts("a");
    assert_eq!(stored[0].alert, alert(7));
    assert_eq!(stored[0].bytes, serde_json::to_string(&*alert(7)).unwrap().len());
}

#[test]
fn a_segment_is_removed_when_all_sinks_have_passed_it_and_a_later_one_has_the_state() {
    let disk = SimDisk::new();
    let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
    driven.put([0], snapshot(1));
    for number in 1..30 {
        driven.put([number], change(2));
    }
    let many = driven.status().segments;
    assert!(many > 4, "{many}");
    assert!(driven.spool.wants_snapshot(), "segments have begun since");
    for sink in ["a", "b"] {
        driven.acknowledge(sink, 31);
    }
    assert_eq!(driven.status().segments, many, "the first has the only snapshot");
    driven.put([30], snapshot(3));
    assert!(!driven.spool.wants_snapshot());
    assert!(driven.status().segments <= 2, "{:?}", driven.status());
    let (driven, recovered) = driven.reopen();
    assert_eq!((recovered.snapshot, recovered.changes.len()), (Some(vec![3]), 0));
    assert_eq!(driven.pending_ids("a"), [30]);
}

#[test]
fn a_removed_or_unknown_sink_retains_no_segment() {
    let disk = SimDisk::new();
    let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
    for number in 1..=20 {
        driven.put([number], None);
    }
    driven.acknowledge("a", 21);
    let before = driven.status().segments;
    assert_eq!(driven.spool.remove_sink("b"), 20);
    driven.run_once();
    assert!(before > 3 && driven.status().segments < 3, "{before}");
    driven.put([21], None);
    let (clock, stats) = (driven.clock.clone(), Arc::clone(&driven.stats));
    let (driven, _) = DrivenSpool::open_with(&disk, &SMALL, clock, stats, &["c", "a"]);
    assert_eq!(driven.pending_ids("a"), [21]);
    let oldest = driven.pending_ids("c");
    assert_eq!(oldest.last(), Some(&21), "a new sink begins at what is retained");
    assert!(driven.spool.reader("b").is_none());
    assert_eq!(driven.stats.alerts_evicted_size.value(), 0);
}

#[test]
fn the_oldest_alerts_above_the_size_are_evicted_and_counted_per_sink() {
    let disk = SimDisk::new();
    let config = SpoolConfig { max_bytes: 20 << 10, ..SMALL };
    let (mut driven, _) = DrivenSpool::open(&disk, &config);
    driven.put([1, 2], snapshot(0));
    driven.acknowledge("a", 3);
    for number in 3..=100_u8 {
        let state = if driven.spool.wants_snapshot() { snapshot(number) } else { change(number) };
        driven.put([number.into()], state);
        assert!(disk.used() < (25 << 10) + 2000, "{}", disk.used());
    }
    let (a, b) = (driven.pending_ids("a"), driven.pending_ids("b"));
    assert_eq!(a, b);
    assert_eq!(a.last(), Some(&100));
    let lost = 100 - a.len() as u64;
    assert_eq!(driven.stats.alerts_evicted_size.value(), 2 * lost - 2, "a had acknowledged two");
    assert_eq!(driven.spool.reader("a").unwrap().pending(), a.len() as u64);
}

#[test]
fn alerts_above_the_age_are_evicted_and_counted() {
    let disk = SimDisk::new();
    let (mut driven, _) = DrivenSpool::open(&disk, &SMALL);
    driven.put([1], snapshot(1));
    driven.advance(4 * 3600);
    assert!(driven.spool.wants_snapshot(), "another segment has begun");
    driven.put([2], snapshot(2));
    driven.advance(21 * 3600);
    assert_eq!(driven.pending_ids("a"), [2]);
    assert_eq!(driven.stats.alerts_evicted_age.value(), 2);
    driven.put([3], snapshot(3));
    driven.advance(4 * 3600);
    assert_eq!(driven.pending_ids("b"), [3]);
    assert_eq!(driven.stats.alerts_evicted_age.value(), 4);
}

#[test]
fn a_full_queue_drops_and_counts_and_a_snapshot_is_requested() {
    let disk = SimDisk::new();
    let config = SpoolConfig { queue: 3, ..SMALL };
    let (mut driven, _) = DrivenSpool::open(&disk, &config);
    driven.put([1], snapshot(1));
    let put = |driven: &DrivenSpool, ids: &[u64], state| {
        let alerts = ids.iter().copied().map(alert).collect();
        driven.spool.put(Commit { alerts, state })
    };
    put(&driven, &[2, 3], change(2));
    assert!(!driven.spool.wants_snapshot());
    let dropped = put(&driven, &[4, 5], change(3));
    assert!(driven.spool.wants_snapshot());
    put(&driven, &[6], change(4));
    driven.run_once();
    assert_eq!(driven.spool.last_written(), dropped + 1);
    assert_eq!(driven.pending_ids("a"), [1, 2, 3, 6]);
    assert_eq!(driven.stats.alerts_dropped_queue_full.value(), 2);
    let (mut driven, recovered) = driven.reopen();
    assert_eq!(recovered.changes, [[2]], "changes after the lost change are not used");
    assert_eq!(
        driven.put([7, 8, 9, 10], snapshot(5)),
        1,
        "an empty queue accepts more than its limit"
    );
    assert_eq!(driven.pending_ids("b"), [1, 2, 3, 6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn readers_wait_for_synced_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("state/spool");
    let stats = Arc::<Stats>::default();
    let open = |dir: &std::path::Path| {
        let (usual, clock) = (SpoolConfig::USUAL, Arc::new(SystemClock));
        Spool::open(dir, &usual, &["a".to_owned()], clock, &stats).unwrap().0
    };
    let limit = BatchLimit { alerts: 10, bytes: 1 << 20 };
    let spool = open(&dir);
    let mut reader = spool.reader("a").unwrap();
    assert!(!reader.has_more());
    let waits = tokio::spawn(async move { (reader.next_batch(limit).await, reader) });
    spool.put(Commit { alerts: vec![alert(1), alert(2)], state: snapshot(1) });
    let (stored, reader) = waits.await.unwrap();
    assert_eq!(stored.iter().map(id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(reader.pending(), 2);
    reader.acknowledge(2);
    assert!(spool.close(Duration::from_secs(10)));
    assert_eq!(spool.last_written(), 1);
    spool.put(Commit { alerts: vec![alert(9)], state: None });
    assert_eq!(stats.alerts_dropped_queue_full.value(), 1, "it is closed");
    let spool = open(&dir);
    let mut reader = spool.reader("a").unwrap();
    let stored = reader.next_batch(BatchLimit { bytes: 1, ..limit }).await;
    assert_eq!((id(&stored[0]), stored[0].sequence, stored.len()), (2, 2, 1));
    spool.put(Commit { alerts: vec![alert(3)], state: None });
    assert_eq!(reader.next_batch(limit).await[0].sequence, 3);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&dir) & 0o777, 0o700);
    for file in std::fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&file.unwrap().path()) & 0o777, 0o600);
    }
}

#[test]
fn an_invalid_name_of_a_sink_is_refused() {
    let long = "x".repeat(65);
    for name in ["", "a b", "\u{1b}", long.as_str()] {
        let clock = Arc::new(TestClock::new());
        let opened = Spool::open_on(
            Arc::new(SimDisk::new()),
            &SMALL,
            &[name.to_owned()],
            clock,
            &Arc::default(),
        );
        assert!(matches!(opened, Err(SpoolError::Name { .. })), "{name:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        super::super::storage::Storage::path(&Disk::new(folder.path()), "x"),
        folder.path().join("x")
    );
}
