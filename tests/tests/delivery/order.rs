//! Order of delivery, and which items wait for others.

use std::time::Duration;

use sensor_tests::{Collector, RecordedRequest, ScriptedResponse, captured_logs, sample_alert};
use sensor_user::base::stable_id::stable_id;
use sensor_user::deliver::{SinkConfig, SinkKind};
use tokio::time::Instant;

use super::{BATCH_WAIT, first, http, start};

#[test]
fn alerts_arrive_in_order_immediately_and_in_batches() {
    let collector = Collector::start(first(vec![ScriptedResponse::Stall]));
    let running = start(&[http("order", &collector, 3)]);
    let put = Instant::now();
    running.alerts(&["a0"]);
    let arrived = collector.wait_for_requests(1)[0].at;
    assert!(arrived - put < BATCH_WAIT, "{:?}", arrived - put);
    let more = ["a1", "a2", "a3", "a4", "a5", "a6", "a7"];
    running.outbox.alerts(more.map(sample_alert).to_vec(), None);
    collector.release();
    collector.wait_for_accepted(8);
    let requests = collector.requests();
    let ids: Vec<_> = requests.iter().map(RecordedRequest::ids).collect();
    assert_eq!(ids, [vec!["a0"], vec!["a1", "a2", "a3"], vec!["a4", "a5", "a6"], vec!["a7"]]);
    assert!(requests.iter().all(|request| request.header("content-type") == "application/json"));
    assert_eq!(requests[1].header("idempotency-key"), stable_id(&["a1", "a2", "a3"]));
    assert!(requests[0].header("user-agent").starts_with("netsensor/"));
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (8, 0));
}

#[test]
fn rows_are_batched_and_sent_as_lines_if_configured() {
    let collector = Collector::start(first(vec![]));
    let mut sink = http("rows", &collector, 3);
    if let SinkKind::Http(http) = &mut sink.kind {
        http.lines = true;
    }
    let running = start(&[sink]);
    let put = Instant::now();
    running.rows(&["r0", "r1", "r2", "r3"]);
    let requests = collector.wait_for_requests(2);
    assert_eq!(requests[0].ids(), ["r0", "r1", "r2"]);
    assert_eq!(requests[1].ids(), ["r3"]);
    assert!(requests[0].at - put < BATCH_WAIT, "a full batch does not wait");
    let waited = requests[1].at - put;
    assert!(waited >= BATCH_WAIT && waited < 3 * BATCH_WAIT, "{waited:?}");
    assert_eq!(requests[0].header("content-type"), "application/x-ndjson");
    assert_eq!(requests[0].body.lines().count(), 3);
    assert!(requests[0].body.ends_with('\n'));
    let (value, _) = running.drain();
    assert_eq!(value("rows_delivered"), 4);
}

