//! Records and counts, and the changes that they cause.

use super::*;

use sensor_ebpf::record::UdpOwnerSource;

use crate::pipeline::aggregate::flow::{Attribution, Direction, Phase};
use crate::pipeline::capture::{Ends, OpenSocket, OpenSockets};
use crate::pipeline::decode::{FlowCounts, Task, UdpOwner};

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// Fake of the kernel's map.
#[derive(Default)]
struct Kernel(std::collections::HashMap<FlowKey, FlowCounts>);

impl FlowCounters for Kernel {
    fn read(&mut self, key: &FlowKey) -> Option<FlowCounts> {
        self.0.get(key).copied()
    }

    fn forget(&mut self, key: &FlowKey) {
        self.0.remove(key);
    }
}

/// Table with a fake kernel.
struct Host {
    table: UdpTable,
    kernel: Kernel,
    stats: Arc<Stats>,
    changes: Vec<Change>,
    clock: BootClock,
}

impl Host {
    fn new(max: usize) -> Self {
        let stats = Arc::new(Stats::default());
        let idle = Duration::from_mins(1);
        Self {
            table: UdpTable::new("host.example".into(), max, idle, Arc::clone(&stats)),
            kernel: Kernel::default(),
            stats,
            changes: Vec::new(),
            clock: BootClock::with_offset_ns(0),
        }
    }

    fn event(&mut self, udp: Udp, name: Option<&str>) {
        let process = |name: &str| Arc::new(Process { name: name.into(), ..Process::default() });
        let event = UdpEvent { udp: Box::new(udp), process: name.map(process) };
        self.table.observe(event, &self.clock, &mut self.changes);
    }

    /// A flow begins; its process is known unless the name is "".
    fn begin(&mut self, key: FlowKey, boot_ns: u64, source: UdpOwnerSource, name: &str) {
        let inbound = key.remote_port == INBOUND_PORT;
        let owner_resolved = !inbound && source == UdpOwnerSource::Sent;
        let local = "192.0.2.1".parse().unwrap();
        let flow = UdpFlow {
            boot_ns,
            key,
            task: Task::default(),
            source,
            local,
            local_port: 5353,
            inbound,
            owner_resolved,
            netns: 9,
            on_cpu_tgid: 0,
        };
        self.kernel.0.insert(key, FlowCounts { first_boot_ns: boot_ns, ..FlowCounts::default() });
        self.event(Udp::Flow(flow), (!name.is_empty()).then_some(name));
        if owner_resolved {
            // Nothing refuses the datagram.
            self.table.expire(boot_ns + OWNER_HOLD_NS, &mut self.changes);
        }
    }

    /// Sets the counts of a flow in the kernel.
    fn count(&mut self, key: FlowKey, at_ns: u64, (sent, received): (u64, u64)) {
        let counts = self.kernel.0.get_mut(&key).unwrap();
        counts.last_monotonic_ns = at_ns;
        (counts.packets_sent, counts.bytes_sent) = (sent, sent * 10);
        (counts.packets_received, counts.bytes_received) = (received, received * 100);
    }

    fn poll(&mut self, at_ns: u64) {
        let now = ClockReading { boot_ns: at_ns, monotonic_ns: at_ns, clock: &self.clock };
        self.table.expire(at_ns, &mut self.changes);
        while self.table.read_counts(now, &mut self.kernel, &mut self.changes) {}
    }

    /// Kinds of the changes since the last call, with bytes sent and received.
    fn emitted(&mut self) -> Vec<(ChangeKind, u64, u64)> {
        let emitted = self.changes.drain(..);
        emitted.map(|it| (it.kind, it.flow.bytes_sent, it.flow.bytes_received)).collect()
    }
}

const INBOUND_PORT: u16 = 4000;

fn key(cookie: u64, remote: &str, remote_port: u16) -> FlowKey {
    FlowKey { cookie, remote: remote.parse().unwrap(), remote_port, local_port: 5353 }
}

fn owner(key: FlowKey, inbound: bool) -> Udp {
    let source = if inbound { UdpOwnerSource::FirstIo } else { UdpOwnerSource::Sent };
    Udp::Owner(UdpOwner { boot_ns: 0, key, task: Task::default(), source, inbound })
}

