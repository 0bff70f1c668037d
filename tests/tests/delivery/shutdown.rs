//! Shutdown: pending items are delivered, or counted.

use std::time::Duration;

use sensor_tests::{
    Collector, RecordedRequest, RunningSinks, ScriptedResponse, captured_logs, sample_alert,
};
use sensor_user::deliver::Leftover;
use tokio::time::Instant;

use super::{first, http, start};

#[test]
fn shutdown_delivers_pending_items() {
    let collector = Collector::start(first(vec![ScriptedResponse::status(503)]));
    let running = start(&[http("end", &collector, 4)]);
    running.alerts(&["a0", "a1", "a2", "a3", "a4", "a5"]);
    running.rows(&["r0"]);
    let outbox = running.outbox.clone();
    let (value, left) = running.drain();
    assert_eq!(left, []);
    assert_eq!((value("alerts_delivered"), value("rows_delivered")), (6, 1));
    assert_eq!(collector.accepted_ids().len(), 7);
    outbox.alerts(vec![sample_alert("late")], None);
    assert_eq!(collector.accepted_ids().len(), 7, "nothing is accepted after shutdown");
}

#[test]
fn shutdown_has_a_deadline_and_reports_undelivered_items() {
    let stalled = Collector::start(|_, _: &RecordedRequest| ScriptedResponse::Stall);
    let healthy = Collector::start(first(vec![]));
    let running = start(&[http("late", &stalled, 1), http("in-time", &healthy, 1)]);
    running.alerts(&["a0", "a1", "a2"]);
    running.rows(&["r0"]);
    stalled.wait_for_requests(1);
    let RunningSinks { runtime, deliverer, stats, spool: _spool, .. } = running;
    let began = Instant::now();
    let left = runtime.block_on(deliverer.drain(Duration::from_millis(300)));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(left, [Leftover { sink: "late".to_owned(), alerts: 3, rows: 1 }]);
    assert_eq!(stats.rows_dropped_shutdown.value(), 1);
    assert_eq!((stats.alerts_delivered.value(), stats.rows_delivered.value()), (3, 1));
    assert_eq!(captured_logs("undelivered rows dropped sink=\"late\"").len(), 1);
    assert_eq!(
        captured_logs("alerts are kept in the spool for the next start sink=\"late\"").len(),
        1
    );
}