#[test]
fn a_batch_is_sent_at_its_maximum_age() {
    let (quick, slow) = (Collector::start(first(vec![])), Collector::start(first(vec![])));
    let wait = |sink, batch_wait| SinkConfig { batch_wait, ..sink };
    let waits = [Duration::from_millis(10), Duration::from_secs(1)];
    let sinks =
        [wait(http("quick", &quick, 1000), waits[0]), wait(http("slow", &slow, 1000), waits[1])];
    let mut running = start(&sinks);
    let put = Instant::now();
    // A new row does not extend the wait of the rows before it.
    let ids: Vec<String> = (0..20).map(|number| format!("r{number:02}")).collect();
    for id in &ids {
        running.rows(&[id]);
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let taken = slow.wait_for_requests(2);
    let waited = taken[0].at - put;
    assert!(waited >= waits[1] && waited < 2 * waits[1], "{waited:?}");
    assert!(taken[0].ids().len() > 5, "{:?}", taken[0].ids());
    assert!(quick.requests().len() > 15, "almost one request per row");
    slow.wait_for_accepted(20);
    quick.wait_for_accepted(20);
    // After a reload, the new interval applies.
    let sinks = [sinks[0].clone(), wait(http("slow", &slow, 1000), waits[0])];
    let entered = running.runtime.enter();
    let done = running.deliverer.reload(&sinks, Duration::from_secs(5)).unwrap();
    drop(entered);
    assert_eq!((done.changed, done.added), (1, 0));
    let (put, before) = (Instant::now(), slow.requests().len());
    running.rows(&["r20"]);
    let waited = slow.wait_for_requests(before + 1)[before].at - put;
    assert!(waited < waits[1], "{waited:?}");
    assert_eq!(running.drain().1, []);
}

#[test]
fn an_alert_overtakes_pending_rows() {
    let collector = Collector::start(first(vec![ScriptedResponse::Stall]));
    let running = start(&[http("overtake", &collector, 2)]);
    running.rows(&["r0", "r1"]);
    collector.wait_for_requests(1);
    running.rows(&["r2", "r3", "r4", "r5"]);
    running.alerts(&["a0"]);
    // The alert does not even wait for the request in flight.
    let requests = collector.wait_for_requests(2);
    assert_eq!(requests[1].ids(), ["a0"]);
    collector.release();
    assert_eq!(collector.wait_for_accepted(7), ["r0", "r1", "a0", "r2", "r3", "r4", "r5"]);
    drop(running.drain());
}

#[test]
fn an_alert_overtakes_rows_in_retry() {
    let collector = Collector::start(|_, request: &RecordedRequest| {
        let rows = request.body.contains("\"VMConnection\"");
        if rows { ScriptedResponse::retry_after(503, "1") } else { ScriptedResponse::OK }
    });
    let running = start(&[http("rows-refused", &collector, 1)]);
    running.rows(&["r0"]);
    collector.wait_for_requests(1);
    running.alerts(&["a0"]);
    let requests = collector.wait_for_requests(2);
    assert_eq!((requests[0].ids(), requests[1].ids()), (vec!["r0".into()], vec!["a0".into()]));
    drop(running);
}

#[test]
fn a_stalled_sink_delays_no_other() {
    let stalled = Collector::start(|_, _: &RecordedRequest| ScriptedResponse::Stall);
    let healthy = Collector::start(first(vec![]));
    let running = start(&[http("stalled", &stalled, 10), http("healthy", &healthy, 10)]);
    running.alerts(&["a0"]);
    stalled.wait_for_requests(1);
    let put = Instant::now();
    for number in 0..50 {
        running.alerts(&[&format!("b{number}")]);
    }
    let taken = healthy.wait_for_accepted(51);
    assert!(put.elapsed() < Duration::from_secs(1), "{:?}", put.elapsed());
    assert_eq!(taken.len(), 51);
    assert_eq!(stalled.requests().len(), 1);
    stalled.release();
    let (value, left) = running.drain();
    assert_eq!((value("alerts_delivered"), left.len()), (102, 0));
}

#[test]
fn a_full_queue_drops_and_counts_rows_and_alerts_wait_on_disk() {
    let collector = Collector::start(first(vec![ScriptedResponse::Stall]));
    let running = start(&[SinkConfig { queue: 4, ..http("full", &collector, 10) }]);
    running.alerts(&["a0"]);
    collector.wait_for_requests(1);
    let put = Instant::now();
    for number in 0..1_000 {
        running.alerts(&[&format!("b{number}")]);
    }
    let rows: Vec<String> = (0..100).map(|number| format!("r{number}")).collect();
    running.rows(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(put.elapsed() < Duration::from_secs(2), "{:?}", put.elapsed());
    collector.release();
    collector.wait_for_accepted(1_005);
    let (value, left) = running.drain();
    let taken = collector.accepted_ids();
    let alerts = std::iter::once("a0".to_owned()).chain((0..1_000).map(|it| format!("b{it}")));
    let (rows, received_alerts): (Vec<String>, Vec<String>) =
        taken.into_iter().partition(|id| id.starts_with('r'));
    assert_eq!(
        received_alerts,
        alerts.collect::<Vec<_>>(),
        "no alert is lost, and they are in order"
    );
    assert_eq!((value("alerts_delivered"), value("alerts_dropped_queue_full")), (1_001, 0));
    let (delivered, dropped) = (value("rows_delivered"), value("rows_dropped_queue_full"));
    assert!(delivered >= 4 && delivered + dropped == 100, "{delivered} and {dropped}");
    assert_eq!(rows.len() as u64, delivered);
    assert_eq!(left, []);
    assert_eq!(
        captured_logs("queue full; items dropped sink=\"full\"").len(),
        1,
        "one line in 10 s"
    );
}
