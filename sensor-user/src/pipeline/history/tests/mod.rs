//! The look-back from the matcher to the alert, with a simulated clock. A restart is a new `History`
//! on the same folder, without a shutdown of the old one.

mod restart;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::base::counters::Stats;
use crate::base::protocol::Protocol;
use crate::intel::{Indicator, IndicatorSet, parse_prefix};
use crate::pipeline::aggregate::{
    Attribution, Change, ChangeKind, Direction, Flow, NatMapping, Phase,
};
use crate::pipeline::dedup::{Alert, AlertKind, Dedup, DedupState};
use crate::pipeline::enrich::Process;
use crate::pipeline::matcher::{AllowList, Matcher};
use crate::pipeline::{Detection, PipelineOutput};
use crate::schema::TableRow;

const CONFIG: HistoryConfig = HistoryConfig {
    lookback: SignedDuration::from_hours(1),
    max_entries: 1000,
    max_bytes: 1 << 20,
    private: false,
};

#[derive(Default)]
struct Alerts(Vec<Alert>);

impl PipelineOutput for Alerts {
    fn alerts(&mut self, alerts: Vec<Alert>, _state: Option<DedupState>) {
        self.0.extend(alerts);
    }

    fn rows(&mut self, _: Vec<TableRow>) {}
}

/// Agent without capture and delivery.
struct Agent {
    detection: Detection,
    set: Arc<ArcSwap<IndicatorSet>>,
    stats: Arc<Stats>,
    alerts: Alerts,
}

impl Agent {
    fn start(state: &Path, indicators: &[Indicator], now: Timestamp) -> Self {
        Self::with(state, CONFIG, indicators, now)
    }

    fn with(state: &Path, config: HistoryConfig, it: &[Indicator], now: Timestamp) -> Self {
        let stats = Arc::new(Stats::default());
        let set = Arc::new(ArcSwap::from_pointee(set(it)));
        let allow = AllowList::new(["198.51.100.99/32".parse().unwrap()]);
        let matcher = Matcher::new(Arc::clone(&set), allow, HashSet::from([9]), Arc::clone(&stats));
        let hour = SignedDuration::from_hours(1);
        let dedup = Dedup::new("agent".to_owned(), hour, 1000, Arc::clone(&stats));
        let history = History::open(state, config, now, Arc::clone(&stats)).unwrap();
        let detection = Detection::new(None, matcher, Some(history), dedup, Arc::clone(&stats));
        Self { detection, set, stats, alerts: Alerts::default() }
    }

    fn observe(&mut self, flow: Flow) {
        let kind = match flow.phase {
            Phase::Opened => ChangeKind::Opened,
            Phase::Active => ChangeKind::Active,
            Phase::Translated => ChangeKind::Translated,
            Phase::Closed => ChangeKind::Closed,
        };
        let now = flow.time;
        self.detection.observe(&Change::new(kind, flow, 1, 0), &mut self.alerts);
        self.detection.tick(now, &mut self.alerts);
    }

    fn swap(&mut self, indicators: &[Indicator], now: Timestamp) {
        self.set.store(Arc::new(set(indicators)));
        self.detection.tick(now, &mut self.alerts);
    }

    /// Kind, indicator, connections and bytes sent of each alert since the last call.
    fn take_alerts(&mut self) -> Vec<(AlertKind, String, u64, u64)> {
        let alerts = std::mem::take(&mut self.alerts.0);
        alerts
            .into_iter()
            .map(|it| (it.alert_kind, it.indicator_id, it.connection_count, it.bytes_sent))
            .collect()
    }
}

fn set(indicators: &[Indicator]) -> IndicatorSet {
    IndicatorSet::from_indicators(indicators.iter().cloned().map(Arc::new).collect())
}

fn indicator(id: &str, prefix: &str) -> Indicator {
    let blank = Indicator::blank(parse_prefix(prefix).unwrap());
    Indicator { id: id.to_owned(), feed: "feed".into(), ..blank }
}

fn minute(minute: i64) -> Timestamp {
    let start: Timestamp = "2026-11-24T12:00:00.123456789Z".parse().unwrap();
    start + SignedDuration::from_mins(minute)
}

