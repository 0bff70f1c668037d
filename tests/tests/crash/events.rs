//! The events: the n-th connection of a host is the same in every run.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sensor_user::base::counters::Stats;
use sensor_user::base::protocol::Protocol;
use sensor_user::intel::{Indicator, IndicatorSet, parse_prefix};
use sensor_user::pipeline::aggregate::{Attribution, Change, ChangeKind, Direction, Flow, Phase};
use sensor_user::pipeline::dedup::{Alert, Dedup, DedupState};
use sensor_user::pipeline::enrich::Process;
use sensor_user::pipeline::matcher::{AllowList, Matcher};
use sensor_user::pipeline::{Detection, PipelineOutput};
use sensor_user::schema::TableRow;
use serde_json::Value;

/// Number of indicators, each with one address.
const INDICATORS: u64 = 40;
/// Time between two events.
const STEP: SignedDuration = SignedDuration::from_millis(250);
/// The dedup window: each key has several within the events of a run.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// The stages behind the connection table, with a dedup state that survives a kill.
pub(super) fn detection() -> Detection {
    let stats = Arc::<Stats>::default();
    let indicators = (0..INDICATORS).map(|number| {
        let blank = Indicator::blank(parse_prefix(&format!("203.0.113.{number}")).unwrap());
        Arc::new(Indicator { id: format!("id-{number}"), feed: "feed".into(), ..blank })
    });
    let set = Arc::new(Arc::new(IndicatorSet::from_indicators(indicators.collect())).into());
    let matcher = Matcher::new(set, AllowList::default(), HashSet::new(), Arc::clone(&stats));
    let dedup = Dedup::new("agent".to_owned(), WINDOW, 30, Arc::clone(&stats)).with_state();
    Detection::new(None, matcher, None, dedup, stats)
}

pub(super) fn time(number: u64) -> Timestamp {
    let start: Timestamp = "2026-11-24T10:00:00.5Z".parse().unwrap();
    start + STEP * i32::try_from(number).unwrap()
}

/// The n-th connection: some addresses are frequent, some occur once.
pub(super) fn event(number: u64) -> Change {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let host = if mixed.is_multiple_of(3) { mixed % 3 } else { mixed % INDICATORS };
    let name = ["curl", "sh\u{1b}[31m"][usize::try_from(mixed / 7 % 2).unwrap()];
    let process = Process { name: name.to_owned(), pid: Some(7), ..Process::default() };
    let flow = Flow {
        time: time(number),
        phase: Phase::Opened,
        computer: "host.example.net".into(),
        direction: Direction::Outbound,
        protocol: Protocol::Tcp,
        local: "10.0.0.4".parse().unwrap(),
        local_port: u16::try_from(number % 60_000).ok(),
        remote: format!("203.0.113.{host}").parse().unwrap(),
        remote_port: Some(443),
        process: Arc::new(process),
        attribution: Attribution::Connect,
        connections: 1,
        preexisting: false,
        translated: None,
        bytes_sent: 0,
        bytes_received: 0,
    };
    Change::new(ChangeKind::Opened, flow, number, 0)
}

/// The first connection, with some bytes, for repeated hits.
pub(super) fn repeated_event() -> Change {
    let mut change = event(0);
    (change.flow.bytes_sent, change.flow.bytes_received) = (3, 5);
    change
}

/// Ends every dedup window.
pub(super) fn end_windows(detection: &mut Detection, events: u64, output: &mut dyn PipelineOutput) {
    detection.tick(time(events) + WINDOW, output);
}

#[derive(Default)]
struct Collected(BTreeMap<String, Value>);

impl PipelineOutput for Collected {
    fn alerts(&mut self, alerts: Vec<Alert>, _state: Option<DedupState>) {
        for alert in alerts {
            let json = serde_json::to_value(&alert).unwrap();
            let other = self.0.insert(alert.alert_id, json);
            assert_eq!(other, None, "two alerts with one id");
        }
    }

    fn rows(&mut self, _rows: Vec<TableRow>) {}
}

/// The alerts of an uninterrupted run, by `AlertId`.
pub(super) fn uninterrupted(events: u64) -> BTreeMap<String, Value> {
    let (mut detection, mut collected) = (detection(), Collected::default());
    for number in 0..events {
        detection.observe(&event(number), &mut collected);
        detection.tick(time(number), &mut collected);
    }
    end_windows(&mut detection, events, &mut collected);
    collected.0
}
