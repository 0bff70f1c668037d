//! What comes of looks, and of records before, between and after them.

use super::super::scan_index::ends_of;
use super::*;

use std::collections::HashSet;

use crate::base::counters::Stats;
use crate::pipeline::aggregate::change::{ChangeKind, ClosedBy};
use crate::pipeline::capture::Counts;
use crate::pipeline::decode::{Task, TcpKind};
use crate::pipeline::enrich::TcpEvent;

const NETNS: u32 = 7;
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const LISTEN: u8 = 10;

/// A table whose first look begins at time 0, and what it has told.
struct Told {
    table: ConnectionTable,
    changes: Vec<Change>,
    turns: NoTurns,
}

/// Nobody has answered.
#[derive(Default)]
struct NoTurns;

impl LatencyReader for NoTurns {
    fn read(&mut self, _cookie: u64) -> Option<crate::pipeline::decode::ConnectionLatency> {
        None
    }

    fn ended_epoch(&self) -> u32 {
        1
    }
}

impl Told {
    fn new(max: usize) -> Self {
        let mut table = ConnectionTable::new("host".into(), max, Arc::new(Stats::default()));
        table.begin_scan();
        Self { table, changes: Vec::new(), turns: NoTurns }
    }

    fn record(&mut self, tcp: Tcp) {
        let time = Timestamp::from_nanosecond(tcp.boot_ns.into()).unwrap();
        let actor = matches!(tcp.kind, TcpKind::Connect | TcpKind::Listen);
        let process = actor.then(|| process("actor"));
        self.table.observe(TcpEvent { time, tcp: Box::new(tcp), process }, &mut self.changes);
    }

    /// A look that began at `boot_ns`; socket inode 9 is held by `holder`.
    fn look(&mut self, kind: ScanKind, boot_ns: u64, sockets: Vec<OpenSocket>) -> Vec<OpenSocket> {
        let open = OpenSockets::of(boot_ns, sockets, HashSet::from([NETNS]));
        let time = Timestamp::from_nanosecond(boot_ns.into()).unwrap();
        let mut owner = |inode| (inode == 9).then(|| process("holder"));
        let turns = &mut self.turns;
        self.table.apply_scan(&open, (kind, time), (&mut owner, turns), &mut self.changes)
    }

    /// Later looks, each after its beginning was told.
    fn look_again(&mut self, boot_ns: u64, sockets: Vec<OpenSocket>) -> Vec<OpenSocket> {
        self.table.begin_scan();
        self.look(ScanKind::Periodic, boot_ns, sockets)
    }

    /// What was told since the last call: what, of which connection, bytes each way.
    fn told(&mut self) -> Vec<(ChangeKind, u64, u64, u64)> {
        let all = self.changes.drain(..);
        all.map(|it| (it.kind, it.number, it.flow.bytes_sent, it.flow.bytes_received)).collect()
    }
}

fn process(name: &str) -> Arc<Process> {
    Arc::new(Process { name: name.into(), ..Process::default() })
}

fn tcp(kind: TcpKind, sk: u64, boot_ns: u64) -> Tcp {
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
        netns: NETNS,
        error: 0,
        srtt_us: 9,
        bytes_sent: 0,
        bytes_received: 0,
    }
}

fn closed(sk: u64, boot_ns: u64, cookie: u64, bytes_sent: u64) -> Tcp {
    Tcp { cookie, bytes_sent, ..tcp(TcpKind::Close, sk, boot_ns) }
}

/// The socket of the connection that [`tcp`] tells of.
fn socket(cookie: u64, bytes_sent: u64) -> OpenSocket {
    let ends = ends_of(&tcp(TcpKind::Close, 1, 0));
    let counts = Some(Counts { bytes_sent, bytes_received: 0, rtt_us: 25 });
    OpenSocket { netns: NETNS, cookie, inode: 9, ends, state: ESTABLISHED, counts }
}

