//! Events and the changes that they cause.

use std::time::Duration;

use super::super::change::ClosedBy;
use super::close_reason::TCP_SYN_SENT;
use super::close_reason::closed_by;
use super::*;

use crate::pipeline::decode::Task;

const MS: u64 = 1_000_000;

fn table(max: usize) -> ConnectionTable {
    ConnectionTable::new("host.example".into(), max, Arc::new(Stats::default()))
}

pub(super) fn process(name: &str) -> Arc<Process> {
    Arc::new(Process { name: name.into(), ..Process::default() })
}

pub(super) fn tcp(kind: TcpKind, sk: u64, boot_ns: u64) -> Tcp {
    Tcp {
        kind,
        boot_ns,
        sk,
        cookie: 0,
        task: Task::default(),
        local: "192.0.2.1".parse().unwrap(),
        local_port: 40_000,
        remote: "198.51.100.7".parse().unwrap(),
        remote_port: 443,
        old_state: 1,
        netns: 1,
        error: 0,
        srtt_us: 9,
        bytes_sent: 11,
        bytes_received: 22,
        mptcp: 0,
        is_restored: false,
    }
}

fn event(tcp: Tcp, process: impl Into<Option<Arc<Process>>>) -> TcpEvent {
    let time = Timestamp::from_nanosecond(tcp.boot_ns.into()).unwrap();
    TcpEvent { time, tcp: Box::new(tcp), process: process.into() }
}

fn emitted(changes: &[Change]) -> Vec<(ChangeKind, &str, Option<u16>, Attribution)> {
    changes
        .iter()
        .map(|it| (it.kind, it.flow.process.name.as_str(), it.flow.local_port, it.flow.attribution))
        .collect()
}

#[test]
fn an_outbound_connection_waits_for_its_port_only() {
    let mut table = table(10);
    let mut changes = Vec::new();
    let connect = Tcp { local_port: 0, ..tcp(TcpKind::Connect, 1, MS) };
    table.observe(event(connect, process("curl")), &mut changes);
    assert_eq!(emitted(&changes), []);
    let up = tcp(TcpKind::Established { inbound: false }, 1, 2 * MS);
    table.observe(event(up, None), &mut changes);
    table.observe(event(tcp(TcpKind::Close, 1, 9 * MS), None), &mut changes);
    let port = Some(40_000);
    assert_eq!(
        emitted(&changes),
        [
            (ChangeKind::Opened, "curl", port, Attribution::Connect),
            (ChangeKind::Established, "curl", port, Attribution::Connect),
            (ChangeKind::Closed, "curl", port, Attribution::Connect),
        ]
    );
    assert_eq!((changes[2].flow.bytes_sent, changes[2].flow.bytes_received), (11, 22));
    assert_eq!(changes[2].duration, Duration::from_millis(8));
    assert!(table.is_empty());
}

#[test]
fn an_unanswered_syn_is_reported_after_the_hold() {
    let mut table = table(10);
    let mut changes = Vec::new();
    let connect = Tcp { local_port: 0, ..tcp(TcpKind::Connect, 1, MS) };
    table.observe(event(connect, process("c2")), &mut changes);
    table.expire(MS + OUTBOUND_HOLD_NS - 1, &mut changes);
    assert_eq!(emitted(&changes), []);
    table.expire(MS + OUTBOUND_HOLD_NS, &mut changes);
    assert_eq!(emitted(&changes), [(ChangeKind::Opened, "c2", None, Attribution::Connect)]);
    let refused = Tcp { error: 111, old_state: TCP_SYN_SENT, ..tcp(TcpKind::Close, 1, 90 * MS) };
    table.observe(event(refused, None), &mut changes);
    assert_eq!((changes[1].kind, changes[1].error), (ChangeKind::Failed, 111));
}

