//! Lookups and held changes, with responses that the tests make.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use jiff::Timestamp;

use super::connections::HOLD_NS;
use super::lookup_thread::FinishedBatch;
use super::messages::{NatLookup, NatResponse, Translation};
use super::tracker::NatTracker;
use crate::base::counters::Stats;
use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::{Attribution, Change, ChangeKind, Direction, Flow, Phase};
use crate::pipeline::capture::Tuple;

const MS: u64 = 1_000_000;
const CLIENT: &str = "192.0.2.1:40000";
/// Address that the program uses.
const SERVICE: &str = "10.96.0.1:53";
/// Actual receiver.
const BACKEND: &str = "203.0.113.7:5353";

/// A tracker between two channels.
struct Fixture {
    tracker: NatTracker,
    requests: Receiver<Vec<NatLookup>>,
    responses: SyncSender<FinishedBatch>,
    changes: Vec<Change>,
    now: u64,
    stats: Arc<Stats>,
}

impl Fixture {
    fn new() -> Self {
        let stats = Arc::new(Stats::default());
        let (lookups, requests) = sync_channel(9);
        let (responses, finished) = sync_channel(9);
        let tracker = NatTracker::with_channels(lookups, finished, &stats);
        Self { tracker, requests, responses, changes: Vec::new(), now: 5000 * MS, stats }
    }

    /// Passes new changes; returns what comes out.
    fn observe(&mut self, changes: Vec<Change>) -> Vec<Change> {
        self.now += 20 * MS;
        self.changes.extend(changes);
        self.tracker.observe(&mut self.changes, 0, self.now);
        std::mem::take(&mut self.changes)
    }

    /// Responds to the next batch, and returns it; an empty one if there is none.
    fn respond(&self, find: impl Fn(&NatLookup) -> Option<Translation>) -> Vec<NatLookup> {
        let Ok(batch) = self.requests.try_recv() else { return Vec::new() };
        let translations = batch.iter().filter_map(|it| Some((it.key, find(it)?))).collect();
        let namespaces = batch.iter().map(|it| (it.netns, true)).collect();
        let response = NatResponse { translations, namespaces, ..NatResponse::default() };
        self.responses.send((batch.clone(), Some(response))).unwrap();
        batch
    }
}

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tuple(protocol: Protocol, source: &str, destination: &str) -> Tuple {
    Tuple { protocol, source: end(source), destination: end(destination) }
}

/// What conntrack has for a socket that sends to the service.
fn dnat(protocol: Protocol) -> Translation {
    let (socket, outside) = (tuple(protocol, CLIENT, SERVICE), tuple(protocol, CLIENT, BACKEND));
    Translation { socket, outside, is_initiator: Some(true) }
}

fn change(kind: ChangeKind, number: u64, protocol: Protocol, ends: (&str, &str)) -> Change {
    let (local, remote) = (end(ends.0), end(ends.1));
    let phase = match kind {
        ChangeKind::Active => Phase::Active,
        ChangeKind::Closed | ChangeKind::Failed => Phase::Closed,
        _ => Phase::Opened,
    };
    let moved = u64::from(matches!(kind, ChangeKind::Active | ChangeKind::Closed));
    let flow = Flow {
        time: Timestamp::UNIX_EPOCH,
        phase,
        computer: "host.example".into(),
        direction: Direction::Outbound,
        protocol,
        local: local.ip(),
        local_port: Some(local.port()),
        remote: remote.ip(),
        remote_port: Some(remote.port()),
        process: Arc::default(),
        attribution: Attribution::Connect,
        connections: 1,
        preexisting: false,
        translated: None,
        bytes_sent: moved * 33,
        bytes_received: moved * 11,
    };
    let change = Change::new(kind, flow, number, 7);
    Change { packets_sent: moved, ..change }
}

/// A TCP connection to the service, from open to close.
fn tcp(number: u64) -> Vec<Change> {
    [ChangeKind::Opened, ChangeKind::Established, ChangeKind::Closed]
        .map(|kind| change(kind, number, Protocol::Tcp, (CLIENT, SERVICE)))
        .into()
}

/// Changes of a flow of the kernel's table, on one socket: sent datagrams, or received ones.
fn udp(number: u64, direction: Direction, remote: &str, kinds: &[ChangeKind]) -> Vec<Change> {
    let each = |kind: &ChangeKind| {
        let mut it = Change {
            cookie: 77,
            duration: Duration::from_secs(u64::from(*kind == ChangeKind::Closed)),
            ..change(*kind, number, Protocol::Udp, (CLIENT, remote))
        };
        it.flow.direction = direction;
        let is_sent = direction == Direction::Outbound;
        (it.flow.bytes_sent, it.flow.bytes_received) =
            if is_sent { (it.flow.bytes_sent, 0) } else { (0, it.flow.bytes_received) };
        it
    };
    kinds.iter().map(each).collect()
}