fn flow(time: Timestamp, remote: &str, pid: u32) -> Flow {
    Flow {
        time,
        phase: Phase::Opened,
        computer: "web01.example.net".into(),
        direction: Direction::Outbound,
        protocol: Protocol::Tcp,
        local: "192.0.2.1".parse().unwrap(),
        local_port: None,
        remote: remote.parse().unwrap(),
        remote_port: Some(443),
        process: Arc::new(Process {
            pid: Some(pid),
            name: "curl".to_owned(),
            path: "/usr/bin/curl".to_owned(),
            command_line: "curl x\u{1b}".to_owned(),
            user_name: "web".to_owned(),
            ..Process::default()
        }),
        attribution: Attribution::Connect,
        connections: 1,
        preexisting: false,
        translated: None,
        bytes_sent: 0,
        bytes_received: 0,
    }
}

fn retro(id: &str, connections: u64, bytes: u64) -> (AlertKind, String, u64, u64) {
    (AlertKind::Retro, id.to_owned(), connections, bytes)
}

fn new(id: &str) -> (AlertKind, String, u64, u64) {
    (AlertKind::New, id.to_owned(), 1, 0)
}

#[test]
fn a_later_indicator_matches_connections_of_the_last_hour() {
    let state = tempfile::tempdir().unwrap();
    let c2 = [indicator("c2", "203.0.113.5")];
    for (after, is_reported) in [(59, true), (60, true), (61, false)] {
        for is_killed in [false, true] {
            let state = state.path().join(format!("{after}{is_killed}"));
            let mut agent = Agent::start(&state, &[], minute(0));
            agent.observe(flow(minute(0), "203.0.113.5", 1));
            if is_killed {
                // No destructor runs: only written data is left.
                std::mem::forget(agent);
                agent = Agent::start(&state, &[], minute(after - 1));
            }
            agent.swap(&c2, minute(after));
            let expected = if is_reported { vec![retro("c2", 1, 0)] } else { vec![] };
            assert_eq!(agent.take_alerts(), expected, "{after} minutes, killed {is_killed}");
        }
    }
}

#[test]
fn a_retro_alert_has_the_data_of_the_connection() {
    let state = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(state.path(), &[], minute(0));
    agent.observe(flow(minute(1), "203.0.113.5", 7));
    let late = Flow { local_port: Some(50_000), ..flow(minute(2), "203.0.113.5", 7) };
    agent.observe(late);
    let traffic = Flow {
        phase: Phase::Closed,
        bytes_sent: 11,
        bytes_received: 22,
        ..flow(minute(3), "203.0.113.5", 7)
    };
    agent.observe(traffic);
    agent.swap(&[indicator("c2", "203.0.113.0/24")], minute(4));
    let [alert] = &agent.alerts.0[..] else { panic!("{:?}", agent.alerts.0) };
    assert_eq!(
        (alert.alert_kind, alert.vm_connection_time_generated),
        (AlertKind::Retro, minute(2))
    );
    assert_eq!((alert.first_seen, alert.last_seen), (minute(1), minute(2)));
    assert_eq!((alert.connection_count, alert.bytes_sent, alert.bytes_received), (2, 11, 22));
    assert_eq!((alert.source_port, alert.destination_port), (Some(50_000), Some(443)));
    assert_eq!((&*alert.process_path, &*alert.command_line), ("/usr/bin/curl", "curl x\u{1b}"));
    assert_eq!((&*alert.remote_ip, &*alert.matched_prefix), ("203.0.113.5", "203.0.113.0/24"));
    assert_eq!((&*alert.computer, alert.process_id), ("web01.example.net", Some(7)));
}

#[test]
fn no_connection_is_reported_twice_for_one_indicator() {
    let state = tempfile::tempdir().unwrap();
    let c2 = indicator("c2", "203.0.113.5");
    let mut agent = Agent::start(state.path(), &[], minute(0));
    agent.observe(flow(minute(0), "203.0.113.5", 1));
    agent.swap(std::slice::from_ref(&c2), minute(1));
    assert_eq!(agent.take_alerts(), [retro("c2", 1, 0)]);
    // The next connection alerts at once; a new version of the indicator reports nothing again.
    agent.observe(flow(minute(2), "203.0.113.5", 1));
    assert_eq!(agent.take_alerts(), [new("c2")]);
    let newer = Indicator { description: "newer".to_owned(), ..c2.clone() };
    agent.swap(&[newer.clone(), indicator("other", "203.0.113.0/24")], minute(3));
    assert_eq!(agent.take_alerts(), [retro("other", 2, 0)]);
    // Two kills right after it.
    for _ in 0..2 {
        std::mem::forget(agent);
        agent = Agent::start(state.path(), std::slice::from_ref(&c2), minute(2));
        agent.detection.tick(minute(2), &mut agent.alerts);
        assert_eq!(agent.take_alerts(), []);
    }
    // The indicator is removed and added again: only connections in between are new.
    agent.swap(&[], minute(4));
    agent.observe(flow(minute(5), "203.0.113.5", 1));
    agent.swap(std::slice::from_ref(&newer), minute(6));
    assert_eq!(agent.take_alerts(), [retro("c2", 1, 0)]);
    std::mem::forget(agent);
    let mut agent = Agent::start(state.path(), std::slice::from_ref(&newer), minute(7));
    agent.detection.tick(minute(7), &mut agent.alerts);
    agent.swap(&[newer, c2], minute(8));
    assert_eq!(agent.take_alerts(), []);
}

