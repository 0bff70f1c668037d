//! History and open dedup windows of the fixture, with the clock at the time of the fixture.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use sensor_ebpf::record::RecordKind;
use sensor_tests::records::{TaskBytes, TcpBytes, exec};
use sensor_user::base::clock::{BootClock, FixedClock};
use sensor_user::base::counters::Stats;
use sensor_user::deliver::spool::{Spool, SpoolConfig};
use sensor_user::intel::{Indicator, IndicatorSet, parse_prefix};
use sensor_user::pipeline::aggregate::{ConnectionTable, UdpTable};
use sensor_user::pipeline::dedup::{Alert, AlertKind, Dedup, DedupState as Saved};
use sensor_user::pipeline::enrich::Enricher;
use sensor_user::pipeline::history::{History, HistoryConfig};
use sensor_user::pipeline::matcher::{AllowList, Matcher};
use sensor_user::pipeline::{Detection, Ingest, PipelineOutput};
use sensor_user::schema::TableRow;
use serde_json::Value;

use super::{SINKS, State, ids, lines, sorted, written};

const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// An address whose window is open, and the client of the fixture.
const REMOTE: &str = "203.0.113.7";
const LOCAL: (&str, u16) = ("198.51.100.9", 40_000);

#[derive(Default)]
struct Collected(Vec<Alert>);

impl PipelineOutput for Collected {
    fn alerts(&mut self, alerts: Vec<Alert>, _state: Option<Saved>) {
        self.0.extend(alerts);
    }

    fn rows(&mut self, _rows: Vec<TableRow>) {}
}

impl Collected {
    fn take(&mut self) -> Vec<Alert> {
        std::mem::take(&mut self.0)
    }
}

/// The set of all indicators that these alerts of the fixture name.
fn indicators(alerts: &[Value]) -> IndicatorSet {
    let mut known = HashSet::new();
    let of = |alert: &Value| {
        let text = |name: &str| alert[name].as_str().unwrap().to_owned();
        let (feed, id, prefix) = (text("Feed"), text("IndicatorId"), text("MatchedPrefix"));
        let prefix = parse_prefix(&prefix).unwrap();
        known.insert((feed.clone(), id.clone(), prefix)).then(|| {
            Arc::new(Indicator { id, feed: feed.as_str().into(), ..Indicator::blank(prefix) })
        })
    };
    IndicatorSet::from_indicators(alerts.iter().filter_map(of).collect())
}

/// The pipeline behind the kernel probes, restored from the state as at a start of the agent.
struct Stages {
    ingest: Ingest,
    detection: Detection,
    set: Arc<ArcSwap<IndicatorSet>>,
}

impl Stages {
    fn open(state: &State, now: Timestamp, alerts: &[Value]) -> Self {
        let stats = Arc::new(Stats::default());
        let sinks = SINKS.map(str::to_owned);
        let spool = state.path().join("spool");
        let (spool, recovered) =
            Spool::open(&spool, &SpoolConfig::USUAL, &sinks, Arc::new(FixedClock(now)), &stats)
                .unwrap();
        assert!(spool.close(Duration::from_secs(30)));
        assert_eq!(recovered.repairs, [""; 0]);
        let agent = std::fs::read_to_string(state.path().join("agent-id")).unwrap();
        let agent = agent.trim_end().to_owned();
        let mut dedup = Dedup::new(agent, WINDOW, 100, Arc::clone(&stats)).with_state();
        let saved: Vec<Vec<u8>> = recovered.snapshot.into_iter().chain(recovered.changes).collect();
        dedup.restore(&saved).unwrap();
        let history =
            History::open(&state.path(), HistoryConfig::USUAL, now, Arc::clone(&stats)).unwrap();
        let set = Arc::new(ArcSwap::from_pointee(indicators(alerts)));
        let none: [&str; 0] = [];
        let allow = AllowList::new(none.iter().map(|text| text.parse().unwrap()));
        let matcher = Matcher::new(Arc::clone(&set), allow, HashSet::new(), Arc::clone(&stats));
        let nowhere = Path::new("/nonexistent");
        let enricher = Enricher::new(nowhere, nowhere, 100, Arc::clone(&stats));
        let computer: Arc<str> = "web01.example.net".into();
        let connections = ConnectionTable::new(Arc::clone(&computer), 100, Arc::clone(&stats));
        let flows = UdpTable::new(computer, 100, Duration::from_mins(1), Arc::clone(&stats));
        Self {
            ingest: Ingest::new(enricher, connections, flows, Arc::clone(&stats)),
            detection: Detection::new(None, matcher, Some(history), dedup, stats),
            set,
        }
    }

