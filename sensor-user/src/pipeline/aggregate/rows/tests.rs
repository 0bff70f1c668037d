//! Minutes and the rows of a change, with clock steps and many keys.

use std::net::IpAddr;

use super::super::flow::{Attribution, Direction, Flow, NatMapping, Phase};
use super::super::malicious::{RowIndicator, RowRemote, no_indicator};
use super::*;
use crate::base::protocol::Protocol;
use crate::intel::{Indicator, parse_prefix};
use crate::pipeline::enrich::Process;

fn table(max_keys: usize) -> RowTable {
    let identity = RowIdentity {
        computer: "host.example".into(),
        agent_id: "id".into(),
        ..RowIdentity::default()
    };
    RowTable::new(identity, max_keys, Arc::new(Stats::default()))
}

pub(super) fn change(kind: ChangeKind, second: i64, remote: &str, bytes_sent: u64) -> Change {
    let flow = Flow {
        time: Timestamp::from_second(second).unwrap(),
        phase: Phase::Opened,
        computer: "host.example".into(),
        direction: Direction::Outbound,
        protocol: Protocol::Tcp,
        local: "192.0.2.1".parse().unwrap(),
        local_port: Some(40_000),
        remote: remote.parse().unwrap(),
        remote_port: Some(443),
        process: Arc::new(Process { name: "curl".into(), ..Process::default() }),
        attribution: Attribution::Connect,
        connections: 1,
        preexisting: false,
        translated: None,
        bytes_sent,
        bytes_received: 0,
    };
    Change::new(kind, flow, 1, 0)
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn links(rows: &[ConnectionRow]) -> Vec<(i64, u64, u64, u64, u64)> {
    rows.iter()
        .map(|row| {
            let minute = minute_of(row.time_generated);
            let (up, down) = (row.links_established, row.links_terminated);
            (minute, up, down, row.links_failed, row.links_live)
        })
        .collect()
}

#[test]
fn an_open_connection_has_a_row_in_every_minute_of_its_life() {
    let mut table = table(10);
    table.observe(&change(ChangeKind::Established, 30, "198.51.100.7", 0));
    assert_eq!(table.close_until(at(61), &no_indicator), []);
    assert_eq!(links(&table.close_until(at(62), &no_indicator)), [(0, 1, 0, 0, 1)]);
    assert_eq!(links(&table.close_until(at(122), &no_indicator)), [(1, 0, 0, 0, 1)]);
    table.observe(&change(ChangeKind::Closed, 130, "198.51.100.7", 500));
    let rows = table.close_until(at(182), &no_indicator);
    assert_eq!(links(&rows), [(2, 0, 1, 0, 0)]);
    assert_eq!(rows[0].bytes_sent, 500);
    assert_eq!(table.close_until(at(600), &no_indicator), []);
}

#[test]
fn the_same_input_gives_the_same_ids() {
    let rows = |_: u8| {
        let mut table = table(10);
        table.observe(&change(ChangeKind::Failed, 30, "2001:db8::7", 0));
        table.close_all(&no_indicator)
    };
    assert_eq!(rows(1), rows(2));
    assert_eq!(links(&rows(1)), [(0, 0, 0, 1, 0)]);
}

#[test]
fn a_late_change_is_counted_in_the_next_minute() {
    let mut table = table(10);
    table.observe(&change(ChangeKind::Established, 30, "198.51.100.7", 0));
    table.close_until(at(62), &no_indicator);
    table.observe(&change(ChangeKind::Closed, 59, "198.51.100.7", 0));
    assert_eq!(links(&table.close_until(at(122), &no_indicator)), [(1, 0, 1, 0, 0)]);
    assert_eq!(table.stats.row_changes_late.value(), 1);
}

#[test]
fn a_key_too_many_is_counted() {
    let mut table = table(1);
    table.observe(&change(ChangeKind::Failed, 1, "198.51.100.7", 0));
    table.observe(&change(ChangeKind::Failed, 2, "198.51.100.8", 0));
    table.observe(&change(ChangeKind::Failed, 3, "198.51.100.7", 0));
    assert_eq!(links(&table.close_all(&no_indicator)), [(0, 0, 0, 2, 0)]);
    assert_eq!(table.stats.row_keys_dropped_full.value(), 1);
}

#[test]
fn a_connection_that_found_no_room_is_in_no_row_to_its_end() {
    let mut table = table(1);
    let numbered = |number, it: Change| Change { number, ..it };
    table.observe(&numbered(1, change(ChangeKind::Established, 1, "198.51.100.7", 0)));
    table.observe(&numbered(2, change(ChangeKind::Established, 2, "198.51.100.8", 0)));
    assert_eq!(links(&table.close_until(at(62), &no_indicator)), [(0, 1, 0, 0, 1)]);
    // The minute is full again when both close: the one that was counted finds room.
    table.observe(&change(ChangeKind::Failed, 63, "198.51.100.9", 0));
    table.observe(&numbered(2, change(ChangeKind::Closed, 64, "198.51.100.8", 0)));
    table.observe(&numbered(1, change(ChangeKind::Closed, 65, "198.51.100.7", 0)));
    assert_eq!(
        links(&table.close_until(at(122), &no_indicator)),
        [(1, 0, 1, 0, 0), (1, 0, 0, 1, 0)]
    );
    assert_eq!(table.stats.row_keys_dropped_full.value(), 2);
    assert_eq!(table.close_until(at(600), &no_indicator), []);
}

/// Observes a change of connection `number` at a minute and second.
fn observe(table: &mut RowTable, kind: ChangeKind, number: u64, (minute, second): (i64, i64)) {
    let bytes = u64::from(kind == ChangeKind::Active);
    let change = change(kind, minute * 60 + second, "198.51.100.7", bytes);
    table.observe(&Change { number, ..change });
}

/// Returns every row of the minutes that are closed at `now`.
fn flush(table: &mut RowTable, now: i64) -> Vec<ConnectionRow> {
    let mut now = at(now);
    let mut rows = table.close_until(now, &no_indicator);
    while table.is_behind() {
        now += BATCH_INTERVAL;
        rows.extend(table.close_until(now, &no_indicator));
    }
    rows
}

#[test]
fn a_clock_jump_ahead_or_a_suspend_skips_minutes_and_no_count() {
    let mut table = table(10);
    observe(&mut table, ChangeKind::Established, 1, (100, 30));
    // An hour later by the clock: changes before the jump, and changes after it.
    observe(&mut table, ChangeKind::Active, 1, (160, 5));
    let rows = flush(&mut table, 160 * 60 + 10);
    let mut expected = vec![(100, 1, 0, 0, 1)];
    expected.extend((150..160).map(|minute| (minute, 0, 0, 0, 1)));
    assert_eq!(links(&rows), expected);
    assert_eq!(table.stats.row_intervals_skipped.value(), 49);
    observe(&mut table, ChangeKind::Closed, 1, (160, 20));
    let rows = flush(&mut table, 161 * 60 + 2);
    assert_eq!(links(&rows), [(160, 0, 1, 0, 0)]);
    assert_eq!(rows[0].bytes_sent, 1);
    assert_eq!((table.stats.row_changes_late.value(), table.rounds), (0, 0));
    // Without open connections a year has no row, and nothing is skipped.
    assert_eq!(flush(&mut table, 60 * 60 * 24 * 365), []);
    assert_eq!(table.stats.row_intervals_skipped.value(), 49);
}

#[test]
fn a_clock_that_is_set_back_is_followed_and_no_count_is_lost() {
    let mut table = table(10);
    observe(&mut table, ChangeKind::Established, 1, (99, 30));
    assert_eq!(links(&flush(&mut table, 100 * 60 + 5)), [(99, 1, 0, 0, 1)]);
    observe(&mut table, ChangeKind::Active, 1, (100, 6));
    // Then the clock is set back by an hour; one change precedes the next call.
    observe(&mut table, ChangeKind::Active, 1, (40, 7));
    let rows = flush(&mut table, 40 * 60 + 8);
    assert_eq!(links(&rows), [(100, 0, 0, 0, 1)]);
    assert_eq!(rows[0].bytes_sent, 2);
    assert_eq!(table.stats.row_changes_late.value(), 1);
    assert_eq!(table.stats.clock_steps_backward.value(), 1);
    // Minutes continue at once; those that were emitted before are emitted again with other ids.
    observe(&mut table, ChangeKind::Active, 1, (40, 9));
    assert_eq!(links(&flush(&mut table, 41 * 60 + 2)), [(40, 0, 0, 0, 1)]);
    let mut again = flush(&mut table, 99 * 60 + 2);
    observe(&mut table, ChangeKind::Closed, 1, (99, 10));
    again.extend(flush(&mut table, 101 * 60 + 2));
    assert_eq!(links(&again).last(), Some(&(99, 0, 1, 0, 0)));
    let mut first = self::table(10);
    observe(&mut first, ChangeKind::Established, 1, (99, 30));
    let emitted_before = flush(&mut first, 100 * 60 + 5);
    let last = again.last().unwrap();
    assert_eq!(last.time_generated, emitted_before[0].time_generated);
    assert_ne!(last.connection_id, emitted_before[0].connection_id);
}

#[test]
fn a_clock_that_is_set_back_a_little_is_waited_for() {
    let mut table = table(10);
    observe(&mut table, ChangeKind::Established, 1, (99, 30));
    flush(&mut table, 100 * 60 + 5);
    observe(&mut table, ChangeKind::Closed, 1, (98, 50));
    assert_eq!(flush(&mut table, 98 * 60 + 51), []);
    assert_eq!(links(&flush(&mut table, 101 * 60 + 2)), [(100, 0, 1, 0, 0)]);
    assert_eq!(table.stats.row_changes_late.value(), 1);
    assert_eq!(table.stats.clock_steps_backward.value(), 0);
}

#[test]
fn a_close_that_precedes_its_open_is_counted_with_it() {
    let mut table = table(10);
    observe(&mut table, ChangeKind::Established, 1, (101, 0));
    table.next_minute = Some(100);
    observe(&mut table, ChangeKind::Closed, 1, (100, 59));
    let rows = flush(&mut table, 102 * 60 + 2);
    assert_eq!(links(&rows), [(100, 0, 0, 0, 0), (101, 1, 1, 0, 0)]);
    assert_eq!(table.stats.row_changes_late.value(), 1);
    // A close without an open is in no row.
    observe(&mut table, ChangeKind::Closed, 2, (102, 30));
    assert_eq!(links(&flush(&mut table, 103 * 60 + 2)), [(102, 0, 0, 0, 0)]);
    assert_eq!(table.stats.row_ends_unmatched.value(), 1);
    assert_eq!(flush(&mut table, 110 * 60), []);
}

#[test]
fn round_trip_times_are_those_of_the_minute() {
    let mut table = table(10);
    let with = |rtt_us, it: Change| Change { rtt_us, ..it };
    table.observe(&change(ChangeKind::Established, 1, "198.51.100.7", 0));
    for rtt_us in [300, 100, 200] {
        table.observe(&with(rtt_us, change(ChangeKind::Active, 2, "198.51.100.7", 0)));
    }
    table.observe(&with(50, change(ChangeKind::Closed, 61, "198.51.100.7", 0)));
    let rows = flush(&mut table, 200);
    let rtt = |row: &ConnectionRow| (row.rtt_min_us, row.rtt_max_us);
    assert_eq!(
        rows.iter().map(rtt).collect::<Vec<_>>(),
        [(Some(100), Some(300)), (Some(50), Some(50))]
    );
}

#[test]
fn random_times_open_a_limited_number_of_minutes() {
    let mut table = table(10);
    for number in 0..1000_u64 {
        let minute = i64::try_from(number).unwrap() * 1_000_003 % 7919;
        observe(&mut table, ChangeKind::Established, number, (minute, 0));
        assert!(table.minutes.len() <= MAX_OPEN_MINUTES);
    }
    let mut rows = table.close_all(&no_indicator);
    while table.is_behind() {
        rows.extend(table.close_all(&no_indicator));
    }
    assert_eq!(rows.iter().map(|row| row.links_established).sum::<u64>(), 1000);
}

/// (`benches/row_cardinality.rs` has a million.)
#[test]
fn many_keys_are_emitted_in_batches() {
    const KEYS: u64 = 20_000;
    let mut table = table(30_000);
    let mut change = change(ChangeKind::Failed, 30, "198.51.100.7", 1);
    for key in 0..KEYS {
        change.flow.remote = std::net::Ipv4Addr::from_bits(u32::try_from(key).unwrap()).into();
        table.observe(&change);
    }
    let (mut calls, mut rows, mut bytes) = (0, 0, 0);
    let mut now = at(62);
    loop {
        let made = table.close_until(now, &no_indicator);
        assert!(made.len() <= 1000, "{}", made.len());
        assert!(
            !table.is_behind() || table.close_until(now, &no_indicator).is_empty(),
            "not at once"
        );
        now += BATCH_INTERVAL;
        (calls, rows) = (calls + 1, rows + made.len() as u64);
        bytes += made.iter().map(|row| row.bytes_sent).sum::<u64>();
        if !table.is_behind() {
            break;
        }
    }
    assert_eq!((rows, bytes), (KEYS, KEYS));
    assert_eq!(calls, 21);
    assert_eq!(table.stats.row_keys_dropped_full.value(), 0);
}

/// Finds an indicator for the end behind NAT with this last byte.
fn indicator_of(last: u8) -> impl Fn(&RowRemote) -> Option<RowIndicator> {
    move |remote| {
        let address = remote.peer.translated?.ip();
        (address == IpAddr::from([203, 0, 113, last])).then(|| RowIndicator {
            indicator: Arc::new(Indicator::blank(parse_prefix(&address.to_string()).unwrap())),
            address,
        })
    }
}

fn behind(kind: ChangeKind, second: i64, last: u8) -> Change {
    let mut change = change(kind, second, "10.96.0.1", 0);
    change.flow.translated = Some(NatMapping {
        local_ip: change.flow.local,
        local_port: 40_000,
        remote_ip: [203, 0, 113, last].into(),
        remote_port: 8443,
    });
    change
}

#[test]
fn any_of_several_ends_behind_nat_flags_the_row_and_a_late_one_too() {
    let mut table = table(10);
    // A service with three backends; the connection to the first one stays open.
    for last in [7, 8, 9] {
        table.observe(&behind(ChangeKind::Established, 1, last));
    }
    for last in [8, 9] {
        table.observe(&behind(ChangeKind::Closed, 2, last));
    }
    let rows = table.close_until(at(62), &indicator_of(8));
    assert_eq!(rows[0].malicious_ip, "203.0.113.8");
    // A minute without traffic has the latest.
    assert_eq!(table.close_until(at(122), &indicator_of(9))[0].malicious_ip, "203.0.113.9");
    // The mapping of another connection arrives after its other changes.
    for kind in [ChangeKind::Established, ChangeKind::Closed] {
        table.observe(&change(kind, 130, "10.96.0.1", 5));
    }
    table.observe(&behind(ChangeKind::Translated, 130, 6));
    let rows = table.close_until(at(182), &indicator_of(6));
    assert_eq!((rows[0].malicious_ip.as_str(), rows[0].links_established), ("203.0.113.6", 1));
}

#[test]
fn too_many_ends_behind_nat_are_counted() {
    let mut table = table(10);
    for last in 1..=20 {
        table.observe(&behind(ChangeKind::Failed, 1, last));
    }
    assert_eq!(table.stats.row_mappings_evicted.value(), 4);
    assert_eq!(table.close_until(at(62), &indicator_of(5))[0].malicious_ip, "203.0.113.5");
}
