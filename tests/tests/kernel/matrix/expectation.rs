//! One end of one connection as its program reports it, and the comparison with the recording.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::harness::text;

/// One end of one connection, as reported by the program that owns it.
#[derive(Debug, Clone)]
pub(crate) struct Expectation {
    pid: u64,
    parent: u64,
    path: String,
    direction: String,
    local: SocketAddr,
    remote: SocketAddr,
    sent: u64,
    received: u64,
    /// `closed`, `failed`, or `open` if it did not end.
    event: String,
    /// The side that ended the connection.
    by: String,
    error: u64,
    /// The accepting process, where another process is the first to read.
    acceptor: u64,
    /// For an accepted connection: its listening processes, one of which is recorded as the owner
    /// if the real one acts too late.
    listeners: Vec<u64>,
    /// True if the owner must be one of the listeners.
    untouched: bool,
    /// True for an MPTCP subflow. MPTCP may retransmit data that TCP counts as new, and the process
    /// reads and writes the MPTCP socket, so only `accept` identifies the owner.
    subflow: bool,
}

/// Maximum percentage of accepted connections that their process touches later than the agent
/// waits: the listener is recorded as the owner, with that attribution.
const LATE_PERCENT: usize = 2;

/// Maximum number of connections per thousand whose end the kernel may hide: it skips a BPF program
/// that an interrupt finds running on the same CPU. The kernel counts the skipped runs. The agent
/// counts each connection, and ends it at the socket's next use or when a scan does not find it.
const UNOBSERVED_PER_MILLE: usize = 5;

impl Expectation {
    pub(crate) fn parse(line: &str) -> Self {
        Self::of(&serde_json::from_str(line).unwrap_or_else(|_| panic!("invalid report {line:?}")))
    }

    pub(crate) fn of(value: &Value) -> Self {
        let end = |name: &str| {
            let address: IpAddr = value[name][0].as_str().unwrap().parse().unwrap();
            let port = u16::try_from(value[name][1].as_u64().unwrap()).unwrap();
            SocketAddr::new(address.to_canonical(), port)
        };
        let word = |name: &str, without: &str| value[name].as_str().unwrap_or(without).to_owned();
        let pid = value["pid"].as_u64().unwrap();
        let listeners = match &value["listener"] {
            Value::Array(several) => several.clone(),
            Value::Null => Vec::new(),
            single => vec![single.clone()],
        };
        Self {
            pid,
            parent: value["parent"].as_u64().unwrap(),
            path: word("path", ""),
            direction: word("direction", ""),
            local: end("local"),
            remote: end("remote"),
            sent: value["sent"].as_u64().unwrap(),
            received: value["received"].as_u64().unwrap(),
            event: word("event", "closed"),
            by: word("by", "unknown"),
            error: value["error"].as_u64().unwrap_or(0),
            acceptor: value["acceptor"].as_u64().unwrap_or(pid),
            listeners: listeners.iter().filter_map(Value::as_u64).collect(),
            untouched: value["untouched"] == true,
            subflow: value["subflow"] == true,
        }
    }

    /// Direction, source and destination, as in a record.
    fn key(&self) -> Key {
        let (source, destination) = match self.direction.as_str() {
            "outbound" => (self.local, self.remote),
            _ => (self.remote, self.local),
        };
        (self.direction.clone(), source, destination)
    }

    fn events(&self) -> Vec<&str> {
        match self.event.as_str() {
            "failed" => vec!["opened", "failed"],
            "open" => vec!["opened", "established"],
            _ => vec!["opened", "established", "closed"],
        }
    }

    /// Asserts that these are the records of this end; returns true if the listener is the owner.
    fn check(&self, records: &[&Value]) -> bool {
        let events = records.iter().map(|record| text(record, "Event"));
        // A connection that is open during a scan has any number of `active` events.
        let events: Vec<&str> =
            events.filter(|event| !["active", "attributed"].contains(event)).collect();
        assert_eq!(events, self.events(), "{self:?}");
        // The listener is a guess, which is corrected once a process uses the connection.
        let corrected = records.iter().position(|record| text(record, "Event") == "attributed");
        let (guessed, known) = records.split_at(corrected.unwrap_or(0));
        for record in guessed {
            assert_eq!(text(record, "Attribution"), "listener", "{self:?}: {record}");
            self.check_record(record, &self.listeners);
        }
        let attribution = text(known[0], "Attribution");
        let is_used = !self.untouched || corrected.is_some();
        let expected = match (self.direction.as_str(), attribution) {
            ("outbound", "connect") => vec![self.pid],
            ("inbound", "listener") if corrected.is_none() => self.listeners.clone(),
            ("inbound", "accept") if is_used => vec![self.acceptor],
            ("inbound", "first_io") if is_used => vec![self.pid],
            _ => panic!("{self:?}: {}", known[0]),
        };
        for record in known {
            assert_eq!(text(record, "Attribution"), attribution, "{self:?}: {record}");
            self.check_record(record, &expected);
        }
        if !self.has_unobserved_end(records) {
            self.check_end(records);
        }
        attribution == "listener"
    }

