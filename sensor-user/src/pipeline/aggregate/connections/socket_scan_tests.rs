//! Scans, and records before, between and after them.

use super::super::scan_index::ends_of;
use super::super::tests::{self, process};
use super::*;

use std::collections::HashSet;

use crate::base::counters::Stats;
use crate::pipeline::aggregate::change::{ChangeKind, ClosedBy};
use crate::pipeline::capture::{Ends, TcpCounts};
use crate::pipeline::decode::TcpKind;
use crate::pipeline::enrich::TcpEvent;

const NETNS: u32 = 7;
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const LISTEN: u8 = 10;

/// A table whose initial scan begins at time 0, with its changes.
struct Host {
    table: ConnectionTable,
    changes: Vec<Change>,
    latency: NoLatency,
}

/// No connection has responses.
#[derive(Default)]
struct NoLatency;

impl LatencyReader for NoLatency {
    fn read(&mut self, _cookie: u64) -> Option<crate::pipeline::decode::ConnectionLatency> {
        None
    }

    fn ended_epoch(&self) -> u32 {
        1
    }
}

impl Host {
    fn new(max: usize) -> Self {
        let mut table = ConnectionTable::new("host".into(), max, Arc::new(Stats::default()));
        table.begin_scan();
        Self { table, changes: Vec::new(), latency: NoLatency }
    }

    fn record(&mut self, tcp: Tcp) {
        let time = Timestamp::from_nanosecond(tcp.boot_ns.into()).unwrap();
        let actor = matches!(tcp.kind, TcpKind::Connect | TcpKind::Listen);
        let process = actor.then(|| process("actor"));
        self.table.observe(TcpEvent { time, tcp: Box::new(tcp), process }, &mut self.changes);
    }

    /// Applies a scan that began at `boot_ns`; the owner of socket inode 9 is `owner`.
    fn scan(&mut self, kind: ScanKind, boot_ns: u64, sockets: Vec<OpenSocket>) -> Vec<OpenSocket> {
        let open = OpenSockets::from_scan(boot_ns, sockets, HashSet::from([NETNS]));
        let time = Timestamp::from_nanosecond(boot_ns.into()).unwrap();
        let mut owner = |inode| (inode == 9).then(|| process("owner"));
        let scan = FinishedScan { kind, time, open: &open };
        self.table.apply_scan(scan, &mut owner, &mut self.latency, &mut self.changes)
    }

    /// Begins and applies a periodic scan.
    fn scan_again(&mut self, boot_ns: u64, sockets: Vec<OpenSocket>) -> Vec<OpenSocket> {
        self.table.begin_scan();
        self.scan(ScanKind::Periodic, boot_ns, sockets)
    }

    /// Changes since the last call: kind, number, bytes sent and received.
    fn emitted(&mut self) -> Vec<(ChangeKind, u64, u64, u64)> {
        let all = self.changes.drain(..);
        all.map(|it| (it.kind, it.number, it.flow.bytes_sent, it.flow.bytes_received)).collect()
    }
}

fn tcp(kind: TcpKind, sk: u64, boot_ns: u64) -> Tcp {
    Tcp { netns: NETNS, bytes_sent: 0, bytes_received: 0, ..tests::tcp(kind, sk, boot_ns) }
}

fn closed(sk: u64, boot_ns: u64, cookie: u64, bytes_sent: u64) -> Tcp {
    Tcp { cookie, bytes_sent, ..tcp(TcpKind::Close, sk, boot_ns) }
}

/// Socket of the connection of [`tcp`].
fn socket(cookie: u64, bytes_sent: u64) -> OpenSocket {
    let ends = ends_of(&tcp(TcpKind::Close, 1, 0));
    let counts = Some(TcpCounts { bytes_sent, bytes_received: 0, rtt_us: 25 });
    OpenSocket { netns: NETNS, cookie, inode: 9, ends, state: ESTABLISHED, counts }
}

fn other_socket(cookie: u64, local_port: u16) -> OpenSocket {
    let socket = socket(cookie, 0);
    OpenSocket { ends: Ends { local_port, ..socket.ends }, ..socket }
}

