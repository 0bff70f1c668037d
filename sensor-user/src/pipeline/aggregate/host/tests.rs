//! Tests of the host tables: rows of ports and processes, and conservation of their counts.

use super::super::change::ChangeKind;
use super::super::flow::{Attribution, Direction, Flow, Phase};
use super::super::malicious::no_indicator;
use super::super::rows::RowTable;
use super::*;
use crate::schema::BoundPortRow;
use crate::schema::ConnectionRow;

use std::collections::BTreeMap;
use std::net::SocketAddr;

const OWN_NETNS: u32 = 1;

/// Host with a constant list of listening sockets.
struct Fixed(Vec<ListeningSocket>);

impl HostView for Fixed {
    fn listening(&mut self, _start: Timestamp, _end: Timestamp) -> Vec<ListeningSocket> {
        self.0.clone()
    }

    fn wall(&self, boot_ns: u64) -> Timestamp {
        Timestamp::from_nanosecond(boot_ns.into()).unwrap()
    }

    fn working_directory(&self, process: &Process) -> String {
        format!("/srv/{}", process.name)
    }
}

fn process(name: &str, pid: u32) -> Arc<Process> {
    Arc::new(Process {
        pid: Some(pid),
        start_boot_ns: u64::from(pid) * 1_000_000,
        name: name.to_owned(),
        path: format!("/usr/bin/{name}"),
        ..Process::default()
    })
}

fn listens(name: &str, netns: u32, at: &str) -> ListeningSocket {
    let at: SocketAddr = at.parse().unwrap();
    ListeningSocket { netns, address: at.ip(), port: at.port(), process: process(name, 7) }
}