    /// Asserts that a record has one of the processes, and the facts that all records have.
    fn check_record(&self, record: &Value, expected: &[u64]) {
        let pid = record["ProcessId"].as_u64().unwrap_or(0);
        assert!(expected.contains(&pid), "{self:?}: {record}");
        if pid == self.pid {
            assert_eq!(record["ParentProcessId"], self.parent, "{self:?}: {record}");
            assert_eq!(text(record, "ProcessPath"), self.path, "{self:?}: {record}");
        }
        assert_eq!(text(record, "RemoteIp"), self.remote.ip().to_string(), "{record}");
        assert_eq!(record["Preexisting"], false, "{record}");
        assert_ne!(text(record, "CommandLine"), "", "{record}");
    }

    /// True if the record marks the end as unobserved: no bytes, no error, no closing side.
    fn has_unobserved_end(&self, records: &[&Value]) -> bool {
        let last = records[records.len() - 1];
        self.event == "closed"
            && self.by != "unknown"
            && text(last, "ClosedBy") == "unknown"
            && last["ErrorNumber"] == 0
            && last["DurationNs"] == 0
    }

    fn check_end(&self, records: &[&Value]) {
        // Each record has the bytes since the previous one; their sum is the connection's total.
        let sum =
            |name: &str| records.iter().map(|record| record[name].as_u64().unwrap()).sum::<u64>();
        let last = records[records.len() - 1];
        let port = match self.key().1.port() {
            0 => Value::Null,
            port => port.into(),
        };
        assert_eq!(last["SourcePort"], port, "{self:?}: {last}");
        if self.event != "open" {
            let moved = (sum("BytesSent"), sum("BytesReceived"));
            if self.subflow {
                assert!(moved.0 >= self.sent && moved.1 >= self.received, "{self:?}: {moved:?}");
                assert!(moved.0 + moved.1 < 2 * (self.sent + self.received), "{self:?}: {moved:?}");
            } else {
                assert_eq!(moved, (self.sent, self.received), "{self:?}");
            }
            assert_eq!(last["ErrorNumber"], self.error, "{self:?}: {last}");
            assert_eq!(text(last, "ClosedBy"), self.by, "{self:?}: {last}");
        }
    }
}

/// Direction, source and destination.
type Key = (String, SocketAddr, SocketAddr);

fn key(records: &[&Value]) -> Key {
    // The source port of an outbound connection is known from its second record on.
    let last = records[records.len() - 1];
    let end = |ip: &str, port: &str| {
        let port = last[port].as_u64().unwrap_or(0);
        SocketAddr::new(text(last, ip).parse().unwrap(), u16::try_from(port).unwrap())
    };
    let direction = text(last, "Direction").to_owned();
    (direction, end("SourceIp", "SourcePort"), end("DestinationIp", "DestinationPort"))
}

/// Asserts that all expected connections were recorded once, and no others of these namespaces.
/// `counted` is the number of ends that the agent counts as unobserved.
pub(crate) fn check(
    lines: &[Value],
    namespaces: [u64; 2],
    expectations: &[Expectation],
    counted: u64,
) {
    let own = |line: &&Value| namespaces.iter().any(|number| line["NetworkNamespace"] == *number);
    let mut connections: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for line in lines.iter().filter(own) {
        connections.entry(line["ConnectionNumber"].as_u64().unwrap()).or_default().push(line);
    }
    // The same pair of addresses may have several connections, in sequence.
    let mut by_ends: HashMap<Key, VecDeque<Vec<&Value>>> = HashMap::new();
    for records in connections.into_values() {
        by_ends.entry(key(&records)).or_default().push_back(records);
    }
    let (mut late, mut accepted, mut unobserved) = (0, 0, 0);
    for expectation in expectations {
        let records = by_ends.get_mut(&expectation.key()).and_then(VecDeque::pop_front);
        let records = records.unwrap_or_else(|| panic!("not recorded: {expectation:?}"));
        let by_listener = expectation.check(&records);
        unobserved += usize::from(expectation.has_unobserved_end(&records));
        if expectation.direction == "inbound" && !expectation.untouched && !expectation.subflow {
            accepted += 1;
            late += usize::from(by_listener);
        }
    }
    let more: Vec<_> = by_ends.values().flatten().flatten().take(6).collect();
    assert!(more.is_empty(), "recorded, but not expected: {more:#?}");
    assert!(!expectations.is_empty(), "no expected connections");
    assert!(unobserved as u64 <= counted, "{unobserved} ends were unobserved, {counted} counted");
    assert!(
        unobserved * 1000 <= expectations.len() * UNOBSERVED_PER_MILLE,
        "{unobserved} of {}",
        expectations.len()
    );
    assert!(
        late * 100 <= accepted * LATE_PERCENT,
        "{late} of {accepted} are attributed to the listener"
    );
}
