//! Random rows against the reference model: colliding ids, equal times, boundary times, texts that
//! are not addresses, nested networks, mapped addresses, input split into files at any position.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use sensor_tests::rule_reference::{
    self, ConnectionRow, ExpectedAlert, IndicatorRow, MINUTE, Ticks,
};
use sensor_user::pipeline::dedup::Alert;
use serde_json::{Value, json};

use super::{Files, RuleOutput, lines, now, run_rule};

const DAY: Ticks = 24 * 60 * MINUTE;
const WINDOW: Ticks = 60 * MINUTE;
const MEMORY: Ticks = 14 * DAY;
/// Names of the files that the rows are split into.
const FILES: [&str; 3] = ["one.json", "two.json", "three.json"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_output_equals_the_reference_model(
        mut indicators in prop::collection::vec(indicator(), 0..16),
        connections in prop::collection::vec(connection(), 0..24),
        cuts in cuts(),
    ) {
        number(&mut indicators, cuts);
        let connections = named(connections);
        let output = replay(&indicators, &connections, cuts, 0);
        let expected = rule_reference::expected_alerts(&indicators, &connections, (WINDOW, MEMORY));
        let found: Vec<ExpectedAlert> = output.alerts.iter().map(expected_of).collect();
        prop_assert_eq!(found, expected);
        let in_window = connections.iter().filter(|row| row.time >= -WINDOW).count();
        prop_assert_eq!(output.summary.rows, connections.len() as u64);
        prop_assert_eq!(output.summary.rows_in_window, in_window as u64);
        prop_assert_eq!(output.summary.rows_rejected, 0);
    }

    #[test]
    fn ids_of_alerts_are_unique_and_do_not_depend_on_files(
        indicators in prop::collection::vec(indicator(), 0..12),
        connections in prop::collection::vec(connection(), 0..16),
        cuts in cuts(),
    ) {
        let connections = named(connections);
        let ids = |cuts| -> Vec<String> {
            let mut indicators = indicators.clone();
            number(&mut indicators, cuts);
            let alerts = replay(&indicators, &connections, cuts, 0).alerts;
            alerts.into_iter().map(|alert| alert.alert_id).collect()
        };
        let found = ids(cuts);
        prop_assert_eq!(&found, &ids([0, 0]));
        let mut unique = found.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), found.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// Rows that are long enough for several reader threads.
    #[test]
    fn threads_do_not_change_the_output(
        mut indicators in prop::collection::vec(indicator(), 8..16),
        connections in prop::collection::vec(connection(), 30..40),
        cuts in cuts(),
    ) {
        const PADDING_BYTES: usize = 400_000;
        number(&mut indicators, cuts);
        let connections = named(connections);
        let output = replay(&indicators, &connections, cuts, PADDING_BYTES);
        let expected = rule_reference::expected_alerts(&indicators, &connections, (WINDOW, MEMORY));
        let found: Vec<ExpectedAlert> = output.alerts.iter().map(expected_of).collect();
        prop_assert_eq!(found, expected);
    }
}

fn indicator() -> impl Strategy<Value = IndicatorRow> {
    let times = vec![-MEMORY - 1, -MEMORY, -MEMORY + 1, -DAY, -MINUTE, 0, MINUTE];
    let expiries =
        vec![None, Some(-1), Some(0), Some(1), Some(5 * MINUTE), Some(DAY), Some(DAY), Some(DAY)];
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    let active = select(vec![None, Some(false), Some(true), Some(true), Some(true), Some(true)]);
    (
        select(vec!["", "a", "b", "c", "d"]),
        select(times),
        select(expiries),
        active,
        flags,
        prop::array::uniform5(entity()),
    )
        .prop_map(|(id, time, expires, active, (deleted, revoked), entities)| IndicatorRow {
            id: id.to_owned(),
            feed: String::new(),
            time,
            expires,
            active,
            deleted,
            revoked,
            entities: entities.map(str::to_owned),
        })
}

fn entity() -> impl Strategy<Value = &'static str> {
    let used = vec![
        "203.0.113.5",
        "203.0.113.5/32",
        "203.0.113.4/31",
        "203.0.113.77/24",
        "203.0.0.0/8",
        "::ffff:203.0.113.5",
        "::ffff:203.0.113.0/120",
        "2001:db8::5",
        "2001:DB8:0::5/127",
        "2001:db8::/32",
        "2001::/19",
        "64:ff9b::/96",
        "2002:cb00:7105::/48",
        "::fffe:0:0/95",
        "192.0.2.1",
    ];
    let unused = vec![
        "203.0.113.5:443",
        "bad.example",
        " ",
        "443",
        "203.0.113.0/33",
        "10.0.0.1",
        "169.254.0.0/17",
        "100.0.0.0/8",
        "202.0.0.0/7",
        "0.0.0.0/0",
        "::ffff:10.0.0.1",
        "::/0",
        "2001::/18",
        "fe80::1",
        "::",
    ];
    prop_oneof![5 => Just(""), 4 => select(used), 1 => select(unused)]
}

