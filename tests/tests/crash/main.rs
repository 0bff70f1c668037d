//! Crash: an agent that is killed at any time, with an upstream that comes and goes, tells exactly
//! what one tells that nothing disturbs.
//!
//! A child process (this binary, started again) is the part of the agent behind the kernel: events
//! go through `Detection`, into the spool and to a collector. It is killed with SIGKILL at random;
//! the next one goes on after the last event that was counted, as `Dedup::admitted` says. The
//! kernel's ring does not survive an agent, so here the events are made: the n-th is the same in
//! every run.
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

/// Kills in all.
const KILLS: usize = 1_000;
/// Events of one agent's life, over all of its kills.
const EVENTS: u64 = 1_500;

/// How the upstream is: it comes and goes, and may take what it is sent without saying so.
fn flapping(_number: usize, _request: &RecordedRequest) -> ScriptedResponse {
    match fastrand::u8(..10) {
        0 => ScriptedResponse::Reset,
        1 => ScriptedResponse::AcceptAndReset,
        2 => ScriptedResponse::status(503),
        3 => ScriptedResponse::retry_after(429, "0"),
        _ => ScriptedResponse::OK,
    }
}

/// What a collector was told, by `AlertId`; every copy of an alert is the same.
fn told(collector: &Collector) -> BTreeMap<String, Value> {
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
        .args(["--exact", "--nocapture", "child::runs_where_it_is_asked_to"])
        .env(child::FOLDER, folder)
        .env(child::URL, collector.url())
        .env(child::EVENTS, EVENTS.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Kills one agent after the other until one is done; how many were killed.
fn kill_until_done(folder: &Path, collector: &Collector) -> usize {
    let deadline = Instant::now() + Duration::from_mins(2);
    let mut kills = 0;
    loop {
        let mut child = start(folder, collector);
        // From the first instructions to some hundred events later.
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
    let expected = events::undisturbed(EVENTS);
    let hits: u64 = expected.values().map(|alert| alert["ConnectionCount"].as_u64().unwrap()).sum();
    assert_eq!(hits, EVENTS, "each event is in one alert");
    let mut kills = 0;
    while kills < KILLS {
        let folder = tempfile::tempdir().unwrap();
        let collector = Collector::start(flapping);
        kills += kill_until_done(folder.path(), &collector);
        assert!(told(&collector) == expected, "{}", difference(&told(&collector), &expected));
    }
}

/// What differs, in a few words: the whole would fill the screen.
fn difference(told: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) -> String {
    let missing: Vec<_> = expected.keys().filter(|id| !told.contains_key(*id)).collect();
    let more: Vec<_> = told.keys().filter(|id| !expected.contains_key(*id)).collect();
    let changed: Vec<_> = expected
        .iter()
        .filter_map(|(id, alert)| {
            told.get(id).filter(|other| *other != alert).map(|it| (alert, it))
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
fn a_million_hits_are_one_alert_and_one_summary() {
    const HITS: u64 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(|_, _| ScriptedResponse::OK);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(child::storm(folder.path(), &collector.url(), HITS));
    let alerts: Vec<Value> = told(&collector).into_values().collect();
    let mut kinds: Vec<_> = alerts.iter().map(|it| it["AlertKind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["new", "summary"]);
    let sum = |column: &str| alerts.iter().map(|it| it[column].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("ConnectionCount"), HITS);
    assert_eq!((sum("BytesSent"), sum("BytesReceived")), (3 * HITS, 5 * HITS));
    assert_eq!(collector.requests().len(), 2, "one request an alert");
}
