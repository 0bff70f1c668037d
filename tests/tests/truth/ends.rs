//! Ends of connections as the agent records them, and their comparison with the wire.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

use crate::wire::{CLIENT, Connection, Exchange, SERVER};

/// One end of a connection, from all its events.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) is_outbound: bool,
    /// Inode of its network namespace.
    pub(crate) netns: u64,
    /// The connection as this end counted it.
    pub(crate) connection: Connection,
    pub(crate) pid: u64,
    pub(crate) path: String,
    pub(crate) attribution: String,
    /// True once a `closed` or `failed` event was recorded.
    pub(crate) has_ended: bool,
}

/// Collects the ends of a network namespace. Asserts that each is opened once, first, and ended at most
/// once, last.
pub(crate) fn ends(lines: &[Value], netns: u64) -> Vec<End> {
    let mut ends: BTreeMap<u64, End> = BTreeMap::new();
    for line in lines.iter().filter(|line| line["NetworkNamespace"] == netns) {
        let Some(number) = line["ConnectionNumber"].as_u64() else { continue };
        let event = text(line, "Event");
        if event == "opened" {
            let first = ends.insert(number, opened(line));
            assert!(first.is_none(), "opened twice: {line}");
            continue;
        }
        let end = ends.get_mut(&number).unwrap_or_else(|| panic!("not opened: {line}"));
        assert!(!end.has_ended, "after its end: {line}");
        end.has_ended = ["closed", "failed"].contains(&event);
        end.connection.is_established |= line["LinksEstablished"] == 1;
        end.connection.sent += count(line, "BytesSent");
        end.connection.received += count(line, "BytesReceived");
        // The guessed owner of an inbound connection is corrected.
        end.set_owner(line);
    }
    ends.into_values().collect()
}

/// Describes each difference between the ends that were recorded and the wire; empty if there is none.
pub(crate) fn differences(wire: &[Exchange], ends: &[End]) -> String {
    let mut text = String::new();
    for (side, index) in [("outbound", CLIENT), ("inbound", SERVER)] {
        let is_of_side = |end: &&End| end.is_outbound == (index == CLIENT) && end.has_ended;
        let mut recorded: Vec<Connection> =
            ends.iter().filter(is_of_side).map(|end| end.connection).collect();
        // A refused connection has no inbound end.
        let mut missing: Vec<&Exchange> = wire
            .iter()
            .filter(|exchange| index == CLIENT || exchange.ends[index].is_established)
            .collect();
        missing.retain(|exchange| {
            let found = recorded.iter().position(|end| exchange.is_counted_by(index, end));
            found.map(|index| recorded.swap_remove(index)).is_none()
        });
        if !missing.is_empty() || !recorded.is_empty() {
            write!(text, "{side}: on the wire {missing:#?}\nrecorded {recorded:#?}\n").unwrap();
        }
    }
    text
}

fn opened(line: &Value) -> End {
    let address = |side: &str| {
        let ip = text(line, &format!("{side}Ip")).parse().unwrap();
        SocketAddr::new(ip, u16::try_from(count(line, &format!("{side}Port"))).unwrap())
    };
    let mut end = End {
        is_outbound: text(line, "Direction") == "outbound",
        netns: count(line, "NetworkNamespace"),
        connection: Connection {
            is_udp: text(line, "Protocol") == "udp",
            client: address("Source"),
            server: address("Destination"),
            is_established: false,
            sent: 0,
            received: 0,
        },
        pid: 0,
        path: String::new(),
        attribution: String::new(),
        has_ended: false,
    };
    end.set_owner(line);
    end
}

impl End {
    /// Address of the other end.
    pub(crate) fn remote(&self) -> String {
        let connection = &self.connection;
        let remote = if self.is_outbound { connection.server } else { connection.client };
        remote.ip().to_string()
    }

    pub(crate) fn direction(&self) -> &'static str {
        if self.is_outbound { "outbound" } else { "inbound" }
    }

    fn set_owner(&mut self, line: &Value) {
        self.pid = line["ProcessId"].as_u64().unwrap_or(0);
        text(line, "ProcessPath").clone_into(&mut self.path);
        text(line, "Attribution").clone_into(&mut self.attribution);
    }
}

pub(crate) fn text<'a>(line: &'a Value, column: &str) -> &'a str {
    line[column].as_str().unwrap_or_else(|| panic!("{column} of {line}"))
}

pub(crate) fn count(line: &Value, column: &str) -> u64 {
    line[column].as_u64().unwrap_or_else(|| panic!("{column} of {line}"))
}