const BEGINS: [ChangeKind; 2] = [ChangeKind::Opened, ChangeKind::Established];

fn kinds(changes: &[Change]) -> Vec<ChangeKind> {
    changes.iter().map(|it| it.kind).collect()
}

/// Asserts that all changes are of one outbound flow to the service, whose backend is known.
fn assert_one_flow(changes: &[Change], number: u64) {
    for it in changes {
        let flow = &it.flow;
        assert_eq!((it.number, flow.direction), (number, Direction::Outbound), "{it:?}");
        assert_eq!((flow.local, flow.local_port), (end(CLIENT).ip(), Some(40_000)), "{it:?}");
        assert_eq!((flow.remote, flow.remote_port), (end(SERVICE).ip(), Some(53)), "{it:?}");
        assert_eq!(flow.translated.map(|it| it.remote()), Some(end(BACKEND)), "{it:?}");
    }
    let sums = changes
        .iter()
        .fold((0, 0), |sum, it| (sum.0 + it.flow.bytes_sent, sum.1 + it.flow.bytes_received));
    assert_eq!(sums, (33, 11));
    assert_eq!(changes.last().unwrap().duration, Duration::from_secs(1));
}

#[test]
fn a_short_tcp_connection_has_its_mapping_in_every_change_after_the_first() {
    let mut it = Fixture::new();
    assert_eq!(kinds(&it.observe(tcp(1))), [ChangeKind::Opened]);
    assert!(it.observe(Vec::new()).is_empty());
    let batch = it.respond(|_| Some(dnat(Protocol::Tcp)));
    assert!(!batch[0].is_behind_nat);
    let changes = it.observe(Vec::new());
    assert_eq!(
        kinds(&changes),
        [ChangeKind::Translated, ChangeKind::Established, ChangeKind::Closed]
    );
    let behind = changes.iter().map(|it| it.flow.translated.map(|it| it.remote()));
    assert!(behind.eq([Some(end(BACKEND)); 3]));
    assert_eq!((changes[2].flow.bytes_sent, changes[2].flow.bytes_received), (33, 11));
    let state = it.tracker.state(it.now);
    assert_eq!((state.namespaces, state.tracking, state.pending), (1, 1, 0));
    assert_eq!(it.tracker.tables().map(|(_, (entries, _))| entries), [0, 1, 0]);
}

#[test]
fn a_late_response_delays_nothing_for_long_and_is_reported_by_itself() {
    let mut it = Fixture::new();
    let _opened = it.observe(tcp(1));
    let sent = udp(1 << 48, Direction::Outbound, BACKEND, &BEGINS);
    assert!(it.observe(sent).is_empty());
    it.now += HOLD_NS;
    let changes = it.observe(Vec::new());
    assert_eq!(changes.len(), 4);
    assert!(changes.iter().all(|it| it.flow.translated.is_none()));
    // The rest of the connection passes.
    let more = udp(1 << 48, Direction::Outbound, BACKEND, &[ChangeKind::Active]);
    assert_eq!(it.observe(more).len(), 1);
    it.respond(|lookup| Some(dnat(lookup.key.0)));
    it.respond(|lookup| Some(dnat(lookup.key.0)));
    let changes = it.observe(Vec::new());
    assert_eq!(kinds(&changes), [ChangeKind::Translated; 2]);
    assert_eq!(it.stats.nat_mappings_late.value(), 2);
    let ends = changes.iter().map(|it| {
        let mapped = it.flow.translated.unwrap().remote();
        (SocketAddr::new(it.flow.remote, it.flow.remote_port.unwrap()), mapped)
    });
    // Either end can match: what was reported, and the other one.
    assert!(ends.eq([(end(SERVICE), end(BACKEND)), (end(BACKEND), end(SERVICE))]));
    let closed = udp(1 << 48, Direction::Outbound, BACKEND, &[ChangeKind::Closed]);
    assert_eq!(it.observe(closed)[0].flow.remote, end(BACKEND).ip());
}