#[test]
fn a_query_is_opened_at_once_and_closed_with_its_counts() {
    let mut host = Host::new(10);
    let query = key(1, "203.0.113.7", 53);
    host.begin(query, SECOND, UdpOwnerSource::Sent, "dig");
    assert_eq!(host.emitted(), [(ChangeKind::Opened, 0, 0), (ChangeKind::Established, 0, 0)]);
    host.count(query, 2 * SECOND, (1, 1));
    host.event(Udp::Release { boot_ns: 3 * SECOND, cookie: 1 }, None);
    host.poll(3 * SECOND + MS);
    let [closed] = &host.changes[..] else { panic!("{:?}", host.changes) };
    assert_eq!((closed.kind, closed.flow.phase), (ChangeKind::Closed, Phase::Closed));
    assert_eq!((closed.flow.bytes_sent, closed.flow.bytes_received), (10, 100));
    assert_eq!((closed.packets_sent, closed.packets_received), (1, 1));
    assert_eq!(closed.duration, Duration::from_secs(1));
    assert_eq!(closed.flow.time, host.clock.wall(3 * SECOND));
    assert_eq!(closed.flow.process.name, "dig");
    assert_eq!(closed.flow.attribution, Attribution::Connect);
    assert_eq!((closed.flow.local_port, closed.flow.remote_port), (Some(5353), Some(53)));
    assert_eq!((closed.netns, closed.number), (9, FIRST_NUMBER + 1));
    assert!(host.table.is_empty() && host.kernel.0.is_empty() && host.table.sockets.is_empty());
}

#[test]
fn an_inbound_flow_waits_for_its_reader() {
    let mut host = Host::new(10);
    let flow = key(1, "203.0.113.7", INBOUND_PORT);
    host.begin(flow, SECOND, UdpOwnerSource::Bound, "systemd");
    host.poll(SECOND + OWNER_HOLD_NS - 1);
    assert_eq!(host.emitted(), []);
    host.event(owner(flow, true), Some("named"));
    let [opened, established] = &host.changes[..] else { panic!("{:?}", host.changes) };
    assert_eq!((opened.kind, established.kind), (ChangeKind::Opened, ChangeKind::Established));
    assert_eq!(opened.flow.process.name, "named");
    assert_eq!(opened.flow.attribution, Attribution::FirstIo);
    assert_eq!(opened.flow.direction, Direction::Inbound);
    assert_eq!(opened.flow.time, host.clock.wall(SECOND));
    assert!(host.table.sockets[&1].unresolved.is_empty());
}

#[test]
fn the_socket_owner_replaces_a_missing_reader() {
    for (source, name, attribution) in [
        (UdpOwnerSource::Bound, "systemd", Attribution::Listener),
        (UdpOwnerSource::FirstIo, "worker", Attribution::FirstIo),
        (UdpOwnerSource::Unknown, "", Attribution::Unknown),
    ] {
        let mut host = Host::new(10);
        host.begin(key(1, "203.0.113.7", INBOUND_PORT), SECOND, source, name);
        host.poll(SECOND + OWNER_HOLD_NS);
        assert_eq!(host.changes[0].flow.attribution, attribution);
        assert_eq!(host.changes[0].flow.process.name, name);
        assert_eq!(host.changes.len(), 2);
    }
}

#[test]
fn a_reader_without_address_owns_inbound_flows_and_a_writer_outbound_ones() {
    let mut host = Host::new(10);
    let (received, sent) = (key(1, "203.0.113.7", INBOUND_PORT), key(1, "203.0.113.8", 53));
    host.begin(received, SECOND, UdpOwnerSource::Unknown, "");
    host.begin(sent, SECOND, UdpOwnerSource::Unknown, "");
    host.event(owner(key(2, "::", 0), true), Some("of another socket"));
    assert_eq!(host.emitted(), []);
    host.event(owner(key(1, "::", 0), false), Some("writer"));
    assert_eq!(host.changes.len(), 2);
    assert_eq!(host.changes[0].flow.remote, sent.remote);
    assert_eq!(host.changes[0].flow.attribution, Attribution::Connect);
    host.event(owner(key(1, "::", 0), true), Some("reader"));
    assert_eq!(host.changes.len(), 4);
    assert_eq!(host.changes[2].flow.process.name, "reader");
    assert_eq!(host.changes[2].flow.attribution, Attribution::FirstIo);
}

