//! Connections that outlive a kill of the agent, and bytes of connections with a mapping.

use super::*;

fn mapping() -> NatMapping {
    NatMapping {
        local_ip: "192.0.2.1".parse().unwrap(),
        local_port: 50_000,
        remote_ip: "203.0.113.5".parse().unwrap(),
        remote_port: 8443,
    }
}

/// A UDP flow from `port`.
fn udp(time: Timestamp, port: u16) -> Flow {
    Flow { protocol: Protocol::Udp, local_port: Some(port), ..flow(time, "203.0.113.5", 1) }
}

#[test]
fn a_udp_flow_that_outlives_a_kill_counts_once() {
    let c2 = [indicator("c2", "203.0.113.5")];
    let state = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(state.path(), &c2, minute(0));
    agent.observe(udp(minute(0), 4000));
    agent.observe(udp(minute(0), 4001));
    agent.observe(Flow { phase: Phase::Closed, ..udp(minute(0), 4001) });
    assert_eq!(agent.take_alerts(), [new("c2")]);
    std::mem::forget(agent);
    let mut agent = Agent::start(state.path(), &c2, minute(1));
    // Another port is another flow, and so is the same one once more.
    for (port, count) in [(4002, 1), (4000, 0), (4000, 1)] {
        let before = agent.detection.dedup.admitted();
        agent.observe(udp(minute(1), port));
        assert_eq!(agent.detection.dedup.admitted() - before, count, "port {port}");
    }
    // Long after the start it is a new flow.
    std::mem::forget(agent);
    let mut agent = Agent::start(state.path(), &c2, minute(2));
    agent.observe(udp(minute(4), 4000));
    assert_eq!(agent.take_alerts(), [new("c2")]);
}

#[test]
fn an_inbound_udp_flow_is_known_by_the_port_of_the_client() {
    let c2 = [indicator("c2", "203.0.113.5")];
    let state = tempfile::tempdir().unwrap();
    let inbound = |time, port| Flow {
        direction: Direction::Inbound,
        local_port: Some(53),
        remote_port: Some(port),
        ..udp(time, 0)
    };
    let mut agent = Agent::start(state.path(), &c2, minute(0));
    agent.observe(inbound(minute(0), 5000));
    std::mem::forget(agent);
    let mut agent = Agent::start(state.path(), &c2, minute(1));
    agent.observe(inbound(minute(1), 5000));
    assert_eq!(agent.take_alerts(), []);
    agent.observe(inbound(minute(1), 5001));
    assert_eq!(agent.take_alerts(), [new("c2")]);
}

#[test]
fn connections_of_several_segments_outlive_a_kill() {
    let c2 = [indicator("c2", "203.0.113.5")];
    let state = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(state.path(), &c2, minute(0));
    for at in [0, 15, 30] {
        agent.observe(flow(minute(at), "203.0.113.5", 1));
    }
    std::mem::forget(agent);
    let mut agent = Agent::start(state.path(), &c2, minute(31));
    for count in [0, 0, 0, 1] {
        let scan = Attribution::Scan;
        let found = flow(minute(31), "203.0.113.5", 1);
        agent.observe(Flow { preexisting: true, attribution: scan, ..found });
        assert_eq!(agent.detection.dedup.admitted(), count);
    }
}

#[test]
fn a_translated_connection_that_outlives_a_kill_counts_once() {
    let c2 = [indicator("c2", "203.0.113.5")];
    let state = tempfile::tempdir().unwrap();
    let service = |time| flow(time, "198.51.100.1", 1);
    let behind = |flow| Flow { phase: Phase::Translated, translated: Some(mapping()), ..flow };
    let mut agent = Agent::start(state.path(), &c2, minute(0));
    agent.observe(service(minute(0)));
    agent.observe(behind(service(minute(0))));
    assert_eq!(agent.take_alerts(), [new("c2")]);
    std::mem::forget(agent);
    let mut agent = Agent::start(state.path(), &c2, minute(1));
    let found = Flow { preexisting: true, ..service(minute(1)) };
    agent.observe(found.clone());
    agent.observe(behind(found));
    assert_eq!(agent.take_alerts(), []);
}

#[test]
fn a_later_indicator_of_either_end_has_the_bytes() {
    let state = tempfile::tempdir().unwrap();
    for (mapped, kind) in [("opened", 0), ("later", 1), ("never", 2)] {
        let state = state.path().join(mapped);
        let mut agent = Agent::start(&state, &[], minute(0));
        let service = flow(minute(0), "198.51.100.1", 1);
        let translated = (kind < 2).then(mapping);
        let opened = if kind == 0 { translated } else { None };
        agent.observe(Flow { translated: opened, ..service.clone() });
        if kind == 1 {
            agent.observe(Flow { phase: Phase::Translated, translated, ..service.clone() });
        }
        agent.observe(Flow { phase: Phase::Closed, translated, bytes_sent: 33, ..service });
        agent.swap(&[indicator("service", "198.51.100.1")], minute(1));
        assert_eq!(agent.take_alerts(), [retro("service", 1, 33)], "{mapped}");
        agent.swap(&[indicator("backend", "203.0.113.5")], minute(2));
        let expected = if kind < 2 { vec![retro("backend", 1, 33)] } else { vec![] };
        assert_eq!(agent.take_alerts(), expected, "{mapped}");
    }
}