#[test]
fn an_inbound_connection_belongs_to_its_worker_or_else_its_listener() {
    let mut table = table(10);
    let mut changes = Vec::new();
    let everywhere = Tcp { local: "0.0.0.0".parse().unwrap(), ..tcp(TcpKind::Listen, 5, 0) };
    table.observe(event(everywhere, process("master")), &mut changes);
    for sk in [1, 2] {
        let arrived = tcp(TcpKind::Established { inbound: true }, sk, MS);
        table.observe(event(arrived, None), &mut changes);
    }
    let owner = tcp(TcpKind::Owner(OwnerSource::FirstIo), 1, 2 * MS);
    table.observe(event(owner, process("worker")), &mut changes);
    table.expire(MS + INBOUND_HOLD_NS, &mut changes);
    let late = tcp(TcpKind::Owner(OwnerSource::Accept), 2, 90 * MS);
    table.observe(event(late, process("late")), &mut changes);
    let port = Some(40_000);
    assert_eq!(
        emitted(&changes),
        [
            (ChangeKind::Opened, "worker", port, Attribution::FirstIo),
            (ChangeKind::Established, "worker", port, Attribution::FirstIo),
            (ChangeKind::Opened, "master", port, Attribution::Listener),
            (ChangeKind::Established, "master", port, Attribution::Listener),
            (ChangeKind::Attributed, "late", port, Attribution::Accept),
        ]
    );
    let guess = changes[4].guess.as_ref().unwrap();
    assert_eq!((&*guess.process.name, guess.since), ("master", changes[2].flow.time));
    // The owner is known now, and stays.
    let other = tcp(TcpKind::Owner(OwnerSource::FirstIo), 2, 95 * MS);
    table.observe(event(other, process("other")), &mut changes);
    table.observe(event(tcp(TcpKind::Close, 2, 99 * MS), None), &mut changes);
    let last: Vec<_> = emitted(&changes).into_iter().skip(5).collect();
    assert_eq!(last, [(ChangeKind::Closed, "late", port, Attribution::Accept)]);
    assert_eq!(changes[0].flow.direction, Direction::Inbound);
    assert_eq!(changes[0].flow.source_port(), Some(443));
}

#[test]
fn a_closed_listener_owns_no_later_connection() {
    let mut table = table(10);
    let mut changes = Vec::new();
    table.observe(event(tcp(TcpKind::Listen, 5, 0), process("old")), &mut changes);
    table.observe(event(tcp(TcpKind::Unlisten, 5, 1), None), &mut changes);
    table.observe(event(tcp(TcpKind::Established { inbound: true }, 1, MS), None), &mut changes);
    table.expire(u64::MAX, &mut changes);
    assert_eq!(changes[0].flow.attribution, Attribution::Unknown);
}

#[test]
fn a_close_without_an_open_is_still_matched_and_counted() {
    let mut table = table(10);
    let mut changes = Vec::new();
    table.observe(event(tcp(TcpKind::Close, 1, MS), None), &mut changes);
    let kinds: Vec<ChangeKind> = changes.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [ChangeKind::Opened, ChangeKind::Established, ChangeKind::Closed]);
    assert_eq!(table.stats.connections_without_open.value(), 1);
}

#[test]
fn a_full_table_closes_the_oldest_and_counts_it() {
    let mut table = table(2);
    let mut changes = Vec::new();
    for sk in 1..=3 {
        table.observe(event(tcp(TcpKind::Connect, sk, MS * sk), process("p")), &mut changes);
    }
    assert_eq!(table.len(), 2);
    assert_eq!(table.stats.connections_evicted.value(), 1);
    let of_first: Vec<ChangeKind> =
        changes.iter().filter(|it| it.number == 1).map(|it| it.kind).collect();
    assert_eq!(of_first, [ChangeKind::Opened, ChangeKind::Failed]);
}

#[test]
fn a_reused_socket_closes_its_previous_connection() {
    let mut table = table(4);
    let mut changes = Vec::new();
    table.observe(event(tcp(TcpKind::Established { inbound: true }, 1, MS), None), &mut changes);
    table.observe(event(tcp(TcpKind::Connect, 1, 9 * MS), process("p")), &mut changes);
    let kinds: Vec<(u64, ChangeKind)> = changes.iter().map(|it| (it.number, it.kind)).collect();
    assert_eq!(
        kinds,
        [
            (1, ChangeKind::Opened),
            (1, ChangeKind::Established),
            (1, ChangeKind::Closed),
            (2, ChangeKind::Opened)
        ]
    );
    assert_eq!(table.stats.connections_without_close.value(), 1);
}

#[test]
fn a_connect_that_fails_before_the_syn_is_opened_and_failed_at_once() {
    let mut table = table(4);
    let mut changes = Vec::new();
    let no_route = Tcp { local_port: 0, error: 101, ..tcp(TcpKind::ConnectFailed, 1, MS) };
    table.observe(event(no_route, process("c2")), &mut changes);
    assert_eq!(
        emitted(&changes),
        [
            (ChangeKind::Opened, "c2", None, Attribution::Connect),
            (ChangeKind::Failed, "c2", None, Attribution::Connect),
        ]
    );
    assert_eq!(changes[1].error, 101);
    assert!(table.is_empty());
}