#[test]
fn a_preexisting_connection_is_opened_once_with_its_later_bytes() {
    for cookie_of_close in [5, 0] {
        let mut host = Host::new(10);
        host.scan(ScanKind::Initial, 100, vec![socket(5, 1_000)]);
        let opened = host.changes[0].clone();
        assert!(opened.flow.preexisting);
        assert_eq!(opened.flow.attribution, Attribution::Scan);
        assert_eq!(opened.flow.process.name, "owner");
        assert_eq!(opened.flow.direction, Direction::Outbound);
        assert_eq!(
            host.emitted(),
            [(ChangeKind::Opened, 1, 0, 0), (ChangeKind::Established, 1, 0, 0)]
        );
        host.scan_again(200, vec![socket(5, 1_000)]);
        assert_eq!(host.emitted(), [], "idle");
        host.scan_again(300, vec![socket(5, 1_300)]);
        assert_eq!((host.changes[0].rtt_us, host.changes[0].flow.preexisting), (25, true));
        assert_eq!(host.emitted(), [(ChangeKind::Active, 1, 300, 0)]);
        host.record(closed(0xffff_8000, 400, cookie_of_close, 1_350));
        assert_eq!(host.emitted(), [(ChangeKind::Closed, 1, 50, 0)]);
        assert!(host.table.is_empty());
    }
}

#[test]
fn a_scan_does_not_reopen_a_connection_from_records() {
    let mut host = Host::new(10);
    host.record(Tcp { local_port: 0, ..tcp(TcpKind::Connect, 1, 50) });
    host.record(tcp(TcpKind::Established { inbound: false }, 1, 60));
    host.emitted();
    // Older than the scan: matched, and its counts reported.
    host.scan(ScanKind::Initial, 100, vec![socket(5, 70)]);
    assert_eq!(host.emitted(), [(ChangeKind::Active, 1, 70, 0)]);
    // Younger than a scan that found another connection with the same addresses.
    host.record(closed(1, 150, 5, 80));
    host.record(tcp(TcpKind::Connect, 2, 160));
    host.record(tcp(TcpKind::Established { inbound: false }, 2, 170));
    host.emitted();
    assert_eq!(host.scan_again(140, vec![socket(5, 75)]), []);
    assert_eq!(host.emitted(), [], "those counts are of the one before");
    host.record(closed(2, 190, 6, 11));
    assert_eq!(host.emitted(), [(ChangeKind::Closed, 2, 11, 0)]);
}

#[test]
fn a_connection_closed_during_a_scan_is_not_opened_by_it() {
    // (cookie in the record of the close, in the scan)
    for (of_close, of_scan) in [(5, 5), (0, 5), (5, 0), (0, 0)] {
        let mut host = Host::new(10);
        host.record(closed(1, 150, of_close, 80));
        assert_eq!(host.emitted(), []);
        host.scan(ScanKind::Initial, 100, vec![socket(of_scan, 70)]);
        assert!(host.changes.iter().all(|it| it.flow.preexisting));
        assert_eq!(host.emitted(), end_alone(1, 80), "{of_close} {of_scan}");
        assert!(host.table.is_empty());
    }
    // A connection closed before the scan is another one.
    let mut host = Host::new(10);
    host.record(closed(1, 50, 0, 80));
    host.scan(ScanKind::Initial, 100, vec![socket(5, 70)]);
    let mut expected = vec![(ChangeKind::Opened, 1, 0, 0), (ChangeKind::Established, 1, 0, 0)];
    expected.extend(end_alone(2, 80));
    assert_eq!(host.emitted(), expected);
    // Nor is a new connection of the same socket closed.
    let mut host = Host::new(10);
    host.record(closed(1, 50, 0, 80));
    host.record(Tcp { local_port: 9, ..tcp(TcpKind::Connect, 1, 60) });
    assert_eq!(host.emitted(), [(ChangeKind::Opened, 1, 0, 0)]);
    host.scan(ScanKind::Initial, 100, vec![other_socket(6, 9)]);
    assert_eq!(host.emitted(), end_alone(2, 80));
    assert_eq!(host.table.len(), 1);
    // The wait for a missing scan is limited.
    let mut host = Host::new(10);
    host.record(closed(1, 50, 0, 80));
    host.table.expire(50 + EARLY_HOLD_NS - 1, &mut host.changes);
    assert_eq!(host.emitted(), []);
    host.table.expire(50 + EARLY_HOLD_NS, &mut host.changes);
    assert_eq!(host.emitted(), end_alone(1, 80));
}