#[test]
fn alerts_of_a_restarted_agent_are_not_repeated_after_the_next_kill() {
    let state = tempfile::tempdir().unwrap();
    let c2 = [indicator("c2", "203.0.113.5")];
    let mut agent = Agent::start(state.path(), &[], minute(0));
    agent.observe(flow(minute(0), "203.0.113.5", 1));
    for (at, count) in [(1, 1), (2, 0), (3, 0)] {
        std::mem::forget(agent);
        agent = Agent::start(state.path(), &c2, minute(at));
        agent.detection.tick(minute(at), &mut agent.alerts);
        assert_eq!(agent.take_alerts().len(), count, "minute {at}");
    }
}

#[test]
fn a_repeated_alert_of_a_killed_agent_has_the_same_id() {
    let state = tempfile::tempdir().unwrap();
    let c2 = [indicator("c2", "203.0.113.5")];
    let mut agent = Agent::start(state.path(), &[], minute(0));
    agent.observe(flow(minute(0), "203.0.113.5", 1));
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("history")).unwrap();
    for file in std::fs::read_dir(state.path().join("history")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join("history").join(file.file_name())).unwrap();
    }
    agent.swap(&c2, minute(1));
    let first = agent.alerts.0.remove(0);
    // Repeated from the files as they were before the alert was recorded.
    let mut again = Agent::start(copy.path(), &c2, minute(2));
    again.detection.tick(minute(2), &mut again.alerts);
    let [second] = &again.alerts.0[..] else { panic!("{:?}", again.alerts.0) };
    assert_eq!(first.alert_id, second.alert_id);
}

#[test]
fn a_connection_that_outlives_the_agent_counts_once() {
    let state = tempfile::tempdir().unwrap();
    let c2 = [indicator("c2", "203.0.113.5")];
    for was_reported in [false, true] {
        let state = state.path().join(was_reported.to_string());
        let known: &[Indicator] = if was_reported { &c2 } else { &[] };
        let mut agent = Agent::start(&state, known, minute(0));
        agent.observe(flow(minute(0), "203.0.113.5", 1));
        assert_eq!(agent.take_alerts().len(), usize::from(was_reported));
        std::mem::forget(agent);
        let mut agent = Agent::start(&state, &c2, minute(5));
        agent.detection.tick(minute(5), &mut agent.alerts);
        let scan = Attribution::Scan;
        let found =
            Flow { preexisting: true, attribution: scan, ..flow(minute(5), "203.0.113.5", 1) };
        agent.observe(found.clone());
        let expected = if was_reported { vec![] } else { vec![retro("c2", 1, 0)] };
        assert_eq!(agent.take_alerts(), expected, "reported {was_reported}");
        // A second one is another connection.
        agent.observe(found);
        assert_eq!(agent.take_alerts(), [new("c2")]);
    }
}

#[test]
fn connections_that_must_not_alert_do_not_alert_later() {
    let state = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(state.path(), &[], minute(0));
    agent.observe(flow(minute(0), "198.51.100.99", 1));
    agent.observe(flow(minute(0), "203.0.113.5", 9));
    agent.observe(flow(minute(0), "10.0.0.1", 1));
    let expired = Indicator { expires: Some(minute(3)), ..indicator("old", "203.0.113.6") };
    let future = Indicator { valid_from: Some(minute(5)), ..indicator("early", "203.0.113.7") };
    agent.observe(flow(minute(1), "203.0.113.6", 1));
    agent.observe(flow(minute(1), "203.0.113.7", 1));
    let all = [
        indicator("allowed", "198.51.100.99"),
        indicator("own", "203.0.113.5"),
        indicator("private", "10.0.0.1"),
        expired,
        future,
    ];
    agent.swap(&all, minute(4));
    assert_eq!(agent.take_alerts(), []);
    // The indicator is valid from now on, without a new set.
    agent.detection.tick(minute(5), &mut agent.alerts);
    assert_eq!(agent.take_alerts(), [retro("early", 1, 0)]);
}