    /// A connection of curl to [`REMOTE`] at `now`.
    fn connect(&mut self, now: Timestamp, collected: &mut Collected) {
        let task = TaskBytes { tgid: 42, comm: "curl", ..TaskBytes::default() };
        let tcp = |kind, boot_ns| {
            let bytes = TcpBytes::new(kind, 1, LOCAL, (REMOTE, 80));
            TcpBytes { boot_ns, task: task.clone(), ..bytes }
        };
        let clock = BootClock::with_offset_ns(now.as_nanosecond());
        let mut changes = Vec::new();
        for bytes in [
            exec(&task, 1, "/usr/bin/curl", &["curl", "http://203.0.113.7/"]),
            tcp(RecordKind::TcpConnect, 2).bytes(),
            TcpBytes { old_state: 2, ..tcp(RecordKind::TcpEstablished, 3) }.bytes(),
            tcp(RecordKind::TcpClose, 4).bytes(),
        ] {
            self.ingest.record(&bytes, &clock, &mut changes);
        }
        assert!(!changes.is_empty());
        for change in changes {
            self.detection.observe(&change, collected);
        }
    }
}

fn after(minutes: i64) -> Timestamp {
    written().checked_add(SignedDuration::from_mins(minutes)).unwrap()
}

fn ids_of(alerts: &[Alert]) -> Vec<String> {
    sorted(alerts.iter().map(|alert| alert.alert_id.clone()).collect())
}

#[test]
fn the_history_alerts_on_a_late_indicator_and_on_nothing_that_it_reported_before() {
    let state = State::new();
    let (known, late) = (lines("expected/alerts.jsonl"), lines("expected/retro.jsonl"));
    let mut collected = Collected::default();
    let mut stages = Stages::open(&state, after(1), &known);
    stages.detection.tick(after(1), &mut collected);
    assert_eq!(ids_of(&collected.take()), [""; 0], "all of these were reported");

    let all: Vec<Value> = known.iter().chain(&late).cloned().collect();
    stages.set.store(Arc::new(indicators(&all)));
    stages.detection.tick(after(2), &mut collected);
    let alerts = collected.take();
    assert_eq!(ids_of(&alerts), sorted(ids(&late)));
    for alert in &alerts {
        let expected = late.iter().find(|it| it["AlertId"] == alert.alert_id.as_str()).unwrap();
        let alert = serde_json::to_value(alert).unwrap();
        for (column, value) in expected.as_object().unwrap() {
            assert_eq!(&alert[column], value, "{column} of {alert}");
        }
    }

    // The history records these reports too.
    stages.detection.tick(after(3), &mut collected);
    drop(stages);
    let mut stages = Stages::open(&state, after(4), &all);
    stages.detection.tick(after(4), &mut collected);
    assert_eq!(ids_of(&collected.take()), [""; 0]);
}

#[test]
fn open_windows_go_on_and_end_in_the_alerts_of_the_earlier_build() {
    let state = State::new();
    let (known, summaries) = (lines("expected/alerts.jsonl"), lines("expected/summaries.jsonl"));
    let mut collected = Collected::default();
    let mut stages = Stages::open(&state, after(1), &known);
    stages.connect(after(1), &mut collected);
    stages.detection.tick(after(30), &mut collected);
    assert_eq!(ids_of(&collected.take()), [""; 0], "the open window counts it");

    stages.detection.tick(after(120), &mut collected);
    let alerts = collected.take();
    assert!(alerts.iter().all(|alert| alert.alert_kind == AlertKind::Summary));
    let count = |it: &Value| {
        let further = u64::from(it["RemoteIp"] == REMOTE);
        it["ConnectionCount"].as_u64().unwrap() + further
    };
    let expected: BTreeMap<String, u64> =
        ids(&summaries).into_iter().zip(summaries.iter().map(count)).collect();
    let found: BTreeMap<String, u64> =
        alerts.iter().map(|it| (it.alert_id.clone(), it.connection_count)).collect();
    assert_eq!(found, expected);
    let remote: IpAddr = REMOTE.parse().unwrap();
    assert!(alerts.iter().any(|it| it.remote_ip == remote.to_string()));
}
