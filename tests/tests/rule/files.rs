//! Kinds of input: lists beside rows, own recordings; and the columns of an alert.

use std::net::Ipv4Addr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sensor_user::base::protocol::Protocol;
use sensor_user::pipeline::aggregate::RecordedChange;
use sensor_user::pipeline::aggregate::{Attribution, Change, ChangeKind, Direction, Flow, Phase};
use sensor_user::pipeline::enrich::Process;
use serde_json::{Value, json};

use super::{Files, ago, alerts, connection, connection_to, indicator, lines, now, run_rule};

/// The rule's output columns, in its order.
const COLUMNS: [&str; 25] = [
    "VMConnection_TimeGenerated",
    "Description",
    "ActivityGroupNames",
    "IndicatorId",
    "ThreatType",
    "Url",
    "ExpirationDateTime",
    "ConfidenceScore",
    "TI_ipEntity",
    "Computer",
    "Direction",
    "ProcessName",
    "SourceIp",
    "DestinationIp",
    "RemoteIp",
    "Protocol",
    "DestinationPort",
    "NetworkIP",
    "NetworkDestinationIP",
    "NetworkSourceIP",
    "EmailSourceIpAddress",
    "Type",
    "timestamp",
    "HostName",
    "DnsDomain",
];

#[test]
fn an_alert_has_the_rules_columns() {
    let found = alerts(&[indicator(json!({}))], &[connection(json!({}))]);
    let alert = serde_json::to_value(&found[0]).unwrap();
    let values: Vec<&Value> = COLUMNS.iter().map(|column| &alert[*column]).collect();
    let expected = json!([
        ago(10),
        "command and control",
        "",
        "indicator-1",
        "C2",
        "",
        ago(-30 * 24 * 60),
        80.0,
        "203.0.113.5",
        "web01.corp.example.com",
        "outbound",
        "curl",
        "10.0.0.5",
        "203.0.113.5",
        "203.0.113.5",
        "tcp",
        443,
        "203.0.113.5",
        "",
        "",
        "",
        "ThreatIntelligenceIndicator",
        ago(10),
        "web01",
        "corp.example.com",
    ]);
    assert_eq!(json!(values), expected);
    assert_eq!(alert["AlertKind"], "new");
    assert_eq!(alert["MatchedPrefix"], "203.0.113.5/32");
    assert_eq!(alert["Feed"], "indicators.json");
}

#[test]
fn a_list_has_no_expiry_and_its_feed_is_its_name() {
    let files = Files::new();
    let list = files.write("drop.txt", "\u{feff}# networks\n\n203.0.113.0/24 ; x\n203.0.113.5\n");
    let far = connection(json!({ "TimeGenerated": "2099-01-01T00:00:00Z" }));
    let rows = files.write("rows.json", lines(&[far]));
    let output = run_rule(&files, &[&list], &[&rows]);
    let found: Vec<(&str, &str, Option<Timestamp>)> = output
        .alerts
        .iter()
        .map(|it| (it.indicator_id.as_str(), it.feed.as_str(), it.expiration_date_time))
        .collect();
    assert_eq!(
        found,
        [
            ("drop.txt:203.0.113.0/24", "drop.txt", None),
            ("drop.txt:203.0.113.5/32", "drop.txt", None),
        ]
    );
}

#[test]
fn an_id_in_several_files_has_one_indicator() {
    let files = Files::new();
    let list = files.write("list.txt", "203.0.113.5\n203.0.113.6");
    let same = indicator(json!({ "IndicatorId": "list.txt:203.0.113.5/32" }));
    let rows = files.write("ti.json", lines(&[same]));
    let connections = ["203.0.113.5", "203.0.113.6"].map(connection_to);
    let connections = files.write("rows.json", lines(&connections));
    let output = run_rule(&files, &[&list, &rows, &list], &[&connections]);
    let feeds: Vec<&str> = output.alerts.iter().map(|it| it.feed.as_str()).collect();
    assert_eq!(feeds, ["ti.json", "list.txt"]);
    assert_eq!(output.summary.indicators, 2);
}

/// A recording has a line for each event of a connection. The connection counts once, with the sum
/// of the bytes of its lines.
#[test]
fn a_recording_counts_its_connections_once() {
    let process = Arc::new(Process {
        pid: Some(4242),
        path: "/usr/bin/curl".into(),
        name: "curl".into(),
        ..Process::default()
    });
    let change = |what: ChangeKind, number: u64, minutes: i64, bytes: u64| {
        let ended = matches!(what, ChangeKind::Closed | ChangeKind::Failed);
        let flow = Flow {
            time: now() - SignedDuration::from_mins(minutes),
            phase: match what {
                ChangeKind::Active => Phase::Active,
                _ if ended => Phase::Closed,
                _ => Phase::Opened,
            },
            computer: "web01.example.com".into(),
            direction: Direction::Outbound,
            protocol: Protocol::Tcp,
            local: Ipv4Addr::new(10, 0, 0, 5).into(),
            local_port: Some(40000),
            remote: Ipv4Addr::new(203, 0, 113, 5).into(),
            remote_port: Some(443),
            process: Arc::clone(&process),
            attribution: Attribution::Connect,
            connections: 1,
            preexisting: false,
            translated: None,
            bytes_sent: bytes,
            bytes_received: bytes * 2,
        };
        let change = Change::new(what, flow, number, 0);
        serde_json::to_value(RecordedChange::from(&change)).unwrap()
    };
    let found = alerts(
        &[indicator(json!({}))],
        &[
            change(ChangeKind::Opened, 1, 30, 0),
            change(ChangeKind::Established, 1, 29, 0),
            change(ChangeKind::Opened, 2, 20, 0),
            change(ChangeKind::Failed, 2, 19, 0),
            change(ChangeKind::Active, 1, 15, 300),
            change(ChangeKind::Active, 1, 12, 250),
            change(ChangeKind::Closed, 1, 10, 150),
        ],
    );
    let [alert] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(alert.connection_count, 2);
    assert_eq!((alert.bytes_sent, alert.bytes_received), (700, 1400));
    assert_eq!((alert.first_seen.to_string(), alert.last_seen.to_string()), (ago(30), ago(10)));
    assert_eq!((alert.process_id, alert.source_port), (Some(4242), Some(40000)));
    assert_eq!(
        (alert.process_path.as_str(), alert.process_name.as_str()),
        ("/usr/bin/curl", "curl")
    );
}
