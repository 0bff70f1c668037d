//! The pipeline without a kernel: bytes of kernel records in, alerts and rows out.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use sensor_ebpf::record::RecordKind;
use sensor_tests::records::{TaskBytes, TcpBytes, exec, udp_flow};
use sensor_user::base::clock::BootClock;
use sensor_user::base::counters::Stats;
use sensor_user::intel::{Indicator, IndicatorSet, parse_prefix};
use sensor_user::pipeline::aggregate::{
    ClockReading, ConnectionTable, FlowCounters, RowIdentity, RowTable, UdpTable,
};
use sensor_user::pipeline::decode;
use sensor_user::pipeline::dedup::{Alert, AlertKind, Dedup, DedupState};
use sensor_user::pipeline::enrich::Enricher;
use sensor_user::pipeline::matcher::{AllowList, Matcher, Via};
use sensor_user::pipeline::{Detection, Ingest, PipelineOutput};
use sensor_user::schema::{ConnectionRow, TableRow};

#[derive(Default)]
struct Collected {
    alerts: Vec<Alert>,
    rows: Vec<ConnectionRow>,
}

impl PipelineOutput for Collected {
    fn alerts(&mut self, alerts: Vec<Alert>, _state: Option<DedupState>) {
        self.alerts.extend(alerts);
    }

    fn rows(&mut self, rows: Vec<TableRow>) {
        let rows = rows.into_iter().filter_map(|row| match row {
            TableRow::Connection(row) => Some(*row),
            TableRow::BoundPort(_) | TableRow::Process(_) | TableRow::Computer(_) => None,
        });
        self.rows.extend(rows);
    }
}

/// The pipeline stages, with indicators, an allow list and the agent's own processes.
struct Stages {
    ingest: Ingest,
    detection: Detection,
    stats: Arc<Stats>,
    collected: Collected,
}