#[test]
fn a_nat_mapping_is_matched_later() {
    let state = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(state.path(), &[], minute(0));
    let translated = NatMapping {
        local_ip: "192.0.2.1".parse().unwrap(),
        local_port: 50_000,
        remote_ip: "203.0.113.5".parse().unwrap(),
        remote_port: 8443,
    };
    agent.observe(flow(minute(0), "10.96.0.1", 1));
    let phase = Phase::Translated;
    agent.observe(Flow { phase, translated: Some(translated), ..flow(minute(0), "10.96.0.1", 1) });
    agent.swap(&[indicator("c2", "203.0.113.5")], minute(1));
    assert_eq!(agent.take_alerts(), [retro("c2", 1, 0)]);
}

#[test]
fn a_failed_write_loses_no_live_alert_and_is_counted() {
    let state = tempfile::tempdir().unwrap();
    let c2 = [indicator("c2", "203.0.113.5")];
    let mut agent = Agent::start(state.path(), &c2, minute(0));
    std::fs::remove_dir_all(state.path().join("history")).unwrap();
    agent.observe(flow(minute(0), "203.0.113.5", 1));
    agent.observe(flow(minute(0), "203.0.113.6", 1));
    assert_eq!(agent.take_alerts(), [new("c2")]);
    assert_eq!(agent.stats.history_writes_failed.value(), 2);
    std::fs::create_dir(state.path().join("history")).unwrap();
    agent.observe(flow(minute(1), "203.0.113.6", 1));
    agent.swap(&[indicator("later", "203.0.113.6")], minute(2));
    assert_eq!(agent.take_alerts(), [retro("later", 1, 0)]);
}

#[test]
fn the_oldest_entries_are_evicted_and_counted() {
    let state = tempfile::tempdir().unwrap();
    let config = HistoryConfig { max_entries: 80, ..CONFIG };
    let mut agent = Agent::with(state.path(), config, &[], minute(0));
    for number in 0..200_u8 {
        let remote = IpAddr::from([203, 0, 113, number]).to_string();
        agent.observe(flow(minute(0), &remote, 1));
    }
    let files = || std::fs::read_dir(state.path().join("history")).unwrap().count();
    assert!(files() <= 9, "{}", files());
    agent.swap(&[indicator("all", "203.0.113.0/24")], minute(1));
    let alerts = agent.take_alerts();
    let evicted = agent.stats.history_entries_evicted.value();
    assert_eq!(alerts.len() as u64 + evicted, 200);
    assert!((70..=80).contains(&alerts.len()), "{}", alerts.len());
    // Files older than the look-back period are removed.
    agent.observe(flow(minute(100), "203.0.113.1", 1));
    agent.detection.tick(minute(200), &mut agent.alerts);
    assert!(files() <= 1);
}

proptest! {
    /// Records before the damage are used.
    #[test]
    fn records_before_a_cut_or_damage_are_used(at in 0_usize..1500, bit in 0..8_u8, cut: bool) {
        let state = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(state.path(), &[], minute(0));
        for number in 0..5_u8 {
            agent.observe(flow(minute(0), &IpAddr::from([203, 0, 113, number]).to_string(), 1));
        }
        drop(agent);
        let file = std::fs::read_dir(state.path().join("history")).unwrap().next().unwrap().unwrap();
        let mut bytes = std::fs::read(file.path()).unwrap();
        // Five entries with a connection each, all of the same length.
        let each = bytes.len() / 5;
        let at = at % bytes.len();
        if cut { bytes.truncate(at); } else { bytes[at] ^= 1 << bit; }
        std::fs::write(file.path(), &bytes).unwrap();
        let mut agent = Agent::start(state.path(), &[], minute(1));
        agent.observe(flow(minute(1), "203.0.113.9", 1));
        agent.swap(&[indicator("all", "203.0.113.0/24")], minute(2));
        prop_assert_eq!(agent.take_alerts().len(), at / each + 1);
    }
}