fn other_socket(cookie: u64, local_port: u16) -> OpenSocket {
    let socket = socket(cookie, 0);
    OpenSocket { ends: Ends { local_port, ..socket.ends }, ..socket }
}

#[test]
fn what_was_open_before_is_told_once_with_what_it_moves_from_then_on() {
    for cookie_of_close in [5, 0] {
        let mut told = Told::new(10);
        told.look(ScanKind::Initial, 100, vec![socket(5, 1_000)]);
        let opened = told.changes[0].clone();
        assert!(opened.flow.preexisting);
        assert_eq!(opened.flow.attribution, Attribution::Scan);
        assert_eq!(opened.flow.process.name, "holder");
        assert_eq!(opened.flow.direction, Direction::Outbound);
        assert_eq!(
            told.told(),
            [(ChangeKind::Opened, 1, 0, 0), (ChangeKind::Established, 1, 0, 0)]
        );
        told.look_again(200, vec![socket(5, 1_000)]);
        assert_eq!(told.told(), [], "idle");
        told.look_again(300, vec![socket(5, 1_300)]);
        assert_eq!((told.changes[0].rtt_us, told.changes[0].flow.preexisting), (25, true));
        assert_eq!(told.told(), [(ChangeKind::Active, 1, 300, 0)]);
        told.record(closed(0xffff_8000, 400, cookie_of_close, 1_350));
        assert_eq!(told.told(), [(ChangeKind::Closed, 1, 50, 0)]);
        assert!(told.table.is_empty());
    }
}

#[test]
fn what_records_told_is_not_told_by_a_look() {
    let mut told = Told::new(10);
    told.record(Tcp { local_port: 0, ..tcp(TcpKind::Connect, 1, 50) });
    told.record(tcp(TcpKind::Established { inbound: false }, 1, 60));
    told.told();
    // Older than the look: joined, and its counts told.
    told.look(ScanKind::Initial, 100, vec![socket(5, 70)]);
    assert_eq!(told.told(), [(ChangeKind::Active, 1, 70, 0)]);
    // Younger than a look that saw another one with the same ends.
    told.record(closed(1, 150, 5, 80));
    told.record(tcp(TcpKind::Connect, 2, 160));
    told.record(tcp(TcpKind::Established { inbound: false }, 2, 170));
    told.told();
    assert_eq!(told.look_again(140, vec![socket(5, 75)]), []);
    assert_eq!(told.told(), [], "those counts are of the one before");
    told.record(closed(2, 190, 6, 11));
    assert_eq!(told.told(), [(ChangeKind::Closed, 2, 11, 0)]);
}

#[test]
fn what_ended_while_a_look_was_made_is_not_opened_by_it() {
    // (cookie in the record of the end, in the look)
    for (of_end, of_look) in [(5, 5), (0, 5), (5, 0), (0, 0)] {
        let mut told = Told::new(10);
        told.record(closed(1, 150, of_end, 80));
        assert_eq!(told.told(), []);
        told.look(ScanKind::Initial, 100, vec![socket(of_look, 70)]);
        assert!(told.changes.iter().all(|it| it.flow.preexisting));
        assert_eq!(told.told(), end_alone(1, 80), "{of_end} {of_look}");
        assert!(told.table.is_empty());
    }
    // One that ended before the look is another one.
    let mut told = Told::new(10);
    told.record(closed(1, 50, 0, 80));
    told.look(ScanKind::Initial, 100, vec![socket(5, 70)]);
    let mut expected = vec![(ChangeKind::Opened, 1, 0, 0), (ChangeKind::Established, 1, 0, 0)];
    expected.extend(end_alone(2, 80));
    assert_eq!(told.told(), expected);
    // Nor is a new one with its socket ended.
    let mut told = Told::new(10);
    told.record(closed(1, 50, 0, 80));
    told.record(Tcp { local_port: 9, ..tcp(TcpKind::Connect, 1, 60) });
    assert_eq!(told.told(), [(ChangeKind::Opened, 1, 0, 0)]);
    told.look(ScanKind::Initial, 100, vec![other_socket(6, 9)]);
    assert_eq!(told.told(), end_alone(2, 80));
    assert_eq!(told.table.len(), 1);
    // A look that does not come is not waited for.
    let mut told = Told::new(10);
    told.record(closed(1, 50, 0, 80));
    told.table.expire(50 + EARLY_HOLD_NS - 1, &mut told.changes);
    assert_eq!(told.told(), []);
    told.table.expire(50 + EARLY_HOLD_NS, &mut told.changes);
    assert_eq!(told.told(), end_alone(1, 80));
}