impl Stages {
    fn new(prefixes: &[&str], allow: &[&str], own: &[u32]) -> Self {
        let stats = Arc::new(Stats::default());
        let nowhere = Path::new("/nonexistent");
        let enricher = Enricher::new(nowhere, nowhere, 100, Arc::clone(&stats));
        let computer: Arc<str> = "host.example.net".into();
        let connections = ConnectionTable::new(Arc::clone(&computer), 100, Arc::clone(&stats));
        let flows = UdpTable::new(computer, 100, Duration::from_mins(1), Arc::clone(&stats));
        let indicators = prefixes.iter().map(|text| {
            let prefix = parse_prefix(text).unwrap();
            let id = (*text).to_owned();
            Arc::new(Indicator { id, feed: "test".into(), ..Indicator::blank(prefix) })
        });
        let set = IndicatorSet::from_indicators(indicators.collect());
        let allow = AllowList::new(allow.iter().map(|text| text.parse().unwrap()));
        let matcher = Matcher::new(
            Arc::new(Arc::new(set).into()),
            allow,
            own.iter().copied().collect::<HashSet<u32>>(),
            Arc::clone(&stats),
        );
        let hour = SignedDuration::from_hours(1);
        let dedup = Dedup::new("agent".to_owned(), hour, 100, Arc::clone(&stats));
        let identity = RowIdentity {
            computer: "host.example.net".into(),
            agent_id: "agent".to_owned(),
            ..RowIdentity::default()
        };
        let rows = RowTable::new(identity, 100, Arc::clone(&stats));
        Self {
            ingest: Ingest::new(enricher, connections, flows, Arc::clone(&stats)),
            detection: Detection::new(Some(rows), matcher, None, dedup, Arc::clone(&stats)),
            stats,
            collected: Collected::default(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut changes = Vec::new();
        self.ingest.record(bytes, &BootClock::with_offset_ns(0), &mut changes);
        for change in changes {
            self.detection.observe(&change, &mut self.collected);
        }
    }

    fn finish(mut self) -> (Collected, Arc<Stats>) {
        let mut changes = Vec::new();
        self.ingest.expire(u64::MAX, &mut changes);
        for change in changes {
            self.detection.observe(&change, &mut self.collected);
        }
        while self.detection.finish(&mut self.collected) {}
        (self.collected, self.stats)
    }
}

const LOCAL: (&str, u16) = ("10.0.0.4", 40_000);

fn connect(sk: u64, remote: &str, boot_ns: u64, task: &TaskBytes) -> [Vec<u8>; 3] {
    let tcp = |kind, boot_ns| TcpBytes {
        boot_ns,
        task: task.clone(),
        ..TcpBytes::new(kind, sk, LOCAL, (remote, 443))
    };
    let close = TcpBytes { bytes: (70, 90), ..tcp(RecordKind::TcpClose, boot_ns + 2) };
    let up = TcpBytes { old_state: 2, ..tcp(RecordKind::TcpEstablished, boot_ns + 1) };
    [tcp(RecordKind::TcpConnect, boot_ns).bytes(), up.bytes(), close.bytes()]
}

#[test]
fn an_outbound_connection_gives_an_alert_with_its_process_and_a_row() {
    let mut path = Stages::new(&["203.0.113.7", "203.0.113.0/24", "192.0.2.1"], &[], &[]);
    let task = TaskBytes { tgid: 42, comm: "curl", ..TaskBytes::default() };
    path.feed(&exec(&task, 5, "/usr/bin/curl", &["curl", "-s", "http://203.0.113.7/"]));
    for bytes in connect(1, "203.0.113.7", 1_000, &task) {
        path.feed(&bytes);
    }
    let (collected, stats) = path.finish();
    let ids: Vec<&str> = collected.alerts.iter().map(|it| it.indicator_id.as_str()).collect();
    assert_eq!(ids, ["203.0.113.0/24", "203.0.113.7"], "all that contain the address");
    let alert = &collected.alerts[1];
    assert_eq!((alert.process_id, alert.process_name.as_str()), (Some(42), "curl"));
    assert_eq!(alert.process_path, "/usr/bin/curl");
    assert_eq!(alert.command_line, "curl -s http://203.0.113.7/");
    assert_eq!((alert.source_port, alert.destination_port), (Some(40_000), Some(443)));
    assert_eq!((alert.host_name.as_str(), alert.dns_domain.as_str()), ("host", "example.net"));
    assert_eq!(alert.alert_kind, AlertKind::New);
    let [row] = collected.rows.as_slice() else { panic!("{:?}", collected.rows) };
    assert_eq!((row.links_established, row.links_terminated, row.links_live), (1, 1, 0));
    assert_eq!((row.bytes_sent, row.bytes_received), (70, 90));
    assert_eq!(stats.processes_unknown.value(), 0);
}

/// Counters of a flow: ten datagrams sent, five received.
struct FixedCounters;

impl FlowCounters for FixedCounters {
    fn read(&mut self, _key: &decode::FlowKey) -> Option<decode::FlowCounts> {
        Some(decode::FlowCounts {
            first_boot_ns: 1_000,
            last_monotonic_ns: 3_000,
            bytes_sent: 1_000,
            bytes_received: 300,
            packets_sent: 10,
            packets_received: 5,
        })
    }

    fn forget(&mut self, _key: &decode::FlowKey) {}
}

#[test]
fn a_datagram_alerts_immediately_and_its_bytes_are_in_the_row() {
    let mut path = Stages::new(&["203.0.113.7"], &[], &[7]);
    let task = TaskBytes { tgid: 42, comm: "dig", ..TaskBytes::default() };
    path.feed(&exec(&task, 5, "/usr/bin/dig", &["dig", "example.net"]));
    path.feed(&udp_flow(1, ("203.0.113.7", 53), 1_000, &task));
    let own = TaskBytes { tgid: 7, ..TaskBytes::default() };
    path.feed(&udp_flow(2, ("203.0.113.7", 53), 1_000, &own));
    let [alert] = &path.collected.alerts[..] else { panic!("{:?}", path.collected.alerts) };
    assert_eq!((alert.process_id, alert.process_name.as_str()), (Some(42), "dig"));
    assert_eq!(alert.command_line, "dig example.net");
    assert_eq!((alert.source_port, alert.destination_port), (Some(40_000), Some(53)));
    assert_eq!((alert.protocol.as_str(), alert.direction.as_str()), ("udp", "outbound"));
    let clock = BootClock::with_offset_ns(0);
    let now = ClockReading { boot_ns: 5_000, monotonic_ns: 4_000, clock: &clock };
    let mut changes = Vec::new();
    assert!(!path.ingest.read_udp_flows(now, &mut FixedCounters, &mut changes), "none is left");
    let of_dig = changes.iter().filter(|it| it.flow.process.pid == Some(42));
    assert_eq!(of_dig.map(|it| it.packets_sent).sum::<u64>(), 10, "{changes:?}");
    for change in changes {
        path.detection.observe(&change, &mut path.collected);
    }
    let (collected, stats) = path.finish();
    let row = collected.rows.iter().find(|row| row.process_id == Some(42)).unwrap();
    assert_eq!((row.protocol.as_str(), row.bytes_sent, row.bytes_received), ("udp", 1_000, 300));
    assert_eq!((row.links_established, row.links_live), (1, 1));
    assert_eq!(stats.hits_suppressed_own_traffic.value(), 1);
}

#[test]
fn a_mapped_address_is_reported_as_ipv4() {
    let mut path = Stages::new(&["203.0.113.7"], &[], &[]);
    for bytes in connect(1, "::ffff:203.0.113.7", 1_000, &TaskBytes::default()) {
        path.feed(&bytes);
    }
    let (collected, _) = path.finish();
    assert_eq!(collected.alerts[0].remote_ip, "203.0.113.7");
    assert_eq!(collected.rows[0].remote_ip, "203.0.113.7");
}

#[test]
fn suppressed_hits_are_counted() {
    let mut path = Stages::new(&["203.0.113.0/24"], &["203.0.113.8/32"], &[7]);
    let own = TaskBytes { tgid: 7, ..TaskBytes::default() };
    let other = TaskBytes { tgid: 8, ..TaskBytes::default() };
    let all = [
        connect(1, "203.0.113.7", 1_000, &own),
        connect(2, "203.0.113.8", 2_000, &other),
        connect(3, "::ffff:203.0.113.8", 3_000, &other),
    ];
    for bytes in all.iter().flatten() {
        path.feed(bytes);
    }
    let (collected, stats) = path.finish();
    assert_eq!(collected.alerts, []);
    assert_eq!(stats.hits_suppressed_own_traffic.value(), 1);
    assert_eq!(stats.hits_suppressed_allow_list.value(), 2);
    assert_eq!(stats.flows_observed.value(), 3);
}

#[test]
fn an_embedded_ipv4_address_is_matched_and_allowed() {
    let mut path = Stages::new(&["203.0.113.0/24", "64:ff9b::/96"], &["203.0.113.8/32"], &[]);
    for (sk, remote) in [(1, "64:ff9b::203.0.113.7"), (2, "64:ff9b::203.0.113.8")] {
        for bytes in connect(sk, remote, sk * 1_000, &TaskBytes::default()) {
            path.feed(&bytes);
        }
    }
    let (collected, stats) = path.finish();
    let alerts: Vec<(&str, Via, &str)> = collected
        .alerts
        .iter()
        .map(|it| (it.matched_prefix.as_str(), it.via, it.matched_ip.as_str()))
        .collect();
    assert_eq!(
        alerts,
        [
            ("64:ff9b::/96", Via::Direct, "64:ff9b::cb00:7107"),
            ("203.0.113.0/24", Via::Nat64, "203.0.113.7"),
        ]
    );
    assert_eq!(
        stats.hits_suppressed_allow_list.value(),
        2,
        "both addresses of the allowed connection"
    );
}

#[test]
fn dedup_window_counts_are_exact() {
    let mut path = Stages::new(&["203.0.113.7"], &[], &[]);
    let second = 1_000_000_000_u64;
    // 100 hits within the hour, then one after it.
    for number in 0..100_u64 {
        let times = connect(1, "203.0.113.7", (number + 1) * second, &TaskBytes::default());
        for bytes in &times {
            path.feed(bytes);
        }
    }
    let late = connect(1, "203.0.113.7", 3_700 * second, &TaskBytes::default());
    for bytes in &late {
        path.feed(bytes);
    }
    let (collected, _) = path.finish();
    let alerts: Vec<(AlertKind, u64, u64)> = collected
        .alerts
        .iter()
        .map(|it| (it.alert_kind, it.connection_count, it.bytes_sent))
        .collect();
    assert_eq!(
        alerts,
        [(AlertKind::New, 1, 0), (AlertKind::Summary, 99, 7_000), (AlertKind::New, 1, 0)]
    );
    let ids: HashSet<&str> = collected.alerts.iter().map(|it| it.alert_id.as_str()).collect();
    assert_eq!(ids.len(), 3);
    let first = Timestamp::from_second(2).unwrap();
    assert_eq!(collected.alerts[1].first_seen, first);
}

#[test]
fn an_undecodable_record_is_counted_and_the_next_is_read() {
    let mut path = Stages::new(&["203.0.113.7"], &[], &[]);
    let good = connect(1, "203.0.113.7", 1_000, &TaskBytes::default());
    let mut unknown = good[0].clone();
    unknown[0] = 99;
    let mut longer = good[0].clone();
    longer.push(0);
    for bytes in [&good[0][..20], &[], &unknown, &longer] {
        path.feed(bytes);
    }
    for bytes in &good {
        path.feed(bytes);
    }
    let (collected, stats) = path.finish();
    assert_eq!(stats.records_discarded_decode.value(), 4);
    assert_eq!(collected.alerts.len(), 1);
}

proptest! {
    /// Any input gives a record or an error, and no panic.
    #[test]
    fn decode_is_total(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _either = decode::Record::from_bytes(&bytes);
    }

    /// A valid record with any byte changed, or truncated at any length, gives a record or an
    /// error.
    #[test]
    fn decode_survives_a_corrupt_record(offset in 0_usize..152, byte: u8, cut in 0_usize..152) {
        let [mut good, ..] = connect(1, "2001:db8::7", 1_000, &TaskBytes::default());
        good[offset] = byte;
        let _either = decode::Record::from_bytes(&good);
        let cut = &good[..cut];
        prop_assert!(decode::Record::from_bytes(cut).is_err());
    }

    #[test]
    fn decode_survives_a_corrupt_datagram_record(offset in 0_usize..120, byte: u8, cut in 0_usize..120) {
        let mut good = udp_flow(1, ("2001:db8::7", 53), 1_000, &TaskBytes::default());
        prop_assert!(decode::Record::from_bytes(&good).is_ok());
        good[offset] = byte;
        let _either = decode::Record::from_bytes(&good);
        prop_assert!(decode::Record::from_bytes(&good[..cut]).is_err());
    }

    #[test]
    fn decode_survives_a_corrupt_exec_record(offset in 0_usize..90, byte: u8) {
        let mut good = exec(&TaskBytes::default(), 1, "/usr/bin/program", &["program", "-x"]);
        let offset = offset.min(good.len() - 1);
        good[offset] = byte;
        let _either = decode::Record::from_bytes(&good);
    }
}
