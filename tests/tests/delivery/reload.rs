//! Reload of the sinks while delivery runs: no alert is lost or delivered twice.

use std::time::Duration;

use sensor_tests::{
    Collector, RecordedRequest, RunningSinks, ScriptedResponse, captured_logs, sample_alert,
    wait_until,
};
use sensor_user::deliver::{Reloaded, SinkConfig};

use super::{file, first, http, start};

const LIMIT: Duration = Duration::from_secs(5);

fn reload(running: &mut RunningSinks, sinks: &[SinkConfig]) -> Reloaded {
    let _within = running.runtime.enter();
    running.deliverer.reload(sinks, LIMIT).unwrap()
}

#[test]
fn sinks_are_added_removed_and_changed_without_losing_an_alert() {
    let (unchanged, removed, new) = (collector(), collector(), collector());
    let down = Collector::start(|_, _: &RecordedRequest| ScriptedResponse::status(503));
    let sinks = [
        http("unchanged", &unchanged, 10),
        http("removed", &removed, 10),
        http("moves", &down, 10),
    ];
    let mut running = start(&sinks);
    running.alerts(&["a0", "a1"]);
    running.rows(&["r0"]);
    unchanged.wait_for_accepted(3);
    removed.wait_for_accepted(3);
    down.wait_for_requests(2);

    let moved = collector();
    let sinks =
        [http("unchanged", &unchanged, 10), http("moves", &moved, 10), http("new", &new, 10)];
    let done = reload(&mut running, &sinks);
    assert_eq!(done, Reloaded { added: 1, changed: 1, removed: 1 });
    running.alerts(&["a2"]);
    running.rows(&["r1"]);
    assert_eq!(sorted(unchanged.wait_for_accepted(5)), ["a0", "a1", "a2", "r0", "r1"]);
    // The row that the old address had not accepted was dropped with it, and counted; alerts are
    // not.
    let taken = sorted(moved.wait_for_accepted(4));
    assert_eq!(taken, ["a0", "a1", "a2", "r1"]);
    assert!(new.wait_for_accepted(2).contains(&"a2".to_owned()));
    wait_until("the removed sink has no pending alerts", || {
        let spool = running.outbox.spool_status().unwrap();
        spool.sinks.iter().all(|sink| sink.waiting == 0)
    });
    let names: Vec<String> = running.outbox.sinks().into_iter().map(|sink| sink.name).collect();
    assert_eq!(names, ["unchanged", "moves", "new"]);
    assert_eq!(running.value("rows_dropped_shutdown"), 1);
    let (_value, left) = running.drain();
    assert_eq!(left, []);
    // A removed sink may still receive alerts that arrive during the reload, but no later row.
    assert!(!removed.accepted_ids().contains(&"r1".to_owned()), "{:?}", removed.accepted_ids());
    assert_eq!(unchanged.accepted_ids().len(), 5, "an unchanged sink receives nothing twice");
}

#[test]
fn a_returning_sink_resumes_and_a_stalled_sink_is_interrupted() {
    let collector = collector();
    let stalled = Collector::start(|_, _: &RecordedRequest| ScriptedResponse::Stall);
    let mut running = start(&[http("a", &collector, 10), http("b", &stalled, 1)]);
    running.alerts(&["a0"]);
    collector.wait_for_accepted(1);
    stalled.wait_for_requests(1);
    let within = running.runtime.enter();
    let only = [http("b", &stalled, 1)];
    running.deliverer.reload(&only, Duration::from_millis(200)).unwrap();
    running.outbox.alerts(vec![sample_alert("a1")], None);
    let both = [http("b", &collector, 1), http("a", &collector, 10)];
    running.deliverer.reload(&both, Duration::from_millis(200)).unwrap();
    // `a` had acknowledged a0; `b` was interrupted, and receives a0 again.
    let taken = sorted(collector.wait_for_accepted(4));
    assert_eq!(taken, ["a0", "a0", "a1", "a1"]);
    drop(within);
    assert_eq!(running.drain().1, []);
}

#[test]
fn an_invalid_sink_changes_nothing() {
    let collector = collector();
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(&[http("a", &collector, 10)]);
    let within = running.runtime.enter();
    let mut name = http("a", &collector, 10);
    name.name = "no/name".to_owned();
    let refused = running.deliverer.reload(&[file("b", &folder.path().join("b")), name], LIMIT);
    assert!(format!("{:?}", refused.unwrap_err()).contains("no/name"));
    running.alerts(&["a0"]);
    assert_eq!(collector.wait_for_accepted(1), ["a0"]);
    drop(within);
    assert_eq!(running.drain().1, []);
    assert!(!folder.path().join("b").exists());
}

#[test]
fn alerts_need_a_spool_from_the_start() {
    let (rows, alerts) = (collector(), collector());
    let only_rows = SinkConfig { alerts: false, ..http("rows", &rows, 10) };
    let mut running = start(std::slice::from_ref(&only_rows));
    let within = running.runtime.enter();
    let both = [only_rows, http("alerts", &alerts, 10)];
    let refused = running.deliverer.reload(&both, LIMIT).unwrap_err().to_string();
    assert!(
        refused.contains("sink alerts: takes alerts") && refused.contains("restart"),
        "{refused}"
    );
    running.rows(&["r0"]);
    assert_eq!(rows.wait_for_accepted(1), ["r0"]);
    drop(within);
    assert_eq!(running.drain().1, []);
    assert_eq!(captured_logs("sink=\"alerts\""), Vec::<String>::new());
}

fn collector() -> Collector {
    Collector::start(first(vec![]))
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}