/// What is told of a connection of which only the end was seen.
fn end_alone(number: u64, bytes_sent: u64) -> Vec<(ChangeKind, u64, u64, u64)> {
    let (opened, established) = (ChangeKind::Opened, ChangeKind::Established);
    vec![
        (opened, number, 0, 0),
        (established, number, 0, 0),
        (ChangeKind::Closed, number, bytes_sent, 0),
    ]
}

#[test]
fn a_record_older_than_the_look_may_come_after_it() {
    for late in [TcpKind::Connect, TcpKind::Established { inbound: true }] {
        let mut told = Told::new(10);
        told.look(ScanKind::Initial, 100, vec![socket(5, 70)]);
        told.told();
        told.record(tcp(late, 1, 90));
        if late == TcpKind::Connect {
            told.record(tcp(TcpKind::Established { inbound: false }, 1, 95));
        }
        assert_eq!(told.told(), []);
        told.record(closed(1, 120, 5, 100));
        assert_eq!(told.told(), [(ChangeKind::Closed, 1, 30, 0)]);
        // The same ends again, later: another one.
        told.record(tcp(TcpKind::Connect, 1, 130));
        assert_eq!(told.told(), [(ChangeKind::Opened, 2, 0, 0)]);
    }
}

#[test]
fn a_syn_without_a_port_is_the_half_open_socket_to_the_same_remote() {
    let mut told = Told::new(10);
    told.record(Tcp { local_port: 0, ..tcp(TcpKind::Connect, 1, 50) });
    let half_open = OpenSocket { state: SYN_SENT, ..socket(5, 0) };
    let older = OpenSocket { state: SYN_SENT, ..other_socket(6, 50_000) };
    told.look(ScanKind::Initial, 100, vec![half_open, older]);
    // One of the two was told by its record; the other is older than the probes.
    let of_look = told.told();
    assert_eq!(of_look, [(ChangeKind::Opened, 2, 0, 0)]);
    told.record(Tcp { old_state: 2, ..tcp(TcpKind::Established { inbound: false }, 1, 120) });
    assert_eq!(told.told(), [(ChangeKind::Opened, 1, 0, 0), (ChangeKind::Established, 1, 0, 0)]);
}

#[test]
fn an_established_record_without_its_connect_waits_for_the_first_look() {
    let mut told = Told::new(10);
    told.record(tcp(TcpKind::Established { inbound: false }, 1, 50));
    assert_eq!(told.told(), []);
    told.look(ScanKind::Initial, 100, vec![socket(5, 70)]);
    assert_eq!(told.changes[0].flow.process.name, "holder");
    assert_eq!(told.told(), [(ChangeKind::Opened, 1, 0, 0), (ChangeKind::Established, 1, 0, 0)]);
}

