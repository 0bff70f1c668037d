//! Outages of an upstream, the agent or the disk: every alert arrives, or is counted as lost.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use nix::mount::{MsFlags, mount};
use sensor_tests::{
    Collector, RecordedRequest, RunningSinks, ScriptedResponse, captured_logs, sample_alert,
};
use sensor_user::base::clock::{Clock, FixedClock};
use sensor_user::deliver::spool::SpoolConfig;
use sensor_user::deliver::{HttpConfig, SinkConfig, SinkKind};
use sensor_user::pipeline::dedup::DedupState;

use super::local::SmallFileSystem;
use super::{file, first, http, start, wait_until};

/// An http sink whose collector does not run yet, and the collector's future address.
fn absent(name: &str) -> (SinkConfig, std::net::SocketAddr) {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    let kind = SinkKind::Http(HttpConfig::new(format!("http://{address}/").parse().unwrap()));
    (SinkConfig { kind, batch: 100, ..file(name, Path::new("/")) }, address)
}

fn ids(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("a{number}")).collect()
}

fn put(running: &RunningSinks, ids: &[String]) {
    running.alerts(&ids.iter().map(String::as_str).collect::<Vec<_>>());
}

const NOON: &str = "2026-11-24T12:00:00Z";

fn noon() -> FixedClock {
    FixedClock(NOON.parse().unwrap())
}

#[test]
fn the_next_agent_delivers_alerts_left_in_the_spool() {
    let (sink, address) = absent("later");
    let running = start(std::slice::from_ref(&sink));
    let all = ids(0..30);
    put(&running, &all);
    wait_until("an attempt", || running.stats.deliveries_retried.value() > 0);
    let RunningSinks { runtime, deliverer, spool, .. } = running;
    let left = runtime.block_on(deliverer.drain(std::time::Duration::from_millis(300)));
    assert_eq!((left[0].alerts, left.len()), (30, 1));
    let collector = Collector::start_at(address, first(vec![]));
    let later = RunningSinks::start_in(spool, &SpoolConfig::USUAL, &[sink], noon());
    assert_eq!(collector.wait_for_accepted(30), all);
    let (value, left) = later.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (30, 0));
}

#[test]
fn alerts_delivered_at_shutdown_are_not_sent_again() {
    let collector = Collector::start(first(vec![ScriptedResponse::status(503)]));
    let sinks = [http("end-kept", &collector, 3)];
    let running = start(&sinks);
    put(&running, &ids(0..20));
    let RunningSinks { runtime, deliverer, spool, .. } = running;
    assert_eq!(runtime.block_on(deliverer.drain(std::time::Duration::from_secs(10))), []);
    assert_eq!(collector.accepted_ids(), ids(0..20));
    let later = RunningSinks::start_in(spool, &SpoolConfig::USUAL, &sinks, noon());
    put(&later, &ids(20..21));
    assert_eq!(later.drain().1, []);
    assert_eq!(collector.accepted_ids(), ids(0..21), "each exactly once");
}

/// A clock that the test sets.
#[derive(Debug, Clone)]
struct TestClock(Arc<AtomicI64>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Acquire)).unwrap()
    }
}

#[test]
fn a_one_day_outage_loses_nothing_and_ten_days_lose_the_oldest() {
    for (days, kept) in [(1, 24), (10, 7 * 24)] {
        let (sink, address) = absent(&format!("days-{days}"));
        let second = Arc::new(AtomicI64::new(noon().now().as_second()));
        let spool = tempfile::tempdir().unwrap();
        // Small segments, because eviction by age removes whole segments.
        let config = SpoolConfig { segment_bytes: 64 << 10, ..SpoolConfig::USUAL };
        let clock = TestClock(Arc::clone(&second));
        let running = RunningSinks::start_in(spool, &config, std::slice::from_ref(&sink), clock);
        let hours = days * 24;
        for hour in 0..hours {
            let all = ids(hour * 20..(hour + 1) * 20);
            let alerts = all.iter().map(|id| sample_alert(id)).collect();
            running.outbox.alerts(alerts, Some(snapshot()));
            wait_until("the disk", || running.outbox.is_written());
            second.fetch_add(3600, Ordering::AcqRel);
        }
        let waiting = || running.outbox.sinks()[0].alerts_waiting;
        let evicted = || running.stats.alerts_evicted_age.value();
        let put = u64::from(hours * 20);
        // The youngest alert of a segment decides.
        let least = u64::from(kept.min(hours) * 20);
        wait_until("old segments leave", || {
            waiting() + evicted() == put && waiting() < least + 200
        });
        assert!(waiting() >= least.saturating_sub(20), "{} of {put} pending", waiting());
        let collector = Collector::start_at(address, first(vec![]));
        let (value, left) = running.drain();
        assert_eq!(left, []);
        let (delivered, evicted) = (value("alerts_delivered"), value("alerts_evicted_age"));
        let kept = ids(u32::try_from(evicted).unwrap()..hours * 20);
        assert!(collector.accepted_ids().ends_with(&kept), "the youngest, in order");
        // A batch that is in flight when its alerts become too old is still delivered.
        assert!((put..=put + 100).contains(&(delivered + evicted)), "{delivered} and {evicted}");
        assert_eq!(evicted > 0, days > 7);
    }
}

/// A dedup snapshot, which allows older segments to be removed.
fn snapshot() -> DedupState {
    DedupState::Snapshot(vec![1, 2, 3])
}

