//! Conservation: for any connections, reported in any valid order, no count is lost or added, and
//! the gauge of live connections follows from the counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::super::flow::{Attribution, Direction, Flow, Phase};
use super::super::malicious::no_indicator;
use super::*;
use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::response_times::ResponseTimes;
use crate::pipeline::enrich::Process;

/// A connection: its key, its open (ms), and its later changes (ms later, bytes).
#[derive(Debug, Clone)]
struct Life {
    key: u8,
    begins: u32,
    steps: Vec<(u32, u16)>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fails,
    Closes,
    Never,
}

fn life(keys: u8) -> impl Strategy<Value = Life> {
    let end = prop_oneof![Just(End::Fails), Just(End::Closes), Just(End::Closes), Just(End::Never)];
    let steps = proptest::collection::vec((0..90_000_u32, any::<u16>()), 0..5);
    (0..keys, 0..400_000_u32, steps, end).prop_map(|(key, begins, steps, end)| Life {
        key,
        begins,
        steps,
        end,
    })
}

/// Changes of a connection, with times in ms.
fn changes_of(number: u64, life: &Life) -> Vec<(u32, Change)> {
    let mut time = life.begins;
    let mut all = vec![(time, change(ChangeKind::Opened, number, life.key, (time, 0)))];
    if life.end == End::Fails {
        time += 10;
        all.push((time, change(ChangeKind::Failed, number, life.key, (time, 0))));
        return all;
    }
    time += 5;
    all.push((time, change(ChangeKind::Established, number, life.key, (time, 0))));
    for (wait, bytes) in &life.steps {
        time += wait;
        all.push((time, change(ChangeKind::Active, number, life.key, (time, u64::from(*bytes)))));
    }
    if life.end == End::Closes {
        time += 7;
        all.push((time, change(ChangeKind::Closed, number, life.key, (time, 11))));
    }
    all
}

fn change(kind: ChangeKind, number: u64, key: u8, (ms, bytes): (u32, u64)) -> Change {
    let executable = format!("/bin/{}", key % 3);
    let flow = Flow {
        time: at(ms),
        phase: Phase::Opened,
        computer: "host.example".into(),
        direction: if key.is_multiple_of(2) { Direction::Outbound } else { Direction::Inbound },
        protocol: Protocol::Tcp,
        local: "192.0.2.1".parse().unwrap(),
        local_port: Some(40_000),
        remote: [198, 51, 100, key].into(),
        remote_port: Some(443),
        process: Arc::new(Process { path: executable, ..Process::default() }),
        attribution: Attribution::Connect,
        connections: 1,
        preexisting: false,
        translated: None,
        bytes_sent: bytes,
        bytes_received: bytes * 2,
    };
    let mut responses = ResponseTimes::NONE;
    if matches!(kind, ChangeKind::Active | ChangeKind::Closed) {
        for response in 0..bytes % 4 {
            responses.add(&ResponseTimes::single(bytes * 7 + response * 333));
        }
    }
    Change { rtt_us: 100 + u32::from(key), responses, ..Change::new(kind, flow, number, 0) }
}

fn at(ms: u32) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_millis(u64::from(ms))
}

/// Established, terminated, failed, bytes sent, bytes received, responses.
type Sums = [u64; 6];

fn add(sums: &mut Sums, more: Sums) {
    for (sum, it) in sums.iter_mut().zip(more) {
        *sum += it;
    }
}

/// Sums of the changes of each key.
fn sums_of_changes(changes: &[&Change]) -> BTreeMap<String, Sums> {
    let mut all: BTreeMap<String, Sums> = BTreeMap::new();
    for change in changes.iter().filter(|change| change.kind != ChangeKind::Opened) {
        let is = |kind| u64::from(change.kind == kind);
        let (up, down, failed) =
            (is(ChangeKind::Established), is(ChangeKind::Closed), is(ChangeKind::Failed));
        let sums = all.entry(change.flow.remote.to_string()).or_default();
        let (flow, responses) = (&change.flow, change.responses.count);
        add(sums, [up, down, failed, flow.bytes_sent, flow.bytes_received, responses]);
    }
    all
}

/// Sums of the rows of each key.
fn sums_of_rows(rows: &[ConnectionRow]) -> BTreeMap<String, Sums> {
    let mut all: BTreeMap<String, Sums> = BTreeMap::new();
    for row in rows {
        let (up, down, failed) = (row.links_established, row.links_terminated, row.links_failed);
        let sums = all.entry(row.remote_ip.clone()).or_default();
        let responses = row.responses.unwrap_or(0);
        add(sums, [up, down, failed, row.bytes_sent, row.bytes_received, responses]);
    }
    all
}