/// An inbound connection to `local`, from a network namespace.
fn inbound(
    (kind, number, second): (ChangeKind, u64, i64),
    name: &str,
    netns: u32,
    local: &str,
) -> Change {
    let local: SocketAddr = local.parse().unwrap();
    let flow = Flow {
        time: at(second),
        phase: Phase::Opened,
        computer: "host.example".into(),
        direction: Direction::Inbound,
        protocol: Protocol::Tcp,
        local: local.ip(),
        local_port: Some(local.port()),
        remote: if local.is_ipv4() { "203.0.113.7" } else { "2001:db8::7" }.parse().unwrap(),
        remote_port: Some(40_000),
        process: process(name, 8),
        attribution: Attribution::Accept,
        connections: 1,
        preexisting: false,
        translated: None,
        bytes_sent: 100,
        bytes_received: 10,
    };
    Change::new(kind, flow, number, netns)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn identity() -> RowIdentity {
    RowIdentity { computer: "host.example".into(), agent_id: "id".into(), ..RowIdentity::default() }
}

fn tables(max: usize) -> HostTables {
    HostTables::new(identity(), OWN_NETNS, max, Arc::default())
}

fn ports(rows: Vec<TableRow>) -> Vec<BoundPortRow> {
    let port = |row| if let TableRow::BoundPort(row) = row { Some(*row) } else { None };
    rows.into_iter().filter_map(port).collect()
}

/// Name, address, wildcard flag, and links established, terminated and live.
type Shown = (String, String, bool, (u64, u64, u64));

fn shown(rows: &[BoundPortRow]) -> Vec<Shown> {
    let mut all: Vec<_> = rows
        .iter()
        .map(|row| {
            let address = SocketAddr::new(row.ip.parse().unwrap(), row.port).to_string();
            let links = (row.links_established, row.links_terminated, row.links_live);
            let wildcard = row.is_wildcard_bind.unwrap();
            (row.process_name.clone(), address, wildcard, links)
        })
        .collect();
    all.sort();
    all
}

fn port(name: &str, at: &str, wildcard: bool, links: (u64, u64, u64)) -> Shown {
    (name.to_owned(), at.to_owned(), wildcard, links)
}

#[test]
fn connections_to_a_wildcard_count_to_the_address_that_accepted_them() {
    let mut tables = tables(100);
    let mut host = Fixed(vec![
        listens("web", OWN_NETNS, "0.0.0.0:80"),
        listens("web", OWN_NETNS, "[::]:80"),
        listens("dual", OWN_NETNS, "[::]:81"),
        listens("both", OWN_NETNS, "0.0.0.0:82"),
        listens("both", OWN_NETNS, "192.0.2.1:82"),
        listens("one", OWN_NETNS, "192.0.2.1:83"),
        listens("idle", OWN_NETNS, "0.0.0.0:84"),
        listens("systemd", OWN_NETNS, "[::]:22"),
    ]);
    tables.close_until(at(2), &mut host);
    for (number, name, local) in [
        (1, "web", "192.0.2.1:80"),
        (2, "web", "192.0.2.2:80"),
        (3, "dual", "192.0.2.1:81"),
        (4, "one", "192.0.2.1:83"),
        (5, "sshd", "192.0.2.1:22"),
    ] {
        tables.observe(
            &inbound((ChangeKind::Established, number, 10), name, OWN_NETNS, local),
            Some(Counted::at(0)),
        );
    }
    let expected = [
        port("both", "192.0.2.1:82", true, (0, 0, 0)),
        port("dual", "192.0.2.1:81", true, (1, 0, 1)),
        port("idle", "0.0.0.0:84", true, (0, 0, 0)),
        port("one", "192.0.2.1:83", false, (1, 0, 1)),
        port("sshd", "192.0.2.1:22", true, (1, 0, 1)),
        port("systemd", "[::]:22", true, (0, 0, 0)),
        port("web", "192.0.2.1:80", true, (1, 0, 1)),
        port("web", "192.0.2.2:80", true, (1, 0, 1)),
        // Idle: the socket on 0.0.0.0 accepts all IPv4 connections.
        port("web", "[::]:80", true, (0, 0, 0)),
    ];
    let rows = ports(tables.close_until(at(62), &mut host));
    assert_eq!(shown(&rows), expected);
    let ids: std::collections::HashSet<String> =
        rows.iter().map(|row| row.port_id.clone()).collect();
    assert_eq!(ids.len(), rows.len());
    // A port without a listener has a row while it has open connections.
    host.0.clear();
    tables.observe(
        &inbound((ChangeKind::Closed, 4, 70), "one", OWN_NETNS, "192.0.2.1:83"),
        Some(Counted::at(1)),
    );
    let live = shown(&ports(tables.close_until(at(122), &mut host)));
    assert_eq!(live.len(), 5, "{live:?}");
    assert!(live.contains(&port("one", "192.0.2.1:83", false, (0, 1, 0))));
    let live = shown(&ports(tables.close_until(at(182), &mut host)));
    assert_eq!(live.len(), 4, "{live:?}");
}

#[test]
fn the_same_port_in_two_namespaces_is_two() {
    let mut tables = tables(100);
    let mut host =
        Fixed(vec![listens("web", OWN_NETNS, "0.0.0.0:80"), listens("web", 2, "127.0.0.1:80")]);
    tables.close_until(at(2), &mut host);
    for (number, netns) in [(1, OWN_NETNS), (2, 2), (3, 2), (4, 0)] {
        let change = inbound((ChangeKind::Established, number, 10), "web", netns, "127.0.0.1:80");
        tables.observe(&change, Some(Counted::at(0)));
    }
    let mut rows = ports(tables.close_until(at(62), &mut host));
    rows.sort_by_key(|row| row.network_namespace);
    let [home, other] = rows.as_slice() else { panic!("{rows:?}") };
    // A record without a namespace counts to that of the agent.
    assert_eq!((home.network_namespace, home.links_live), (Some(OWN_NETNS.into()), 2));
    assert_eq!((other.network_namespace, other.links_live), (Some(2), 2));
    assert_eq!((home.is_wildcard_bind, other.is_wildcard_bind), (Some(true), Some(false)));
    assert_ne!(home.port_id, other.port_id);
}

#[test]
fn idle_ports_have_a_row_a_minute_and_a_clock_jump_makes_a_limited_number_of_rows() {
    let mut tables = tables(1);
    let mut host =
        Fixed(vec![listens("a", OWN_NETNS, "0.0.0.0:80"), listens("b", OWN_NETNS, "0.0.0.0:81")]);
    let mut minutes = |now: i64| -> Vec<i64> {
        let rows = ports(tables.close_until(at(now), &mut host));
        rows.iter().map(|row| row.time_generated.as_second() / 60).collect()
    };
    assert_eq!((minutes(30), minutes(61), minutes(62)), (vec![], vec![], vec![0]));
    assert_eq!(minutes(182), [1, 2]);
    assert_eq!(minutes(60 * 1000 + 2).len(), 10);
    assert_eq!((minutes(60 * 500 + 2), minutes(60 * 501 + 2)), (vec![], vec![500]));
    assert_eq!(tables.stats.bound_ports_dropped_full.value(), 14);
}

#[test]
fn an_executable_has_a_row_when_it_first_connects_and_then_at_each_full_hour() {
    let mut tables = tables(2);
    let mut host = Fixed(vec![listens("nginx", OWN_NETNS, "0.0.0.0:80")]);
    let close = |tables: &mut HostTables, host: &mut Fixed, now: i64| -> Vec<(String, i64)> {
        let rows = tables.close_until(at(now), host);
        let process = |row: &TableRow| match row {
            TableRow::Process(row) => {
                assert_eq!(row.working_directory, format!("/srv/{}", row.executable_name));
                assert_eq!((row.first_pid, row.start_time.unwrap().as_millisecond()), (Some(8), 8));
                let role = if row.executable_name == "nginx" { "webserver" } else { "" };
                assert_eq!(row.role, role);
                Some((row.executable_name.clone(), row.time_generated.as_second() / 60))
            }
            _ => None,
        };
        rows.iter().filter_map(process).collect()
    };
    close(&mut tables, &mut host, 2);
    let change = |kind, number, name| inbound((kind, number, 10), name, OWN_NETNS, "192.0.2.1:80");
    tables.observe(&change(ChangeKind::Established, 1, "nginx"), Some(Counted::at(0)));
    tables.observe(&change(ChangeKind::Failed, 2, "curl"), None);
    let both = [("curl".to_owned(), 0), ("nginx".to_owned(), 0)];
    assert_eq!(close(&mut tables, &mut host, 62), both);
    assert_eq!(close(&mut tables, &mut host, 60 * 59 + 2), []);
    let hour = [("curl".to_owned(), 60), ("nginx".to_owned(), 60)];
    assert_eq!(close(&mut tables, &mut host, 60 * 60 + 2), hour);
    // nginx has an open connection; curl had none in this hour.
    assert_eq!(close(&mut tables, &mut host, 120 * 60 + 2), [("nginx".to_owned(), 120)]);
    tables.observe(&change(ChangeKind::Closed, 1, "nginx"), Some(Counted::at(120)));
    tables.observe(&change(ChangeKind::Failed, 3, "curl"), None);
    assert_eq!(close(&mut tables, &mut host, 121 * 60 + 2), [("curl".to_owned(), 120)]);
    tables.observe(&change(ChangeKind::Failed, 4, "wget"), None);
    assert_eq!(tables.stats.process_groups_evicted.value(), 1);
}

#[test]
fn a_close_that_precedes_its_open_waits_a_minute_for_it() {
    let mut tables = tables(100);
    let mut host = Fixed(vec![listens("web", OWN_NETNS, "192.0.2.1:80")]);
    let step = |kind, second| inbound((kind, 1, second), "web", OWN_NETNS, "192.0.2.1:80");
    tables.close_until(at(2), &mut host);
    tables.observe(&step(ChangeKind::Closed, 59), Some(Counted::at(0)));
    tables.observe(&step(ChangeKind::Established, 60), Some(Counted::at(1)));
    for (second, links) in [(62, (0, 0, 0)), (122, (1, 1, 0)), (182, (0, 0, 0))] {
        let rows = ports(tables.close_until(at(second), &mut host));
        assert_eq!(shown(&rows), [port("web", "192.0.2.1:80", false, links)], "{second}");
    }
}

/// Established, terminated, live, sent, received.
type Sums = [u64; 5];

fn add(to: &mut Sums, links: [u64; 3], bytes: [u64; 2]) {
    for (sum, it) in to.iter_mut().zip(links.into_iter().chain(bytes)) {
        *sum += it;
    }
}

/// Run of a `RowTable` beside the host tables.
struct Run {
    rows: RowTable,
    tables: HostTables,
    host: Fixed,
    emitted: Vec<TableRow>,
}

impl Run {
    fn take(&mut self, connections: Vec<ConnectionRow>) {
        self.emitted.extend(connections.into_iter().map(|row| TableRow::Connection(Box::new(row))));
    }

    fn tick(&mut self, now: i64) {
        let connections = self.rows.close_until(at(now), &no_indicator);
        self.take(connections);
        self.emitted.extend(self.tables.close_until(at(now), &mut self.host));
    }

    fn observe(&mut self, change: &Change) {
        let minute = self.rows.observe(change);
        self.tables.observe(change, minute);
    }

    fn finish(mut self, now: i64) -> Vec<TableRow> {
        self.rows.close_through(at(now));
        self.emitted.extend(self.tables.close_all(at(now), &mut self.host));
        let connections = self.rows.close_all(&no_indicator);
        self.take(connections);
        self.emitted
    }
}

proptest::proptest! {
    /// For any connections in any namespaces: in each minute the counts of the bound ports of a process
    /// are those of its inbound rows, and every gauge follows from the one before.
    #[test]
    fn ports_conserve_the_counts_of_the_rows(
        steps in proptest::collection::vec(
            (0_i64..90, 0_usize..3, 0_u32..3, 0_usize..4, proptest::bool::ANY, 0_i64..3),
            1..60,
        ),
    ) {
        let host = Fixed(vec![listens("a", OWN_NETNS, "0.0.0.0:80"), listens("b", 2, "[::]:80")]);
        let rows = RowTable::new(identity(), 100, Arc::default());
        let mut run = Run { rows, tables: tables(100), host, emitted: Vec::new() };
        let (mut now, mut open) = (0, Vec::new());
        for (number, (wait, name, netns, local, ends, late)) in (1_u64..).zip(steps) {
            now += wait;
            run.tick(now);
            let name = ["a", "b", "c"][name];
            let local = ["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80", "127.0.0.1:81"][local];
            let second = (now - late).max(0);
            let change = match open.pop().filter(|_| ends) {
                Some(mut began) => {
                    let Change { kind, flow, .. }: &mut Change = &mut began;
                    // Ports distinguish namespaces, rows do not: rows may attribute a close that is a
                    // minute before its open to a connection of another namespace.
                    (*kind, flow.time) = (ChangeKind::Closed, flow.time.max(at(second)));
                    began
                }
                None => inbound((ChangeKind::Established, number, second), name, netns, local),
            };
            if change.kind == ChangeKind::Established {
                open.push(change.clone());
            }
            run.observe(&change);
        }
        let mut sums: BTreeMap<(Timestamp, String, u16), (Sums, Sums)> = BTreeMap::new();
        let mut gauges: BTreeMap<String, u64> = BTreeMap::new();
        let mut emitted = run.finish(now);
        // The minutes of each port in order.
        emitted.sort_by_key(|row| match row {
            TableRow::BoundPort(row) => Some(row.time_generated),
            _ => None,
        });
        for row in emitted {
            match row {
                TableRow::Connection(row) => {
                    let links = [row.links_established, row.links_terminated, row.links_live];
                    let key = (row.time_generated, row.process, row.destination_port);
                    let (moved, _) = sums.entry(key).or_default();
                    add(moved, links, [row.bytes_sent, row.bytes_received]);
                }
                TableRow::BoundPort(row) => {
                    let links = [row.links_established, row.links_terminated, row.links_live];
                    let before = gauges.insert(row.port_id.clone(), row.links_live).unwrap_or(0);
                    proptest::prop_assert_eq!(before + links[0], links[1] + links[2]);
                    let key = (row.time_generated, row.process, row.port);
                    let (_, moved) = sums.entry(key).or_default();
                    add(moved, links, [row.bytes_sent, row.bytes_received]);
                }
                TableRow::Process(_) | TableRow::Computer(_) => {}
            }
        }
        for (key, (rows, ports)) in sums {
            proptest::prop_assert_eq!(rows, ports, "{:?}", key);
        }
    }
}