#[test]
fn deltas_add_up_and_an_idle_flow_is_closed() {
    let mut host = Host::new(10);
    let flow = key(1, "203.0.113.7", 443);
    host.poll(0);
    host.begin(flow, SECOND, UdpOwnerSource::Sent, "curl");
    let _opened = host.emitted();
    host.count(flow, 4 * SECOND, (3, 0));
    host.poll(4 * SECOND);
    assert_eq!(host.emitted(), [], "not before the next pass");
    host.poll(5 * SECOND);
    assert_eq!(host.emitted(), [(ChangeKind::Active, 30, 0)]);
    host.poll(10 * SECOND);
    assert_eq!(host.emitted(), [], "no new datagrams");
    host.count(flow, 11 * SECOND, (4, 2));
    host.poll(15 * SECOND);
    assert_eq!(host.changes[0].flow.time, host.clock.wall(11 * SECOND), "of the last datagram");
    assert_eq!(host.emitted(), [(ChangeKind::Active, 10, 200)]);
    host.poll(70 * SECOND);
    assert_eq!(host.emitted(), []);
    host.poll(75 * SECOND);
    assert_eq!(host.changes[0].duration, Duration::from_secs(10));
    assert_eq!(host.emitted(), [(ChangeKind::Closed, 0, 0)]);
    host.begin(flow, 80 * SECOND, UdpOwnerSource::Sent, "curl");
    assert_eq!(host.changes[0].number, FIRST_NUMBER + 2, "a new flow");
}

#[test]
fn a_minute_has_its_own_bytes() {
    let mut host = Host::new(10);
    let flow = key(1, "203.0.113.7", 443);
    host.begin(flow, 58 * SECOND, UdpOwnerSource::Sent, "curl");
    host.poll(58 * SECOND);
    // Read just after the end of the minute, a moment after a datagram of the next one.
    host.count(flow, 60 * SECOND + MS, (5, 0));
    host.changes.clear();
    host.poll(60 * SECOND + 2 * MS);
    assert_eq!(host.changes[0].flow.time, host.clock.wall(60 * SECOND - 1));
    host.count(flow, 62 * SECOND, (6, 0));
    host.poll(66 * SECOND);
    assert_eq!(host.changes[1].flow.time, host.clock.wall(62 * SECOND));
    assert_eq!(host.emitted(), [(ChangeKind::Active, 50, 0), (ChangeKind::Active, 10, 0)]);
}

#[test]
fn an_evicted_flow_is_closed_and_counted_and_a_restarted_one_continues() {
    let mut host = Host::new(10);
    let (lost, again) = (key(1, "203.0.113.7", 443), key(1, "203.0.113.8", 443));
    host.poll(0);
    for flow in [lost, again] {
        host.begin(flow, SECOND, UdpOwnerSource::Sent, "curl");
        host.count(flow, 2 * SECOND, (2, 0));
    }
    host.poll(6 * SECOND);
    let _active = host.emitted();
    host.kernel.0.clear();
    host.begin(again, 7 * SECOND, UdpOwnerSource::Sent, "curl");
    host.count(again, 8 * SECOND, (1, 0));
    host.poll(12 * SECOND);
    let mut emitted = host.emitted();
    emitted.sort_by_key(|it| it.1);
    assert_eq!(emitted, [(ChangeKind::Closed, 0, 0), (ChangeKind::Active, 10, 0)]);
    assert_eq!(host.stats.udp_flows_evicted.value(), 2);
    assert_eq!(host.table.len(), 1);
}

#[test]
fn a_repeated_record_changes_nothing() {
    let mut host = Host::new(10);
    let flow = key(1, "203.0.113.7", 443);
    host.begin(flow, SECOND, UdpOwnerSource::Sent, "curl");
    host.begin(flow, SECOND, UdpOwnerSource::Sent, "curl");
    assert_eq!(host.emitted().len(), 2);
    assert_eq!((host.table.len(), host.stats.udp_flows_evicted.value()), (1, 0));
}

#[test]
fn a_full_table_closes_the_least_recently_used_with_its_counts() {
    let mut host = Host::new(2);
    let flows = [1, 2, 3].map(|cookie| key(cookie, "203.0.113.7", 443));
    for (flow, at) in flows.into_iter().zip(1..) {
        host.begin(flow, at * SECOND, UdpOwnerSource::Sent, "curl");
        host.count(flow, at * SECOND, (at, 0));
    }
    let _opened = host.emitted();
    host.poll(3 * SECOND + MS);
    let closed = host.emitted();
    assert!(closed.contains(&(ChangeKind::Closed, 10, 0)), "{closed:?}");
    assert_eq!((host.table.len(), host.kernel.0.len()), (2, 2));
    assert_eq!(host.stats.udp_flows_evicted.value(), 1);
}