/// Returns the rows of the changes (each with the clock at that time), the positions of the excluded
/// changes, and the counters of the table.
fn run(
    changes: &[(u32, Change)],
    max_keys: usize,
) -> (Vec<ConnectionRow>, HashSet<usize>, Arc<Stats>) {
    let identity = RowIdentity {
        computer: "host.example".into(),
        agent_id: "id".into(),
        ..RowIdentity::default()
    };
    let stats = Arc::new(Stats::default());
    let mut table = RowTable::new(identity, max_keys, Arc::clone(&stats));
    let (mut rows, mut excluded) = (Vec::new(), HashSet::new());
    for (index, (now, change)) in changes.iter().enumerate() {
        rows.extend(table.close_until(at(*now), &no_indicator));
        let before = stats.row_keys_dropped_full.value();
        table.observe(change);
        if stats.row_keys_dropped_full.value() > before {
            excluded.insert(index);
        }
    }
    loop {
        rows.extend(table.close_all(&no_indicator));
        if !table.is_behind() {
            return (rows, excluded, stats);
        }
    }
}

proptest! {
    #[test]
    fn no_count_is_lost_and_the_gauge_follows_from_the_counts(
        lives in proptest::collection::vec(life(12), 1..40),
        // Delays of the changes, in a cycle.
        delays in proptest::collection::vec(prop_oneof![Just(0), 0..1500_u32, 0..90_000_u32], 1..20),
        max_keys in prop_oneof![Just(100_usize), 1..8_usize],
    ) {
        let mut all: Vec<(u32, Change)> = Vec::new();
        let mut delay = delays.iter().cycle();
        for (number, life) in (1..).zip(&lives) {
            // Late or not, the changes of a connection are in order.
            let mut now = 0;
            for (time, change) in changes_of(number, life) {
                now = now.max(time + delay.next().unwrap());
                all.push((now, change));
            }
        }
        all.sort_by_key(|(now, _)| *now);
        let (rows, excluded, stats) = run(&all, max_keys);

        // A connection is excluded from open to close, or not at all.
        let mut fates: HashMap<u64, HashSet<bool>> = HashMap::new();
        for (index, (_, change)) in all.iter().enumerate() {
            if !matches!(change.kind, ChangeKind::Opened) {
                fates.entry(change.number).or_default().insert(excluded.contains(&index));
            }
        }
        prop_assert!(fates.values().all(|fate| fate.len() == 1), "{fates:?}");
        prop_assert!(max_keys < 100 || excluded.is_empty());

        // Each sum over all minutes is that of the connections that were not excluded.
        let counted = all.iter().enumerate().filter(|(index, _)| !excluded.contains(index));
        let counted: Vec<&Change> = counted.map(|(_, (_, change))| change).collect();
        let truth = sums_of_changes(&counted);
        let found = sums_of_rows(&rows);
        prop_assert_eq!(&found, &truth);
        for row in &rows {
            let times = (row.response_time_min, row.response_time_sum, row.response_time_max);
            match (row.responses, times) {
                (None, (None, None, None)) => {}
                (Some(count), (Some(min), Some(sum), Some(max))) => {
                    prop_assert!(min * count <= sum && sum <= max * count, "{row:?}");
                }
                _ => prop_assert!(false, "response times without responses: {row:?}"),
            }
        }
        prop_assert_eq!(stats.row_ends_unmatched.value(), 0);

        // The gauge, minute by minute; no row is missing while a connection is open.
        let mut gauges: HashMap<&str, (i64, u64)> = HashMap::new();
        let last = rows.iter().map(|row| row.time_generated).max().unwrap_or_default();
        for row in &rows {
            let minute = minute_of(row.time_generated);
            let before = gauges.get(&*row.remote_ip).copied();
            if let Some((minute_before, live)) = before {
                prop_assert!(minute > minute_before, "in order, once a minute");
                prop_assert!(live == 0 || minute == minute_before + 1, "a row is missing");
            }
            let live = before.map_or(0, |(_, live)| live) + row.links_established;
            prop_assert_eq!(row.links_live, live - row.links_terminated);
            gauges.insert(&row.remote_ip, (minute, row.links_live));
        }
        for (key, (minute, live)) in gauges {
            let sums = truth[key];
            prop_assert_eq!(live, sums[0] - sums[1], "open at the end");
            prop_assert!(live == 0 || minute == minute_of(last), "open, but without a last row");
        }
        let ids: HashSet<&str> = rows.iter().map(|row| row.connection_id.as_str()).collect();
        prop_assert_eq!(ids.len(), rows.len(), "ids are unique");
    }
}