#[test]
fn a_translated_udp_flow_is_one_flow_in_any_order_of_its_parts() {
    let (first, second) = (1 << 48, (1 << 48) + 1);
    let received = |kinds: &[ChangeKind]| udp(second, Direction::Inbound, SERVICE, kinds);
    let sent = |kinds: &[ChangeKind]| udp(first, Direction::Outbound, BACKEND, kinds);
    let close = [ChangeKind::Closed];

    // The received part comes once the translation is known.
    let mut it = Fixture::new();
    assert!(it.observe(sent(&BEGINS)).is_empty());
    assert!(it.respond(|_| Some(dnat(Protocol::Udp)))[0].is_behind_nat);
    let mut all = it.observe(Vec::new());
    all.extend(it.observe(received(&BEGINS)));
    all.extend(it.observe([sent(&close), received(&close)].concat()));
    assert_eq!(
        kinds(&all),
        [ChangeKind::Opened, ChangeKind::Established, ChangeKind::Active, ChangeKind::Closed]
    );
    assert_one_flow(&all, first);

    // Both wait, and are over before the response; in two batches.
    let mut it = Fixture::new();
    assert!(it.observe(sent(&BEGINS)).is_empty());
    assert!(it.observe(received(&BEGINS)).is_empty());
    assert!(it.observe([sent(&close), received(&close)].concat()).is_empty());
    it.respond(|_| Some(dnat(Protocol::Udp)));
    let all = it.observe(Vec::new());
    assert_eq!(all.len(), 4);
    assert_one_flow(&all, first);

    // The received part is known first: by conntrack, this host initiated it.
    let mut it = Fixture::new();
    assert!(it.observe(received(&BEGINS)).is_empty());
    it.respond(|_| Some(dnat(Protocol::Udp)));
    let mut all = it.observe(sent(&BEGINS));
    all.extend(it.observe(Vec::new()));
    it.respond(|_| Some(dnat(Protocol::Udp)));
    all.extend(it.observe([received(&close), sent(&close)].concat()));
    assert_one_flow(&all, second);
    assert_eq!(all.iter().filter(|it| it.kind == ChangeKind::Opened).count(), 1);
    assert_eq!(it.tracker.tables()[0].1.0, 0, "nothing is left");
}

#[test]
fn a_flow_from_a_socket_scan_gets_the_mapping_of_its_next_datagram() {
    let (scanned, first) = (1 << 48, (1 << 48) + 1);
    let mut it = Fixture::new();
    let mut old = udp(scanned, Direction::Outbound, SERVICE, &BEGINS);
    for it in &mut old {
        it.flow.preexisting = true;
    }
    assert!(it.observe(old).is_empty());
    assert!(!it.respond(|_| None)[0].is_behind_nat);
    let mut all = it.observe(Vec::new());
    assert_eq!(kinds(&all), BEGINS);
    all.clear();
    all.extend(it.observe(udp(first, Direction::Outbound, BACKEND, &BEGINS)));
    it.respond(|_| Some(dnat(Protocol::Udp)));
    all.extend(it.observe(Vec::new()));
    let last = udp(scanned, Direction::Outbound, SERVICE, &[ChangeKind::Closed]);
    let sent = udp(first, Direction::Outbound, BACKEND, &[ChangeKind::Active]);
    all.extend(it.observe([sent, last].concat()));
    assert_eq!(kinds(&all), [ChangeKind::Translated, ChangeKind::Active, ChangeKind::Active]);
    for it in &all {
        assert_eq!((it.number, it.flow.remote), (scanned, end(SERVICE).ip()));
        assert_eq!(it.flow.translated.map(|it| it.remote()), Some(end(BACKEND)));
    }
}

#[test]
fn a_masqueraded_flow_has_the_sockets_own_end() {
    let mut it = Fixture::new();
    let masked = "198.51.100.1:61000";
    let packet = change(ChangeKind::Opened, 1 << 48, Protocol::Udp, (masked, BACKEND));
    assert!(it.observe(vec![packet]).is_empty());
    let socket = tuple(Protocol::Udp, CLIENT, BACKEND);
    let outside = tuple(Protocol::Udp, masked, BACKEND);
    it.respond(|_| Some(Translation { socket, outside, is_initiator: Some(true) }));
    let changes = it.observe(Vec::new());
    let flow = &changes[0].flow;
    assert_eq!((flow.local, flow.local_port), (end(CLIENT).ip(), Some(40_000)));
    let mapping = flow.translated.unwrap();
    assert_eq!((mapping.local_ip, mapping.local_port), (end(masked).ip(), 61_000));
}

