//! Crash suite: an agent that is killed at random times, with an unreliable upstream, reports
//! exactly the same alerts as an uninterrupted one.
//!
//! A child process (this binary, started again) is the part of the agent behind the kernel: events
//! pass through `Detection` into the spool and to a collector. It is killed with SIGKILL at random
//! times; the next child continues after the last counted event (`Dedup::admitted`). The kernel's
//! ring does not survive an agent, so the events here are generated: the n-th is the same in every
//! run.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends with a panic")]

mod child;
mod events;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sensor_tests::{Collector, RecordedRequest, ScriptedResponse};
use serde_json::Value;
use tokio::time::Instant;

/// Total number of kills.
const KILLS: usize = 1_000;
/// Events of one agent, across all of its kills.
const EVENTS: u64 = 1_500;

/// The unreliable upstream: it fails at times, and may accept a batch without a response.
fn flapping(_number: usize, _request: &RecordedRequest) -> ScriptedResponse {
    match fastrand::u8(..10) {
        0 => ScriptedResponse::Reset,
        1 => ScriptedResponse::AcceptAndReset,
        2 => ScriptedResponse::status(503),
        3 => ScriptedResponse::retry_after(429, "0"),
        _ => ScriptedResponse::OK,
    }
}

/// The collector's alerts by `AlertId`; asserts that all copies of an alert are equal.
fn received(collector: &Collector) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for request in collector.requests().iter().filter(|request| request.accepted) {
        for item in request.items() {
            let id = item["AlertId"].as_str().unwrap().to_owned();
            if let Some(other) = all.insert(id.clone(), item.clone()) {
                assert_eq!(item, other, "two alerts have the id {id}");
            }
        }
    }
    all
}

fn start(folder: &Path, collector: &Collector) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "child::child_process_entry_point"])
        .env(child::FOLDER, folder)
        .env(child::URL, collector.url())
        .env(child::EVENTS, EVENTS.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Kills one child after the other until one completes; returns the number of kills.
fn kill_until_done(folder: &Path, collector: &Collector) -> usize {
    let deadline = Instant::now() + Duration::from_mins(2);
    let mut kills = 0;
    loop {
        let mut child = start(folder, collector);
        // Between the first instructions and some hundred events later.
        let until = Instant::now() + Duration::from_millis(fastrand::u64(5..120));
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the child failed: {status}");
            if folder.join(child::DONE).exists() {
                return kills;
            }
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert!(Instant::now() < deadline, "not done after {kills} kills");
    }
}

#[test]
fn a_thousand_kills_lose_no_alert_and_change_no_count() {
    let expected = events::uninterrupted(EVENTS);
    let hits: u64 = expected.values().map(|alert| alert["ConnectionCount"].as_u64().unwrap()).sum();
    assert_eq!(hits, EVENTS, "each event is in one alert");
    let mut kills = 0;
    while kills < KILLS {
        let folder = tempfile::tempdir().unwrap();
        let collector = Collector::start(flapping);
        kills += kill_until_done(folder.path(), &collector);
        assert!(
            received(&collector) == expected,
            "{}",
            difference(&received(&collector), &expected)
        );
    }
}

/// A short summary of the differences; the full alerts would be too long.
fn difference(received: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) -> String {
    let missing: Vec<_> = expected.keys().filter(|id| !received.contains_key(*id)).collect();
    let more: Vec<_> = received.keys().filter(|id| !expected.contains_key(*id)).collect();
    let changed: Vec<_> = expected
        .iter()
        .filter_map(|(id, alert)| {
            received.get(id).filter(|other| *other != alert).map(|it| (alert, it))
        })
        .take(1)
        .collect();
    format!(
        "{} missing: {missing:.200?}; {} too many: {more:.200?}; changed: {changed:?}",
        missing.len(),
        more.len()
    )
}

#[test]
fn a_million_hits_give_one_alert_and_one_summary() {
    const HITS: u64 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(|_, _| ScriptedResponse::OK);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(child::storm(folder.path(), &collector.url(), HITS));
    let alerts: Vec<Value> = received(&collector).into_values().collect();
    let mut kinds: Vec<_> = alerts.iter().map(|it| it["AlertKind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["new", "summary"]);
    let sum = |column: &str| alerts.iter().map(|it| it[column].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("ConnectionCount"), HITS);
    assert_eq!((sum("BytesSent"), sum("BytesReceived")), (3 * HITS, 5 * HITS));
    assert_eq!(collector.requests().len(), 2, "one request per alert");
}