/// Changes of a connection with only a record of its close.
fn end_alone(number: u64, bytes_sent: u64) -> Vec<(ChangeKind, u64, u64, u64)> {
    let (opened, established) = (ChangeKind::Opened, ChangeKind::Established);
    vec![
        (opened, number, 0, 0),
        (established, number, 0, 0),
        (ChangeKind::Closed, number, bytes_sent, 0),
    ]
}

#[test]
fn a_record_older_than_the_scan_may_follow_it() {
    for late in [TcpKind::Connect, TcpKind::Established { inbound: true }] {
        let mut host = Host::new(10);
        host.scan(ScanKind::Initial, 100, vec![socket(5, 70)]);
        host.emitted();
        host.record(tcp(late, 1, 90));
        if late == TcpKind::Connect {
            host.record(tcp(TcpKind::Established { inbound: false }, 1, 95));
        }
        assert_eq!(host.emitted(), []);
        host.record(closed(1, 120, 5, 100));
        assert_eq!(host.emitted(), [(ChangeKind::Closed, 1, 30, 0)]);
        // The same addresses later: another connection.
        host.record(tcp(TcpKind::Connect, 1, 130));
        assert_eq!(host.emitted(), [(ChangeKind::Opened, 2, 0, 0)]);
    }
}

#[test]
fn a_syn_without_a_port_is_the_half_open_socket_to_the_same_remote() {
    let mut host = Host::new(10);
    host.record(Tcp { local_port: 0, ..tcp(TcpKind::Connect, 1, 50) });
    let half_open = OpenSocket { state: SYN_SENT, ..socket(5, 0) };
    let older = OpenSocket { state: SYN_SENT, ..other_socket(6, 50_000) };
    host.scan(ScanKind::Initial, 100, vec![half_open, older]);
    // One of the two had a record; the other predates the probes.
    let of_scan = host.emitted();
    assert_eq!(of_scan, [(ChangeKind::Opened, 2, 0, 0)]);
    host.record(Tcp { old_state: 2, ..tcp(TcpKind::Established { inbound: false }, 1, 120) });
    assert_eq!(host.emitted(), [(ChangeKind::Opened, 1, 0, 0), (ChangeKind::Established, 1, 0, 0)]);
}

#[test]
fn an_established_record_without_its_connect_waits_for_the_initial_scan() {
    let mut host = Host::new(10);
    host.record(tcp(TcpKind::Established { inbound: false }, 1, 50));
    assert_eq!(host.emitted(), []);
    host.scan(ScanKind::Initial, 100, vec![socket(5, 70)]);
    assert_eq!(host.changes[0].flow.process.name, "owner");
    assert_eq!(host.emitted(), [(ChangeKind::Opened, 1, 0, 0), (ChangeKind::Established, 1, 0, 0)]);
}

#[test]
fn a_connection_to_a_listener_is_inbound() {
    let mut host = Host::new(10);
    let any = |text: &str| text.parse().unwrap();
    let listener = |address: &str, port: u16| OpenSocket {
        state: LISTEN,
        ends: Ends {
            local: any(address),
            local_port: port,
            remote: any("0.0.0.0"),
            remote_port: 0,
        },
        ..socket(u64::from(port) + 100, 0)
    };
    let elsewhere = OpenSocket { netns: 8, ..listener("192.0.2.1", 4) };
    host.scan(
        ScanKind::Initial,
        100,
        vec![
            listener("192.0.2.1", 1),
            listener("::", 2),
            listener("192.0.2.2", 3),
            elsewhere,
            other_socket(1, 1),
            other_socket(2, 2),
            other_socket(3, 3),
            OpenSocket { inode: 0, ..other_socket(4, 4) },
            OpenSocket { inode: 0, ..other_socket(5, 1) },
        ],
    );
    let opened = host.changes.iter().filter(|it| it.kind == ChangeKind::Opened);
    let seen: Vec<_> = opened.map(|it| (it.flow.direction, it.flow.attribution)).collect();
    let (scan, unknown) = (Attribution::Scan, Attribution::Unknown);
    let (inbound, outbound) = (Direction::Inbound, Direction::Outbound);
    let listeners = (inbound, Attribution::Listener);
    assert_eq!(
        seen,
        [(inbound, scan), (inbound, scan), (outbound, scan), (outbound, unknown), listeners]
    );
    // Later connections to a listener from the scan belong to its owner, until it is closed.
    host.changes.clear();
    let arrives = |sk| Tcp {
        local_port: 2,
        remote_port: 9,
        ..tcp(TcpKind::Established { inbound: true }, sk, 200)
    };
    host.record(arrives(1));
    host.table.expire(u64::MAX, &mut host.changes);
    assert_eq!(host.changes[0].flow.process.name, "owner");
    host.record(Tcp { local_port: 2, cookie: 102, ..tcp(TcpKind::Unlisten, 3, 300) });
    host.changes.clear();
    host.record(arrives(2));
    host.table.expire(u64::MAX, &mut host.changes);
    assert_eq!(host.changes[0].flow.attribution, Attribution::Unknown);
}

