//! Kills at any time: the alerts are those of a run without kills.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::super::alert::{Alert, AlertKind};
use super::super::window::Dedup;
use super::{DedupState, StateError};
use crate::base::counters::Stats;
use crate::base::protocol::Protocol;
use crate::intel::{Indicator, parse_prefix};
use crate::pipeline::aggregate::{Attribution, Direction, Flow, Phase};
use crate::pipeline::enrich::Process;
use crate::pipeline::matcher::{Hit, Via};

const WINDOW: SignedDuration = SignedDuration::from_secs(60);

fn dedup() -> Dedup {
    Dedup::new("agent".to_owned(), WINDOW, 3, Arc::<Stats>::default()).with_state()
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_790_000_000 + second, 123_456_789).unwrap()
}

fn hit(number: u8, description: &str) -> Hit {
    let blank = Indicator::blank(parse_prefix("203.0.113.0/24").unwrap());
    let indicator = Indicator {
        id: format!("indicator-{number}"),
        feed: "feed".into(),
        description: description.to_owned(),
        expires: Some(at(1_000_000)),
        ..blank
    };
    let address = "203.0.113.7".parse().unwrap();
    Hit { indicator: Arc::new(indicator), via: Via::Direct, address }
}

fn flow(second: i64, phase: Phase, bytes: u64) -> Flow {
    Flow {
        time: at(second),
        phase,
        computer: "host.example".into(),
        direction: Direction::Outbound,
        protocol: Protocol::Tcp,
        local: "10.0.0.4".parse().unwrap(),
        local_port: Some(40_000),
        remote: "203.0.113.7".parse().unwrap(),
        remote_port: Some(443),
        process: Arc::new(Process { name: "curl\u{1b}".into(), ..Process::default() }),
        attribution: Attribution::Connect,
        connections: u64::from(phase == Phase::Opened),
        preexisting: false,
        translated: None,
        bytes_sent: bytes,
        bytes_received: 2 * bytes,
    }
}

#[derive(Debug, Clone)]
enum Event {
    Hit {
        wait: u8,
        indicator: u8,
        text: u8,
        bytes: u8,
        opens: bool,
    },
    /// The state is saved as a change.
    Save,
    Snapshot,
    Kill,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0_u8..30, 0_u8..5, 0_u8..2, 0_u8..9, any::<bool>()).prop_map(
            |(wait, indicator, text, bytes, opens)| Event::Hit { wait, indicator, text, bytes, opens }
        ),
        3 => Just(Event::Save),
        1 => Just(Event::Snapshot),
        2 => Just(Event::Kill),
    ]
}

/// Disk with the last snapshot and the changes after it.
#[derive(Default)]
struct Disk(Vec<Vec<u8>>);

impl Disk {
    fn write(&mut self, state: Option<DedupState>) {
        match state {
            None => {}
            Some(DedupState::Change(bytes)) => self.0.push(bytes),
            Some(DedupState::Snapshot(bytes)) => self.0 = vec![bytes],
        }
    }
}

fn run(events: &[Event], kills: bool) -> (Vec<Alert>, u64) {
    let (mut dedup, mut disk, mut alerts, mut now) = (dedup(), Disk::default(), Vec::new(), 0);
    for event in events {
        match event {
            Event::Hit { wait, indicator, text, bytes, opens } => {
                now += i64::from(*wait);
                let phase = if *opens { Phase::Opened } else { Phase::Closed };
                let hit = hit(*indicator, ["one", "two"][usize::from(*text)]);
                dedup.admit(&hit, &flow(now, phase, u64::from(*bytes)), &mut alerts);
                // Alerts are written with the state after them.
                disk.write(dedup.take_change());
            }
            Event::Save => disk.write(dedup.take_change()),
            Event::Snapshot => disk.write(Some(dedup.take_snapshot())),
            Event::Kill if kills => {
                dedup = super::tests::dedup();
                dedup.restore(&disk.0).unwrap();
                assert!(dedup.take_change().is_none(), "restored windows are saved already");
            }
            Event::Kill => {}
        }
    }
    dedup.close_all(&mut alerts);
    (alerts, dedup.admitted())
}

proptest! {
    #[test]
    fn kills_change_no_alert_and_no_count(events in proptest::collection::vec(event(), 1..80)) {
        let (undisturbed, hits) = run(&events, false);
        let (alerts, admitted) = run(&events, true);
        prop_assert_eq!(&alerts, &undisturbed);
        prop_assert_eq!(admitted, hits);
        let counted: u64 = alerts.iter().map(|alert| alert.connection_count).sum();
        prop_assert_eq!(counted, hits, "each hit is in one alert");
    }
}

#[test]
fn invalid_bytes_are_refused_and_earlier_state_is_kept() {
    let mut first = dedup();
    let mut alerts = Vec::new();
    first.admit(&hit(1, ""), &flow(0, Phase::Opened, 0), &mut alerts);
    let DedupState::Snapshot(good) = first.take_snapshot() else { panic!() };
    let mut other = good.clone();
    other[0] = 99;
    for bad in [vec![], vec![1, 2, 3], other, good[..good.len() - 1].to_vec()] {
        let mut dedup = dedup();
        assert_eq!(dedup.restore(&[good.clone(), bad]), Err(StateError));
        assert_eq!(dedup.len(), 1);
        dedup.admit(&hit(1, ""), &flow(1, Phase::Opened, 0), &mut alerts);
        assert_eq!(alerts.len(), 1, "the window is still open");
    }
}

#[test]
fn a_window_that_ended_while_the_agent_was_down_is_summarised_with_the_same_id() {
    let (mut first, mut alerts) = (dedup(), Vec::new());
    for second in [0, 10] {
        first.admit(&hit(1, ""), &flow(second, Phase::Opened, 5), &mut alerts);
    }
    let DedupState::Snapshot(saved) = first.take_snapshot() else { panic!() };
    let mut expected = Vec::new();
    first.close_all(&mut expected);
    let (mut later, mut summaries) = (dedup(), Vec::new());
    later.restore(&[saved]).unwrap();
    later.expire(at(3600), &mut summaries);
    assert_eq!(summaries, expected);
    assert_eq!((summaries[0].alert_kind, summaries[0].connection_count), (AlertKind::Summary, 1));
    assert!(matches!(later.take_change(), Some(DedupState::Change(_))), "the close is saved");
}