fn connection() -> impl Strategy<Value = ConnectionRow> {
    let times = vec![
        -WINDOW - 1,
        -WINDOW,
        -WINDOW + 1,
        -30 * MINUTE,
        -30 * MINUTE,
        0,
        1,
        5 * MINUTE - 1,
        5 * MINUTE,
        DAY - 1,
        DAY,
    ];
    let remotes = vec![
        "203.0.113.5",
        "::ffff:203.0.113.5",
        "::FFFF:CB00:7105",
        "203.0.113.4",
        "203.0.112.1",
        "202.0.113.5",
        "2001:db8::5",
        "2001:DB8:0:0::5",
        "2001:db8::4",
        "2001:db9::1",
        "::fffe:1:1",
        "64:ff9b::203.0.113.5",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::203.0.113.5",
        "2002:cb00:7105::1",
        "2002:CB00:7104::",
        "2002:a00:1::1",
        "192.0.2.1",
        "10.0.0.1",
        "fe80::1",
    ];
    let events = vec![None, None, None, Some("opened"), Some("established"), Some("closed")];
    (select(times), select(remotes), select(events), (0..3_u64, 0..3_u64, 0..9_u64, 0..9_u64))
        .prop_map(|(time, remote, event, (established, failed, sent, received))| ConnectionRow {
            time,
            remote: remote.to_owned(),
            computer: String::new(),
            event: event.map(str::to_owned),
            established,
            failed,
            sent,
            received,
        })
}

/// The positions at which the input is split into files, in percent.
fn cuts() -> impl Strategy<Value = [usize; 2]> {
    [0..=100_usize, 0..=100_usize]
        .prop_map(|[first, second]| [first.min(second), first.max(second)])
}

/// The row range of each file.
fn shares(count: usize, [first, second]: [usize; 2]) -> [std::ops::Range<usize>; 3] {
    let (first, second) = (count * first / 100, count * second / 100);
    [0..first, first..second, second..count]
}

fn number(indicators: &mut [IndicatorRow], cuts: [usize; 2]) {
    for (share, name) in shares(indicators.len(), cuts).into_iter().zip(FILES) {
        indicators[share].iter_mut().for_each(|row| name.clone_into(&mut row.feed));
    }
}

fn named(mut connections: Vec<ConnectionRow>) -> Vec<ConnectionRow> {
    for (number, row) in connections.iter_mut().enumerate() {
        row.computer = format!("host{number}");
    }
    connections
}

fn replay(
    indicators: &[IndicatorRow],
    connections: &[ConnectionRow],
    cuts: [usize; 2],
    padding: usize,
) -> RuleOutput {
    let files = Files::new();
    let padding = "x".repeat(padding);
    let indicators: Vec<Value> = indicators.iter().map(indicator_json).collect();
    let connections: Vec<Value> =
        connections.iter().map(|row| connection_json(row, &padding)).collect();
    let write = |rows: &[Value], folder: &str| {
        std::fs::create_dir(files.0.path().join(folder)).unwrap();
        let shares = shares(rows.len(), cuts).into_iter().zip(FILES);
        shares
            .map(|(share, name)| files.write(&format!("{folder}/{name}"), lines(&rows[share])))
            .collect::<Vec<_>>()
    };
    let (indicators, connections) = (write(&indicators, "ti"), write(&connections, "vm"));
    let indicators: Vec<&Path> = indicators.iter().map(AsRef::as_ref).collect();
    let connections: Vec<&Path> = connections.iter().map(AsRef::as_ref).collect();
    run_rule(&files, &indicators, &connections)
}

fn indicator_json(row: &IndicatorRow) -> Value {
    json!({
        "IndicatorId": row.id,
        "TimeGenerated": time(row.time),
        "ExpirationDateTime": row.expires.map(time),
        "Active": row.active,
        "IsDeleted": row.deleted,
        "Revoked": row.revoked,
        "NetworkIP": row.entities[0],
        "NetworkDestinationIP": row.entities[1],
        "NetworkSourceIP": row.entities[2],
        "EmailSourceIpAddress": row.entities[3],
        "NetworkCidrBlock": row.entities[4],
    })
}

fn connection_json(row: &ConnectionRow, padding: &str) -> Value {
    json!({
        "TimeGenerated": time(row.time),
        "RemoteIp": row.remote,
        "Computer": row.computer,
        "Event": row.event,
        "LinksEstablished": row.established,
        "LinksFailed": row.failed,
        "BytesSent": row.sent,
        "BytesReceived": row.received,
        "AdditionalInformation": padding,
    })
}

fn time(ticks: Ticks) -> String {
    (now() + SignedDuration::from_nanos(ticks * 100)).to_string()
}

fn ticks(time: Timestamp) -> Ticks {
    i64::try_from(time.duration_since(now()).as_nanos() / 100).unwrap()
}

fn expected_of(alert: &Alert) -> ExpectedAlert {
    ExpectedAlert {
        id: alert.indicator_id.clone(),
        remote: alert.remote_ip.clone(),
        feed: alert.feed.clone(),
        entity: alert.ti_ip_entity.clone(),
        computer: alert.computer.clone(),
        time: ticks(alert.vm_connection_time_generated),
        seen: (ticks(alert.first_seen), ticks(alert.last_seen)),
        connections: alert.connection_count,
        bytes: (alert.bytes_sent, alert.bytes_received),
    }
}