#[test]
fn a_connection_missed_by_two_scans_is_closed() {
    let mut host = Host::new(10);
    host.scan(ScanKind::Initial, 100, vec![socket(5, 1_000)]);
    host.record(Tcp { local_port: 1, ..tcp(TcpKind::Connect, 1, 150) });
    host.emitted();
    host.scan_again(200, vec![]);
    assert_eq!(host.emitted(), []);
    host.scan_again(300, vec![socket(5, 1_000)]);
    assert_eq!(host.emitted(), [(ChangeKind::Failed, 2, 0, 0)]);
    host.scan_again(400, vec![]);
    assert_eq!(host.emitted(), [], "found in between");
    host.scan_again(500, vec![]);
    assert_eq!(host.changes[0].closed_by, ClosedBy::Unknown);
    assert_eq!(host.emitted(), [(ChangeKind::Closed, 1, 0, 0)]);
    assert_eq!(host.table.stats.connections_close_missed.value(), 2);
    assert!(host.table.is_empty());
}

#[test]
fn a_younger_connection_or_one_in_another_namespace_is_not_missed() {
    let mut host = Host::new(10);
    host.scan(ScanKind::Initial, 100, vec![]);
    host.record(Tcp { netns: 8, ..tcp(TcpKind::Connect, 1, 150) });
    host.record(tcp(TcpKind::Connect, 2, 950));
    host.emitted();
    for at in [200, 300, 400, 900] {
        host.scan_again(at, vec![]);
    }
    assert_eq!(host.emitted(), []);
    assert_eq!(host.table.len(), 2);
}

#[test]
fn a_socket_without_a_record_is_scanned_again_and_opened() {
    let mut host = Host::new(10);
    host.scan(ScanKind::Initial, 100, vec![]);
    let unknown = host.scan_again(200, vec![socket(5, 70), other_socket(6, 2)]);
    assert_eq!(unknown.len(), 2);
    assert_eq!(host.emitted(), []);
    // One of them is closed in the meantime.
    host.record(closed(1, 250, 5, 80));
    host.emitted();
    assert_eq!(host.scan(ScanKind::Owners, 200, unknown), []);
    assert!(!host.changes[0].flow.preexisting);
    assert_eq!(host.emitted(), [(ChangeKind::Opened, 2, 0, 0), (ChangeKind::Established, 2, 0, 0)]);
    // It began after the agent started, so all its bytes are reported.
    let moved = OpenSocket { ends: other_socket(6, 2).ends, ..socket(6, 500) };
    host.scan_again(300, vec![moved]);
    assert_eq!(host.emitted(), [(ChangeKind::Active, 2, 500, 0)]);
}

#[test]
fn at_most_as_many_are_opened_as_the_table_holds() {
    let mut host = Host::new(2);
    let sockets = (1..=4).map(|port| other_socket(port.into(), port)).collect();
    host.scan(ScanKind::Initial, 100, sockets);
    assert_eq!(host.table.len(), 2);
    assert_eq!(host.table.stats.sockets_dropped_full.value(), 2);
    for sk in 1..=3 {
        let from = Tcp { local_port: 100, remote_port: 1, ..tcp(TcpKind::Connect, sk, 200 + sk) };
        host.record(from);
    }
    host.emitted();
    host.scan_again(300, vec![]);
    assert!(host.table.scan.found.is_empty());
}
