//! Flows whose datagrams the kernel refuses.

use super::*;

fn refused_flow(source: UdpOwnerSource) -> (Host, FlowKey) {
    let mut host = Host::new(10);
    let flow = key(1, "203.0.113.7", 443);
    let unresolved = UdpFlow {
        boot_ns: SECOND,
        key: flow,
        task: Task::default(),
        source,
        local: "192.0.2.1".parse().unwrap(),
        local_port: 5353,
        inbound: false,
        owner_resolved: source == UdpOwnerSource::Sent,
        netns: 9,
        on_cpu_tgid: 0,
    };
    host.kernel.0.insert(flow, FlowCounts { first_boot_ns: SECOND, ..FlowCounts::default() });
    host.event(Udp::Flow(unresolved), Some("sender"));
    host.event(Udp::Refused(flow), None);
    host.event(owner(key(1, "::", 0), false), Some("sender"));
    host.poll(SECOND + OWNER_HOLD_NS);
    (host, flow)
}

#[test]
fn a_flow_of_refused_datagrams_alone_fails() {
    for source in [UdpOwnerSource::Sent, UdpOwnerSource::Unknown] {
        let (mut host, _) = refused_flow(source);
        assert_eq!(host.changes[0].flow.process.name, "sender");
        host.event(Udp::Release { boot_ns: 2 * SECOND, cookie: 1 }, None);
        host.poll(3 * SECOND);
        assert_eq!(host.changes.last().unwrap().error, 1);
        let kinds: Vec<ChangeKind> = host.changes.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [ChangeKind::Opened, ChangeKind::Failed], "{source:?}");
        assert!(host.table.is_empty() && host.table.sockets.is_empty());
    }
}

#[test]
fn a_flow_whose_later_datagram_leaves_is_established_with_it() {
    let (mut host, flow) = refused_flow(UdpOwnerSource::Sent);
    host.changes.clear();
    host.count(flow, 8 * SECOND, (1, 0));
    host.poll(10 * SECOND);
    let times: Vec<_> = host.changes.iter().map(|it| (it.kind, it.flow.time)).collect();
    let at = host.clock.wall(8 * SECOND);
    assert_eq!(times, [(ChangeKind::Established, at), (ChangeKind::Active, at)]);
    host.event(Udp::Refused(flow), None);
    host.event(Udp::Release { boot_ns: 11 * SECOND, cookie: 1 }, None);
    host.changes.clear();
    host.poll(12 * SECOND);
    assert_eq!(host.emitted(), [(ChangeKind::Closed, 0, 0)]);
}

#[test]
fn a_flow_that_was_counted_before_its_refusal_is_closed() {
    let mut host = Host::new(10);
    let flow = key(1, "203.0.113.7", 443);
    host.begin(flow, SECOND, UdpOwnerSource::Sent, "sender");
    host.event(Udp::Refused(flow), None);
    host.event(Udp::Release { boot_ns: 2 * SECOND, cookie: 1 }, None);
    host.poll(3 * SECOND);
    let kinds: Vec<ChangeKind> = host.changes.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [ChangeKind::Opened, ChangeKind::Established, ChangeKind::Closed]);
}
