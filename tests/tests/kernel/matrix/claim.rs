//! What a program says about one end of one connection, and whether it was recorded so.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::harness::text;

/// One end of one connection, as the program that had it tells.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pid: u64,
    parent: u64,
    path: String,
    direction: String,
    local: SocketAddr,
    remote: SocketAddr,
    sent: u64,
    received: u64,
    /// `closed`, `failed`, or `open` when it had not ended.
    event: String,
    /// Who ended it.
    by: String,
    error: u64,
    /// Of a connection that one process accepts and another one reads first: the former.
    acceptor: u64,
    /// Of an accepted connection: those that listen, one of which stands in for one that was late.
    listeners: Vec<u64>,
    /// Whether one of these must stand in.
    untouched: bool,
    /// Whether it is a subflow of MPTCP, which may send the same again without TCP itself doing so;
    /// and whose process reads and writes MPTCP's socket, so that accept alone can tell its owner.
    subflow: bool,
}

/// Accepted connections in a hundred that their process may touch later than the agent waits: the
/// listener stands in, and the record says so.
const LATE_PERCENT: usize = 2;

/// Connections in a thousand whose end the kernel may not show: it does not run a program that an
/// interrupt finds running on the same CPU. It counts these runs, the agent counts each connection
/// and ends it when the socket is used again or a look does not find it.
const UNSEEN_PER_MILLE: usize = 5;

impl Claim {
    pub(crate) fn parse(line: &str) -> Self {
        Self::of(&serde_json::from_str(line).unwrap_or_else(|_| panic!("said {line:?}")))
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
            one => vec![one.clone()],
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

    /// As in a record: direction, who called, who was called.
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

    /// Whether these are the records of this end; gives whether the listener stood in.
    fn check(&self, records: &[&Value]) -> bool {
        let events = records.iter().map(|record| text(record, "Event"));
        // One that is open when the agent looks is told as active, any number of times.
        let events: Vec<&str> = events.filter(|event| *event != "active").collect();
        assert_eq!(events, self.events(), "{self:?}");
        let attribution = text(records[0], "Attribution");
        let expected = match (self.direction.as_str(), attribution) {
            ("outbound", "connect") => vec![self.pid],
            ("inbound", "listener") => self.listeners.clone(),
            ("inbound", "accept") if !self.untouched => vec![self.acceptor],
            ("inbound", "first_io") if !self.untouched => vec![self.pid],
            _ => panic!("{self:?}: {}", records[0]),
        };
        for record in records {
            let pid = record["ProcessId"].as_u64().unwrap_or(0);
            assert!(expected.contains(&pid), "{self:?}: {record}");
            if pid == self.pid {
                assert_eq!(record["ParentProcessId"], self.parent, "{self:?}: {record}");
                assert_eq!(text(record, "ProcessPath"), self.path, "{self:?}: {record}");
            }
            assert_eq!(text(record, "Attribution"), attribution, "{self:?}: {record}");
            assert_eq!(text(record, "RemoteIp"), self.remote.ip().to_string(), "{record}");
            assert_eq!(record["Preexisting"], false, "{record}");
            assert_ne!(text(record, "CommandLine"), "", "{record}");
        }
        if !self.ended_unseen(records) {
            self.check_end(records);
        }
        attribution == "listener"
    }

    /// Whether the agent says of the end that it was not seen: no bytes, no error, by nobody.
    fn ended_unseen(&self, records: &[&Value]) -> bool {
        let last = records[records.len() - 1];
        self.event == "closed"
            && self.by != "unknown"
            && text(last, "ClosedBy") == "unknown"
            && last["ErrorNumber"] == 0
            && last["DurationNs"] == 0
    }

    fn check_end(&self, records: &[&Value]) {
        // Bytes are since the record before: all of them together are the connection's.
        let sum = |name: &str| records.iter().map(|one| one[name].as_u64().unwrap()).sum::<u64>();
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

/// Direction, who called, who was called.
type Key = (String, SocketAddr, SocketAddr);

fn key(records: &[&Value]) -> Key {
    // The port of one that called is known from its second record on.
    let last = records[records.len() - 1];
    let end = |ip: &str, port: &str| {
        let port = last[port].as_u64().unwrap_or(0);
        SocketAddr::new(text(last, ip).parse().unwrap(), u16::try_from(port).unwrap())
    };
    let direction = text(last, "Direction").to_owned();
    (direction, end("SourceIp", "SourcePort"), end("DestinationIp", "DestinationPort"))
}

/// All that was claimed was recorded, once, and nothing else was in these namespaces. `counted` are
/// the ends that the agent says it has not seen.
pub(crate) fn check(lines: &[Value], namespaces: [u64; 2], claims: &[Claim], counted: u64) {
    let ours = |line: &&Value| namespaces.iter().any(|number| line["NetworkNamespace"] == *number);
    let mut connections: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
    for line in lines.iter().filter(ours) {
        connections.entry(line["ConnectionNumber"].as_u64().unwrap()).or_default().push(line);
    }
    // The same ends may meet more than once, one after the other.
    let mut by_ends: HashMap<Key, VecDeque<Vec<&Value>>> = HashMap::new();
    for records in connections.into_values() {
        by_ends.entry(key(&records)).or_default().push_back(records);
    }
    let (mut late, mut accepted, mut unseen) = (0, 0, 0);
    for claim in claims {
        let records = by_ends.get_mut(&claim.key()).and_then(VecDeque::pop_front);
        let records = records.unwrap_or_else(|| panic!("not recorded: {claim:?}"));
        let stood_in = claim.check(&records);
        unseen += usize::from(claim.ended_unseen(&records));
        if claim.direction == "inbound" && !claim.untouched && !claim.subflow {
            accepted += 1;
            late += usize::from(stood_in);
        }
    }
    let more: Vec<_> = by_ends.values().flatten().flatten().take(6).collect();
    assert!(more.is_empty(), "recorded, but nobody's: {more:#?}");
    assert!(!claims.is_empty(), "nothing was claimed");
    assert!(unseen as u64 <= counted, "{unseen} ends were not seen, {counted} counted");
    assert!(unseen * 1000 <= claims.len() * UNSEEN_PER_MILLE, "{unseen} of {}", claims.len());
    assert!(late * 100 <= accepted * LATE_PERCENT, "{late} of {accepted} are their listener's");
}