#[test]
fn a_server_replies_to_a_client_behind_snat_in_the_same_inbound_flow() {
    let (seen, actual) = ("198.51.100.1:61000", "203.0.113.9:5000");
    let (received, replied) = (1 << 48, (1 << 48) + 1);
    let socket = tuple(Protocol::Udp, CLIENT, seen);
    let outside = tuple(Protocol::Udp, CLIENT, actual);
    let translation = Translation { socket, outside, is_initiator: Some(false) };
    let received = udp(received, Direction::Inbound, seen, &BEGINS);
    let replied = udp(replied, Direction::Outbound, actual, &BEGINS);
    let moved = [udp((1 << 48) + 1, Direction::Outbound, actual, &[ChangeKind::Active])].concat();
    for (batches, number) in [
        (vec![received.clone(), replied.clone()], 1 << 48),
        (vec![[received.clone(), replied.clone()].concat()], 1 << 48),
        (vec![[replied, received].concat()], (1 << 48) + 1),
    ] {
        let mut it = Fixture::new();
        let mut all = Vec::new();
        for batch in batches.into_iter().chain([vec![], vec![], moved.clone()]) {
            all.extend(it.observe(batch));
            it.respond(|_| Some(translation));
        }
        assert_eq!(
            kinds(&all),
            [ChangeKind::Opened, ChangeKind::Established, ChangeKind::Active],
            "{number}"
        );
        for it in all {
            assert_eq!((it.number, it.flow.direction), (number, Direction::Inbound));
            assert_eq!(it.flow.remote, end(seen).ip());
        }
    }
}

#[test]
fn the_lookup_of_a_connection_that_no_table_has_is_repeated_once() {
    let mut it = Fixture::new();
    let _opened = it.observe(tcp(1));
    for is_last in [false, true] {
        let batch = it.requests.try_recv().unwrap();
        assert_eq!(batch[0].is_last, is_last);
        let missing = batch.iter().map(|it| it.key).collect();
        let namespaces = vec![(7, true)];
        let response = NatResponse { missing, namespaces, ..NatResponse::default() };
        it.responses.send((batch, Some(response))).unwrap();
        let changes = it.observe(Vec::new());
        assert_eq!(changes.is_empty(), !is_last);
        it.now += 100 * MS;
        let _sent = it.observe(Vec::new());
    }
    it.requests.try_recv().unwrap_err();
}

#[test]
fn a_failed_worker_and_a_shutdown_lose_no_change() {
    let mut it = Fixture::new();
    let _opened = it.observe(tcp(1));
    let batch = it.requests.try_recv().unwrap();
    it.responses.send((batch, None)).unwrap();
    let tcp_kinds = [ChangeKind::Opened, ChangeKind::Established, ChangeKind::Closed];
    let changes = it.observe(tcp(2));
    assert_eq!(kinds(&changes), [&tcp_kinds[1..], &tcp_kinds].concat());
    // Of a namespace that is new, all but the first change waits, and none is responded to.
    let mut first = it.observe([tcp(3), tcp(4)].concat());
    assert_eq!(first.len(), 6, "this one was checked, although in vain");
    it.now += 2000 * MS;
    first = it.observe([tcp(5), tcp(6)].concat());
    assert_eq!(kinds(&first), [ChangeKind::Opened]);
    let mut left = Vec::new();
    it.tracker.finish(&mut left);
    assert_eq!(kinds(&left), [&tcp_kinds[1..], &tcp_kinds].concat());
    assert!(left.iter().map(|it| it.number).eq([5, 5, 6, 6, 6]));
}

#[test]
fn a_namespace_that_tracks_nothing_keeps_the_order_and_delays_nothing() {
    let mut it = Fixture::new();
    let tcp_kinds = [ChangeKind::Opened, ChangeKind::Established, ChangeKind::Closed];
    // Its first check: what follows the first change waits, in order.
    assert_eq!(kinds(&it.observe([tcp(1), tcp(2)].concat())), [ChangeKind::Opened]);
    let idle = |it: &Fixture| {
        let batch = it.requests.try_recv().unwrap();
        let namespaces = vec![(7, false)];
        let response = NatResponse { namespaces, ..NatResponse::default() };
        it.responses.send((batch, Some(response))).unwrap();
    };
    idle(&it);
    let changes = it.observe(Vec::new());
    assert_eq!(kinds(&changes), [&tcp_kinds[1..], &tcp_kinds].concat());
    assert!(changes.iter().map(|it| it.number).eq([1, 1, 2, 2, 2]));
    // From then on nothing waits, and UDP does not either.
    assert_eq!(kinds(&it.observe(tcp(3))), tcp_kinds);
    assert_eq!(it.observe(udp(1 << 48, Direction::Outbound, BACKEND, &BEGINS)).len(), 2);
    // Each is looked up nevertheless, in one batch.
    it.now += 200 * MS;
    assert!(it.observe(Vec::new()).is_empty());
    let batch = it.requests.try_recv().unwrap();
    let numbers: Vec<u64> = batch.iter().map(|lookup| lookup.key.1).collect();
    // The first one once more: it may have been the first that is tracked.
    assert_eq!(numbers, [1, 2, 3, 1 << 48]);
    it.requests.try_recv().unwrap_err();
    assert_eq!(it.stats.nat_mappings_late.value(), 0);
}