#[test]
fn a_connect_that_fails_after_its_state_change_fails_once() {
    let mut table = table(4);
    let mut changes = Vec::new();
    table.observe(event(tcp(TcpKind::Connect, 1, MS), process("c2")), &mut changes);
    let back = Tcp { old_state: TCP_SYN_SENT, ..tcp(TcpKind::Close, 1, 2 * MS) };
    table.observe(event(back, None), &mut changes);
    let no_port = Tcp { error: 99, ..tcp(TcpKind::ConnectFailed, 1, 2 * MS) };
    table.observe(event(no_port.clone(), process("c2")), &mut changes);
    let kinds: Vec<ChangeKind> = changes.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [ChangeKind::Opened, ChangeKind::Failed]);
    // The next failure of that socket is another one.
    table.observe(event(no_port, process("c2")), &mut changes);
    assert_eq!(changes.len(), 4);
}

#[test]
fn a_fast_open_connection_accepted_early_is_established_later() {
    let mut table = table(4);
    let mut changes = Vec::new();
    let accepted = tcp(TcpKind::Owner(OwnerSource::Accept), 1, MS);
    table.observe(event(accepted, process("worker")), &mut changes);
    table
        .observe(event(tcp(TcpKind::Established { inbound: true }, 1, 2 * MS), None), &mut changes);
    table.expire(u64::MAX, &mut changes);
    let port = Some(40_000);
    assert_eq!(
        emitted(&changes),
        [
            (ChangeKind::Opened, "worker", port, Attribution::Accept),
            (ChangeKind::Established, "worker", port, Attribution::Accept),
        ]
    );
    assert_eq!(changes[0].flow.direction, Direction::Inbound);
}

#[test]
fn a_fast_open_connection_closed_early_was_established() {
    let mut table = table(4);
    let mut changes = Vec::new();
    let closes = Tcp { old_state: 3, ..tcp(TcpKind::Owner(OwnerSource::FirstIo), 1, MS) };
    table.observe(event(closes, process("worker")), &mut changes);
    let end = Tcp { old_state: 5, ..tcp(TcpKind::Close, 1, 9 * MS) };
    table.observe(event(end, None), &mut changes);
    let port = Some(40_000);
    assert_eq!(
        emitted(&changes),
        [
            (ChangeKind::Opened, "worker", port, Attribution::FirstIo),
            (ChangeKind::Established, "worker", port, Attribution::FirstIo),
            (ChangeKind::Closed, "worker", port, Attribution::FirstIo),
        ]
    );
    assert_eq!(changes[2].closed_by, ClosedBy::Local);
}

#[test]
fn a_simultaneous_open_is_outbound() {
    let mut table = table(4);
    let mut changes = Vec::new();
    let connect = Tcp { local_port: 0, ..tcp(TcpKind::Connect, 1, MS) };
    table.observe(event(connect, process("peer")), &mut changes);
    table
        .observe(event(tcp(TcpKind::Established { inbound: true }, 1, 2 * MS), None), &mut changes);
    table.observe(event(tcp(TcpKind::Close, 1, 9 * MS), None), &mut changes);
    let port = Some(40_000);
    assert_eq!(
        emitted(&changes),
        [
            (ChangeKind::Opened, "peer", port, Attribution::Connect),
            (ChangeKind::Established, "peer", port, Attribution::Connect),
            (ChangeKind::Closed, "peer", port, Attribution::Connect),
        ]
    );
}

#[test]
fn an_unused_connection_that_a_process_aborts_belongs_to_it() {
    let mut table = table(4);
    let mut changes = Vec::new();
    table.observe(event(tcp(TcpKind::Established { inbound: true }, 1, MS), None), &mut changes);
    table.observe(event(tcp(TcpKind::Close, 1, 2 * MS), process("worker")), &mut changes);
    assert_eq!(changes[0].flow.attribution, Attribution::FirstIo);
    assert_eq!((changes[2].kind, changes[2].closed_by), (ChangeKind::Closed, ClosedBy::Local));
}

#[test]
fn the_close_has_the_end_that_closed() {
    let cases = [
        (5, 0, ClosedBy::Local),
        (9, 0, ClosedBy::Remote),
        (1, 104, ClosedBy::Remote),
        (8, 32, ClosedBy::Remote),
        (1, 110, ClosedBy::Timeout),
        (TCP_SYN_SENT, 111, ClosedBy::Remote),
        (1, 113, ClosedBy::Timeout),
        (TCP_SYN_SENT, 113, ClosedBy::Unknown),
        (1, 71, ClosedBy::Unknown),
    ];
    for (old_state, error, expected) in cases {
        assert_eq!(closed_by(old_state, error), expected, "{old_state} {error}");
    }
}