#[test]
fn what_a_listener_covers_is_inbound() {
    let mut told = Told::new(10);
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
    told.look(
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
    let opened = told.changes.iter().filter(|it| it.kind == ChangeKind::Opened);
    let seen: Vec<_> = opened.map(|it| (it.flow.direction, it.flow.attribution)).collect();
    let (scan, unknown) = (Attribution::Scan, Attribution::Unknown);
    let (inbound, outbound) = (Direction::Inbound, Direction::Outbound);
    let listeners = (inbound, Attribution::Listener);
    assert_eq!(
        seen,
        [(inbound, scan), (inbound, scan), (outbound, scan), (outbound, unknown), listeners]
    );
    // A later connection to a listener that only the look has seen is its owner's, until it ends.
    told.changes.clear();
    let arrives = |sk| Tcp {
        local_port: 2,
        remote_port: 9,
        ..tcp(TcpKind::Established { inbound: true }, sk, 200)
    };
    told.record(arrives(1));
    told.table.expire(u64::MAX, &mut told.changes);
    assert_eq!(told.changes[0].flow.process.name, "holder");
    told.record(Tcp { local_port: 2, cookie: 102, ..tcp(TcpKind::Unlisten, 3, 300) });
    told.changes.clear();
    told.record(arrives(2));
    told.table.expire(u64::MAX, &mut told.changes);
    assert_eq!(told.changes[0].flow.attribution, Attribution::Unknown);
}

#[test]
fn what_two_looks_miss_has_ended() {
    let mut told = Told::new(10);
    told.look(ScanKind::Initial, 100, vec![socket(5, 1_000)]);
    told.record(Tcp { local_port: 1, ..tcp(TcpKind::Connect, 1, 150) });
    told.told();
    told.look_again(200, vec![]);
    assert_eq!(told.told(), []);
    told.look_again(300, vec![socket(5, 1_000)]);
    assert_eq!(told.told(), [(ChangeKind::Failed, 2, 0, 0)]);
    told.look_again(400, vec![]);
    assert_eq!(told.told(), [], "found in between");
    told.look_again(500, vec![]);
    assert_eq!(told.changes[0].closed_by, ClosedBy::Unknown);
    assert_eq!(told.told(), [(ChangeKind::Closed, 1, 0, 0)]);
    assert_eq!(told.table.stats.connections_close_missed.value(), 2);
    assert!(told.table.is_empty());
}

#[test]
fn what_began_after_the_look_or_is_elsewhere_is_not_missed() {
    let mut told = Told::new(10);
    told.look(ScanKind::Initial, 100, vec![]);
    told.record(Tcp { netns: 8, ..tcp(TcpKind::Connect, 1, 150) });
    told.record(tcp(TcpKind::Connect, 2, 950));
    told.told();
    for at in [200, 300, 400, 900] {
        told.look_again(at, vec![]);
    }
    assert_eq!(told.told(), []);
    assert_eq!(told.table.len(), 2);
}

#[test]
fn what_no_record_told_is_asked_for_again_and_opened() {
    let mut told = Told::new(10);
    told.look(ScanKind::Initial, 100, vec![]);
    let unknown = told.look_again(200, vec![socket(5, 70), other_socket(6, 2)]);
    assert_eq!(unknown.len(), 2);
    assert_eq!(told.told(), []);
    // One of them ends meanwhile.
    told.record(closed(1, 250, 5, 80));
    told.told();
    assert_eq!(told.look(ScanKind::Owners, 200, unknown), []);
    assert!(!told.changes[0].flow.preexisting);
    assert_eq!(told.told(), [(ChangeKind::Opened, 2, 0, 0), (ChangeKind::Established, 2, 0, 0)]);
    // It began after the agent, so all that it moved is told.
    let moved = OpenSocket { ends: other_socket(6, 2).ends, ..socket(6, 500) };
    told.look_again(300, vec![moved]);
    assert_eq!(told.told(), [(ChangeKind::Active, 2, 500, 0)]);
}

#[test]
fn no_more_are_opened_than_the_table_holds() {
    let mut told = Told::new(2);
    let sockets = (1..=4).map(|port| other_socket(port.into(), port)).collect();
    told.look(ScanKind::Initial, 100, sockets);
    assert_eq!(told.table.len(), 2);
    assert_eq!(told.table.stats.sockets_dropped_full.value(), 2);
    for sk in 1..=3 {
        let from = Tcp { local_port: 100, remote_port: 1, ..tcp(TcpKind::Connect, sk, 200 + sk) };
        told.record(from);
    }
    told.told();
    told.look_again(300, vec![]);
    assert!(told.table.scan.found.is_empty());
}