#[test]
fn many_flows_are_read_over_several_polls() {
    let mut host = Host::new(10_000);
    for number in 0..5000 {
        let flow = key(u64::from(number), "203.0.113.7", 10_000 + number);
        host.begin(flow, SECOND, UdpOwnerSource::Sent, "scan");
        host.count(flow, SECOND, (1, 0));
    }
    host.changes.clear();
    let now = ClockReading { boot_ns: SECOND, monotonic_ns: SECOND, clock: &host.clock };
    assert!(host.table.read_counts(now, &mut host.kernel, &mut host.changes), "some are unread");
    assert_eq!(host.changes.len(), READS_PER_POLL);
    host.poll(SECOND);
    assert_eq!(host.changes.len(), 5000);
}

#[test]
fn a_clock_step_back_is_harmless() {
    let mut host = Host::new(10);
    let flow = key(1, "203.0.113.7", 443);
    host.begin(flow, 100 * SECOND, UdpOwnerSource::Sent, "curl");
    host.count(flow, 100 * SECOND, (1, 0));
    host.poll(120 * SECOND);
    host.clock = BootClock::with_offset_ns(-50_000_000_000);
    host.count(flow, 121 * SECOND, (2, 0));
    host.poll(126 * SECOND);
    let sum: u64 = host.emitted().iter().map(|it| it.1).sum();
    assert_eq!(sum, 20);
}

fn open_socket(cookie: u64, local_port: u16, remote_port: u16) -> OpenSocket {
    let (local, remote) = ("192.0.2.1".parse().unwrap(), "203.0.113.7".parse().unwrap());
    let ends = Ends { local, local_port, remote, remote_port };
    OpenSocket { netns: 9, cookie, inode: 1, ends, state: 1, counts: None }
}

fn scan(host: &mut Host, udp: Vec<OpenSocket>, at: u64) {
    let mut open = OpenSockets::default();
    (open.udp, open.began_boot_ns) = (udp, at);
    let process = Process { name: "owner".into(), ..Process::default() };
    let mut owner = |_inode| Some(Arc::new(process.clone()));
    host.table.apply_scan(&open, host.clock.wall(at), &mut owner, &mut host.changes);
}

#[test]
fn a_socket_connected_before_is_opened_once_and_counted_from_its_next_datagram() {
    let mut host = Host::new(10);
    let bound = open_socket(1, 53, 0);
    scan(&mut host, vec![bound, open_socket(2, 5_000, 443), open_socket(3, 53, 6_000)], SECOND);
    let emitted: Vec<_> = host
        .changes
        .drain(..)
        .map(|it| {
            assert!(it.flow.preexisting && it.flow.attribution == Attribution::Scan);
            (it.kind, it.flow.remote_port.unwrap(), it.flow.direction)
        })
        .collect();
    let (inbound, outbound) = (Direction::Inbound, Direction::Outbound);
    assert_eq!(
        emitted,
        [
            (ChangeKind::Opened, 443, outbound),
            (ChangeKind::Established, 443, outbound),
            (ChangeKind::Opened, 6_000, inbound),
            (ChangeKind::Established, 6_000, inbound),
        ]
    );
    // The kernel has no counts yet; then one sends.
    host.poll(10 * SECOND);
    assert_eq!(host.emitted(), []);
    let sends = FlowKey { local_port: 5_000, ..key(2, "203.0.113.7", 443) };
    host.begin(sends, 20 * SECOND, UdpOwnerSource::Sent, "other");
    host.count(sends, 21 * SECOND, (3, 0));
    host.poll(30 * SECOND);
    assert_eq!(host.emitted(), [(ChangeKind::Active, 30, 0)]);
    assert_eq!(host.stats.udp_flows_evicted.value(), 0);
    // The other flow becomes idle; the socket of this one is closed.
    host.poll(62 * SECOND);
    assert_eq!(host.emitted(), [(ChangeKind::Closed, 0, 0)]);
    host.event(Udp::Release { boot_ns: 63 * SECOND, cookie: 2 }, None);
    host.poll(64 * SECOND);
    assert_eq!(host.emitted(), [(ChangeKind::Closed, 0, 0)]);
    assert!(host.table.is_empty() && host.table.sockets.is_empty());
}

#[test]
fn a_datagram_does_not_reopen_a_flow_from_proc_without_cookie() {
    let mut host = Host::new(10);
    scan(&mut host, vec![open_socket(0, 5353, 443)], SECOND);
    assert_eq!(host.emitted().len(), 2);
    let sends = key(7, "203.0.113.7", 443);
    host.begin(sends, 2 * SECOND, UdpOwnerSource::Sent, "it");
    host.count(sends, 2 * SECOND, (1, 0));
    host.poll(10 * SECOND);
    assert_eq!(host.emitted(), [(ChangeKind::Active, 10, 0)]);
    assert_eq!(host.table.len(), 1);
}

mod owners;
mod refusals;
