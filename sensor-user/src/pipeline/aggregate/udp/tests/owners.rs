//! Owners of flows that are resolved late.

use super::*;

#[test]
fn concurrent_senders_each_own_their_flow() {
    let mut host = Host::new(10);
    let begin = |remote_port, on_cpu_tgid| UdpFlow {
        boot_ns: SECOND,
        key: key(5, "203.0.113.7", remote_port),
        task: Task::default(),
        source: UdpOwnerSource::Unknown,
        local: "192.0.2.1".parse().unwrap(),
        local_port: 5353,
        inbound: false,
        owner_resolved: false,
        netns: 9,
        on_cpu_tgid,
    };
    host.event(Udp::Flow(begin(1, 71)), None);
    host.event(Udp::Flow(begin(2, 72)), None);
    let owner = |tgid| {
        let task = Task { tgid, ..Task::default() };
        let key = key(5, "::", 0);
        Udp::Owner(UdpOwner { boot_ns: 0, key, task, source: UdpOwnerSource::Sent, inbound: false })
    };
    host.event(owner(71), Some("first"));
    host.event(owner(72), Some("second"));
    let opened = host.changes.iter().filter(|it| it.kind == ChangeKind::Opened);
    let names: Vec<_> =
        opened.map(|it| (it.flow.remote_port.unwrap(), it.flow.process.name.as_str())).collect();
    assert_eq!(names, [(1, "first"), (2, "second")]);
}

#[test]
fn a_late_reader_corrects_the_process_that_bound_the_socket() {
    let mut host = Host::new(10);
    let flow = key(1, "198.51.100.7", INBOUND_PORT);
    host.begin(flow, SECOND, UdpOwnerSource::Bound, "activator");
    host.poll(SECOND + OWNER_HOLD_NS);
    host.changes.clear();
    // Reads without an address: the record is for all unresolved flows of the socket.
    host.event(owner(key(1, "::", 0), true), Some("service"));
    host.event(owner(key(1, "::", 0), true), Some("another reader"));
    let [attributed] = &host.changes[..] else { panic!("{:?}", host.changes) };
    assert_eq!(attributed.kind, ChangeKind::Attributed);
    assert_eq!(attributed.flow.process.name, "service");
    assert_eq!(attributed.flow.attribution, Attribution::FirstIo);
    let guess = attributed.guess.as_ref().unwrap();
    assert_eq!((&*guess.process.name, guess.since), ("activator", host.clock.wall(SECOND)));
    assert_eq!(host.stats.owners_corrected.value(), 1);
    assert!(host.table.sockets[&1].unresolved.is_empty());
}

#[test]
fn an_owner_that_was_known_is_not_corrected() {
    let mut host = Host::new(10);
    let flow = key(1, "198.51.100.7", 443);
    host.begin(flow, SECOND, UdpOwnerSource::Sent, "sender");
    host.poll(SECOND + OWNER_HOLD_NS);
    host.changes.clear();
    host.event(owner(flow, false), Some("other"));
    assert_eq!(host.emitted(), []);
}