#[test]
fn a_full_spool_evicts_and_counts_the_oldest_alerts() {
    let (sink, address) = absent("full");
    let config = SpoolConfig { max_bytes: 1 << 20, segment_bytes: 64 << 10, ..SpoolConfig::USUAL };
    let spool = tempfile::tempdir().unwrap();
    let running = RunningSinks::start_in(spool, &config, std::slice::from_ref(&sink), noon());
    let count = 5_000;
    for number in 0..count {
        running.outbox.alerts(vec![sample_alert(&format!("a{number}"))], Some(snapshot()));
    }
    wait_until("the disk", || running.outbox.is_written());
    wait_until("eviction", || running.stats.alerts_evicted_size.value() > 0);
    let bytes = || running.outbox.spool_status().unwrap().bytes;
    assert!(bytes() <= (1 << 20) + (64 << 10), "{} bytes", bytes());
    let collector = Collector::start_at(address, first(vec![]));
    let (value, left) = running.drain();
    assert_eq!(left, []);
    let kept = ids(u32::try_from(value("alerts_evicted_size")).unwrap()..count);
    assert!(collector.accepted_ids().ends_with(&kept), "the youngest, in order");
    assert_eq!(captured_logs("alerts evicted before delivery to a sink").len().min(1), 1);
}

#[test]
fn a_full_disk_delays_no_alert_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mounted) = SmallFileSystem::mount(folder.path()) else { return };
    let filler = folder.path().join("filler");
    std::fs::write(&filler, vec![0; 40 << 10]).unwrap();
    let spool = tempfile::tempdir_in(folder.path()).unwrap();
    let collector = Collector::start(first(vec![]));
    let sinks = [http("beside", &collector, 10)];
    let running = RunningSinks::start_in(spool, &SpoolConfig::USUAL, &sinks, noon());
    put(&running, &ids(0..40));
    assert_eq!(collector.wait_for_accepted(40), ids(0..40));
    let error = || running.outbox.spool_status().unwrap().error;
    wait_until("a write error", || error().is_some());
    let text = error().unwrap();
    assert!(text.contains("No space left on device") && text.contains("from memory"), "{text}");
    std::fs::remove_file(&filler).unwrap();
    wait_until("the disk takes alerts again", || error().is_none());
    put(&running, &ids(40..50));
    assert_eq!(collector.wait_for_accepted(50), ids(0..50));
    let (value, left) = running.drain();
    assert!(value("spool_writes_failed") > 0);
    assert_eq!((value("alerts_delivered"), left.len()), (50, 0));
}

#[test]
fn a_read_only_disk_delays_no_alert_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mounted) = SmallFileSystem::mount(folder.path()) else { return };
    let spool = tempfile::tempdir_in(folder.path()).unwrap();
    let remount = |flags| {
        let none = None::<&str>;
        mount(none, folder.path(), none, MsFlags::MS_REMOUNT | flags, none).unwrap();
    };
    remount(MsFlags::MS_RDONLY);
    let collector = Collector::start(first(vec![]));
    let sinks = [http("read-only", &collector, 10)];
    let running = RunningSinks::start_in(spool, &SpoolConfig::USUAL, &sinks, noon());
    put(&running, &ids(0..5));
    assert_eq!(collector.wait_for_accepted(5), ids(0..5));
    let error = || running.outbox.spool_status().unwrap().error;
    wait_until("a write error", || {
        error().is_some_and(|text| text.contains("Read-only file system"))
    });
    remount(MsFlags::empty());
    wait_until("the disk takes alerts again", || error().is_none());
    put(&running, &ids(5..9));
    assert_eq!(collector.wait_for_accepted(9), ids(0..9));
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (9, 0));
}

#[test]
fn a_poisoned_item_in_each_batch_is_dead_lettered_with_its_reason() {
    let is_poison = |id: &str| id.ends_with('7');
    let collector = Collector::start(move |_, request: &RecordedRequest| {
        if request.ids().iter().any(|id| is_poison(id)) {
            ScriptedResponse::Status(400, vec![], "no \u{1b}[31msevens".to_owned())
        } else {
            ScriptedResponse::OK
        }
    });
    let running = start(&[http("sevens", &collector, 10)]);
    let all = ids(0..100);
    put(&running, &all);
    let (good, bad): (Vec<String>, Vec<String>) = all.into_iter().partition(|id| !is_poison(id));
    assert_eq!(collector.wait_for_accepted(90), good);
    wait_until("the last is dead-lettered", || running.stats.items_dead_lettered.value() == 10);
    let file = running.spool.path().join("rejected/sevens.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    let items: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let dead_lettered: Vec<&str> = items.iter().map(|item| item["Id"].as_str().unwrap()).collect();
    assert_eq!(dead_lettered, bad);
    assert!(items.iter().all(|item| item["Item"]["AlertId"] == item["Id"]));
    let reason = items[0]["Reason"].as_str().unwrap();
    assert!(reason.contains("status 400: no ") && !reason.contains('\u{1b}'), "{reason}");
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), value("alerts_discarded_rejected")), (90, 10));
    assert_eq!(left, []);
}

#[test]
fn many_refusals_end_with_every_alert_delivered_once() {
    let collector = Collector::start(|number, request: &RecordedRequest| match number {
        0..40 if request.ids().len() > 3 => ScriptedResponse::status(413),
        0..80 => ScriptedResponse::retry_after(429, "0"),
        _ => ScriptedResponse::OK,
    });
    let sink = SinkConfig { concurrency: 4, ..http("storm", &collector, 10) };
    let running = start(&[sink]);
    put(&running, &ids(0..200));
    let taken: BTreeSet<String> = collector.wait_for_accepted(200).into_iter().collect();
    assert_eq!(taken.len(), 200);
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), value("alerts_discarded_rejected")), (200, 0));
    assert_eq!(left, []);
}
