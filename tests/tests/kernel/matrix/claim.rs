//! What a program says about one end of one connection, and whether it was recorded so.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::harness::text;

/// One end of one connection, as the program that had it tells.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) pid: u64,
    pub(crate) direction: String,
    local: SocketAddr,
    remote: SocketAddr,
    sent: u64,
    received: u64,
    /// `closed`, `failed`, or `open` when it had not ended.
    event: String,
    /// Who ended it.
    by: String,
    error: u64,
    /// Of an accepted connection: the process that listens, which stands in for one that was late.
    listener: Option<u64>,
}

/// Accepted connections in a hundred that their process may touch later than the agent waits: the
/// listener stands in, and the record says so.
const LATE_PERCENT: usize = 2;

impl Claim {
    pub(crate) fn parse(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("said {line:?}"));
        let end = |name: &str| {
            let address: IpAddr = value[name][0].as_str().unwrap().parse().unwrap();
            let port = u16::try_from(value[name][1].as_u64().unwrap()).unwrap();
            SocketAddr::new(address.to_canonical(), port)
        };
        let word = |name: &str, without: &str| value[name].as_str().unwrap_or(without).to_owned();
        Self {
            pid: value["pid"].as_u64().unwrap(),
            direction: word("direction", ""),
            local: end("local"),
            remote: end("remote"),
            sent: value["sent"].as_u64().unwrap(),
            received: value["received"].as_u64().unwrap(),
            event: word("event", "closed"),
            by: word("by", "unknown"),
            error: value["error"].as_u64().unwrap_or(0),
            listener: value["listener"].as_u64(),
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
        let events: Vec<&str> = records.iter().map(|record| text(record, "Event")).collect();
        assert_eq!(events, self.events(), "{self:?}");
        let attribution = text(records[0], "Attribution");
        let late = attribution == "listener" && self.listener.is_some();
        let (fits, pid) = match self.direction.as_str() {
            "outbound" => (attribution == "connect", self.pid),
            _ if late => (true, self.listener.unwrap()),
            _ => (["accept", "first_io"].contains(&attribution), self.pid),
        };
        assert!(fits, "{self:?}: {}", records[0]);
        for record in records {
            assert_eq!(record["ProcessId"], pid, "{self:?}: {record}");
            assert_eq!(text(record, "Attribution"), attribution, "{self:?}: {record}");
            assert_eq!(text(record, "RemoteIp"), self.remote.ip().to_string(), "{record}");
            assert_eq!(record["Preexisting"], false, "{record}");
            assert_ne!(text(record, "ProcessPath"), "", "{record}");
            assert_ne!(text(record, "CommandLine"), "", "{record}");
        }
        // Bytes are since the record before: all of them together are the connection's.
        let sum = |name: &str| records.iter().map(|one| one[name].as_u64().unwrap()).sum::<u64>();
        if self.event != "open" {
            let moved = (sum("BytesSent"), sum("BytesReceived"));
            assert_eq!(moved, (self.sent, self.received), "{self:?}");
            let last = records[records.len() - 1];
            assert_eq!(last["ErrorNumber"], self.error, "{self:?}: {last}");
            assert_eq!(text(last, "ClosedBy"), self.by, "{self:?}: {last}");
            assert_eq!(last["SourcePort"], self.key().1.port(), "{self:?}: {last}");
        }
        late
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

/// All that was claimed was recorded, once, and nothing else was in these namespaces.
pub(crate) fn check(lines: &[Value], namespaces: [u64; 2], claims: &[Claim]) {
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
    let mut late = 0;
    for claim in claims {
        let records = by_ends.get_mut(&claim.key()).and_then(VecDeque::pop_front);
        let records = records.unwrap_or_else(|| panic!("not recorded: {claim:?}"));
        late += usize::from(claim.check(&records));
    }
    let more: Vec<_> = by_ends.values().flatten().flatten().take(6).collect();
    assert!(more.is_empty(), "recorded, but nobody's: {more:#?}");
    assert!(!claims.is_empty(), "nothing was claimed");
    let accepted = claims.iter().filter(|claim| claim.listener.is_some()).count();
    assert!(late * 100 <= accepted * LATE_PERCENT, "{late} of {accepted} are their listener's");
}
