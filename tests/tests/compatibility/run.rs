//! A run of the whole agent on the state of the fixture.

use std::collections::BTreeMap;
use std::time::Duration;

use sensor_tests::{
    Agent, Collector, Netns, RecordedRequest, ScriptedResponse, agent_command, skip_unless,
    wait_until,
};
use serde_json::Value;

use super::{SERVER, State, fact, ids, lines, sorted};

/// Opening a debug build's capture reads the kernel's types, which takes a second or two.
const START: Duration = Duration::from_mins(1);

/// Feeds: 304 to a conditional request with the validators of the saved set, else 404. Sinks: 200.
fn reply(request: &RecordedRequest) -> ScriptedResponse {
    let same = match request.path.as_str() {
        "/list.txt" => request.header("if-none-match") == "\"list-1\"",
        "/bundle.json" => request.header("if-none-match") == "\"stix-1\"",
        "/rows.jsonl" => request.header("if-modified-since") == "Mon, 30 Nov 2026 12:00:00 GMT",
        "/webhook" | "/strict" => return ScriptedResponse::OK,
        _ => false,
    };
    ScriptedResponse::status(if same { 304 } else { 404 })
}

fn delivered(collector: &Collector, path: &str) -> Vec<String> {
    let requests = collector.requests();
    sorted(requests.iter().filter(|it| it.path == path).flat_map(RecordedRequest::ids).collect())
}

#[test]
fn an_agent_goes_on_where_the_earlier_build_ended() {
    if skip_unless(nix::unistd::geteuid().is_root(), "loading BPF programs needs root") {
        return;
    }
    let alerts = ids(&lines("expected/alerts.jsonl"));
    // By now all windows of the fixture have ended.
    let summaries = sorted(ids(&lines("expected/summaries.jsonl")));
    let all = sorted(alerts.into_iter().chain(summaries.clone()).collect());

    let sink = |name: &str| {
        format!("[[sink]]\nname = \"{name}\"\nkind = \"http\"\nurl = \"http://{SERVER}/{name}\"\n")
    };
    let more = format!(
        "[rows]\nenabled = false\n[dedup]\nwindow = \"1s\"\n{}{}",
        sink("webhook"),
        sink("strict")
    );
    let state = State::configured(&more);
    let config = state.config();
    let words = |words: &[&str]| {
        agent_command(
            state.folder.path(),
            &[words, &["--config", config.to_str().unwrap()]].concat(),
        )
    };
    // A namespace of its own, where the port of the feeds is free.
    let netns = Netns::new(&[]);
    let collector = netns.inside(|| {
        Collector::start_at(SERVER.parse().unwrap(), |_, request: &RecordedRequest| reply(request))
    });
    let agent = Agent::spawn(netns.wrap_command(&words(&["run"])));
    agent.wait_for_log(START, "state: ");
    collector.wait_for_accepted(all.len() + summaries.len());

    let requested = |path: &str| {
        let requests = collector.requests();
        requests.into_iter().find(|request| request.path == path)
    };
    let conditional = ["/list.txt", "/bundle.json", "/rows.jsonl"];
    wait_until("these feeds are requested", || {
        conditional.iter().all(|path| requested(path).is_some())
    });
    let feeds = words(&["feeds", "--json"]).output().unwrap();
    let feeds: Vec<Value> = serde_json::from_slice(&feeds.stdout).unwrap();
    let indicators: BTreeMap<&str, u64> = feeds
        .iter()
        .map(|feed| (feed["Name"].as_str().unwrap(), feed["Indicators"].as_u64().unwrap()))
        .collect();
    let expected: BTreeMap<String, u64> = fact("/feeds");
    assert!(expected.iter().map(|(name, count)| (name.as_str(), *count)).eq(indicators));
    assert!(agent.stop().status.success());

    assert_eq!(delivered(&collector, "/webhook"), all);
    assert_eq!(delivered(&collector, "/strict"), summaries, "all else was delivered before");
    for path in conditional {
        let first = requested(path).unwrap();
        assert_eq!(reply(&first), ScriptedResponse::status(304), "{first:?}");
    }
}
