//! Parser for `VMConnection` rows as JSON lines, in two steps. The first reads only the columns of each
//! row that decide whether it can be a hit, and checks that the rest is JSON. The second reads all
//! columns of the few rows that can.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::base::lines::json_error;
use crate::intel::{JsonStr, Lenient, integer, parse_time};
use crate::pipeline::aggregate::{Direction, Peer};
use crate::pipeline::dedup::Sighting;
use crate::pipeline::enrich::DnsAnswer;
use crate::schema::agent_event::AgentEvent;

/// Time and remote address (canonical) of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowHead {
    pub(super) time: Timestamp,
    pub(super) remote: IpAddr,
    /// Remote end behind a NAT mapping, which a recording can contain.
    pub(super) translated: Option<SocketAddr>,
}

/// Kind of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordedLine {
    Row(RowHead),
    /// Addresses that a name resolved to.
    DnsAnswer,
    /// An event of the recording agent, with the number of its lost items.
    AgentEvent {
        lost: u64,
    },
}

/// A row with all columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordedRow {
    pub(super) sighting: Arc<Sighting>,
    pub(super) connections: u64,
    /// Connections whose NAT mapping the row reports, already counted by an earlier row.
    pub(super) translated: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    /// Columns whose value is of another type and not used, each with its text.
    pub(super) unused: Vec<String>,
}

/// Returns the text of a line, if it can be a row.
pub(super) fn text(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
    // serde would accept an array as a row, column by column.
    if text.trim_ascii_start().starts_with('{') {
        Ok(text)
    } else {
        Err("not a JSON object".into())
    }
}

/// First step: parses the kind of the line and the head of a row. The error may contain hostile text.
pub(super) fn parse_head(line: &str) -> Result<RecordedLine, String> {
    let row: HeadColumns<'_> = serde_json::from_str(line).map_err(|error| json_error(&error))?;
    if row.r#type.as_str() == DnsAnswer::TYPE {
        return Ok(RecordedLine::DnsAnswer);
    }
    if row.r#type.as_str().starts_with(AgentEvent::TYPE_PREFIX) {
        let event: AgentEvent = serde_json::from_str(line).map_err(|error| json_error(&error))?;
        return Ok(RecordedLine::AgentEvent { lost: event.lost() });
    }
    let time = match row.time_generated.present() {
        "" => return Err("TimeGenerated: missing".to_owned()),
        text => parse_time(text).ok_or_else(|| {
            format!("TimeGenerated: {text:?} is not a time such as 2026-11-24T10:00:00Z")
        })?,
    };
    let remote = match row.remote_ip.present() {
        "" => return Err("RemoteIp: missing".to_owned()),
        text => text
            .parse::<IpAddr>()
            .map_err(|_cause| format!("RemoteIp: {text:?} is not an address"))?
            .to_canonical(),
    };
    let translated =
        row.translated.map(|it| SocketAddr::new(it.remote_ip.to_canonical(), it.remote_port));
    Ok(RecordedLine::Row(RowHead { time, remote, translated }))
}

/// Second step: parses all columns of a row.
pub(super) fn parse_row(line: &str, head: RowHead) -> Result<RecordedRow, String> {
    let row: RowColumns<'_> = serde_json::from_str(line).map_err(|error| json_error(&error))?;
    let connections = row.connections();
    let unused = row.unused();
    let translated = u64::from(row.event.as_str() == "translated");
    // The Azure CLI writes null as `None`.
    let text = |column: JsonStr<'_>| match column.as_str() {
        "None" => String::new(),
        _ => column.into_owned(),
    };
    let sighting = Sighting {
        time: head.time,
        computer: text(row.computer),
        direction: text(row.direction),
        process_name: text(row.process_name),
        source_ip: text(row.source_ip),
        destination_ip: text(row.destination_ip),
        remote_ip: head.remote.to_string(),
        protocol: text(row.protocol),
        destination_port: row.destination_port.get(),
        source_port: row.source_port.get(),
        process_id: row.process_id.get(),
        process_path: text(row.process_path),
        command_line: text(row.command_line),
        user_name: text(row.user_name),
        parent_process_name: text(row.parent_process_name),
        container_id: text(row.container_id),
        attribution: text(row.attribution),
        remote_dns_questions: text(row.remote_dns_questions),
    };
    Ok(RecordedRow {
        sighting: Arc::new(sighting),
        connections,
        translated,
        bytes_sent: row.bytes_sent.get().unwrap_or(0),
        bytes_received: row.bytes_received.get().unwrap_or(0),
        unused,
    })
}

/// Returns the direction of a row. Without the column, its addresses decide.
pub(super) fn direction(row: &Sighting, remote: IpAddr) -> Direction {
    match row.direction.as_str() {
        "inbound" => Direction::Inbound,
        "outbound" => Direction::Outbound,
        _ => {
            let source = row.source_ip.parse::<IpAddr>().map(|source| source.to_canonical());
            if source == Ok(remote) { Direction::Inbound } else { Direction::Outbound }
        }
    }
}

impl RecordedRow {
    /// Returns the remote end. Of the ports, a `VMConnection` row has only the destination port.
    pub(super) fn peer(&self, head: RowHead) -> Peer {
        let row = &*self.sighting;
        let (port, local_port) = match direction(row, head.remote) {
            Direction::Inbound => (row.source_port, row.destination_port),
            Direction::Outbound => (row.destination_port, row.source_port),
        };
        Peer { address: head.remote, port, local_port, translated: head.translated }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HeadColumns<'a> {
    #[serde(borrow)]
    time_generated: JsonStr<'a>,
    #[serde(borrow)]
    remote_ip: JsonStr<'a>,
    translated: Option<MappingColumns>,
    #[serde(borrow)]
    r#type: JsonStr<'a>,
}

/// A NAT mapping as `record` writes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MappingColumns {
    remote_ip: IpAddr,
    /// 0 if unknown.
    #[serde(default)]
    remote_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RowColumns<'a> {
    #[serde(borrow)]
    event: JsonStr<'a>,
    #[serde(borrow)]
    attribution: JsonStr<'a>,
    #[serde(borrow)]
    computer: JsonStr<'a>,
    #[serde(borrow)]
    direction: JsonStr<'a>,
    #[serde(borrow)]
    process_name: JsonStr<'a>,
    #[serde(borrow)]
    source_ip: JsonStr<'a>,
    #[serde(borrow)]
    destination_ip: JsonStr<'a>,
    #[serde(borrow)]
    protocol: JsonStr<'a>,
    #[serde(deserialize_with = "integer")]
    destination_port: Lenient<u16>,
    #[serde(deserialize_with = "integer")]
    source_port: Lenient<u16>,
    #[serde(deserialize_with = "integer")]
    links_established: Lenient<u64>,
    #[serde(deserialize_with = "integer")]
    links_failed: Lenient<u64>,
    #[serde(deserialize_with = "integer")]
    bytes_sent: Lenient<u64>,
    #[serde(deserialize_with = "integer")]
    bytes_received: Lenient<u64>,
    #[serde(deserialize_with = "integer")]
    process_id: Lenient<u32>,
    #[serde(borrow)]
    process_path: JsonStr<'a>,
    #[serde(borrow)]
    command_line: JsonStr<'a>,
    #[serde(borrow)]
    user_name: JsonStr<'a>,
    #[serde(borrow)]
    parent_process_name: JsonStr<'a>,
    #[serde(borrow)]
    container_id: JsonStr<'a>,
    #[serde(borrow)]
    remote_dns_questions: JsonStr<'a>,
}

impl RowColumns<'_> {
    /// Returns the columns that cannot be used, each with its text.
    fn unused(&self) -> Vec<String> {
        [
            ("DestinationPort", self.destination_port.unused()),
            ("SourcePort", self.source_port.unused()),
            ("LinksEstablished", self.links_established.unused()),
            ("LinksFailed", self.links_failed.unused()),
            ("BytesSent", self.bytes_sent.unused()),
            ("BytesReceived", self.bytes_received.unused()),
            ("ProcessId", self.process_id.unused()),
        ]
        .into_iter()
        .filter_map(|(name, text)| {
            Some(format!(
                "{name}: {:?} is not an integer in range, and not used; the row is",
                text?
            ))
        })
        .collect()
    }

    /// Returns the physical connections that the row adds. A minute row without new connections stands
    /// for one live connection. A recording has several lines per connection, and the first counts.
    fn connections(&self) -> u64 {
        match self.event.present() {
            "" => {
                let established = self.links_established.get().unwrap_or(0);
                established.saturating_add(self.links_failed.get().unwrap_or(0)).max(1)
            }
            event => u64::from(event == "opened"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> String {
        let head = text(line.as_bytes()).and_then(parse_head);
        let row = head.and_then(|head| match head {
            RecordedLine::Row(head) => parse_row(line, head),
            RecordedLine::AgentEvent { .. } | RecordedLine::DnsAnswer => Err("no row".to_owned()),
        });
        row.unwrap_err()
    }

    #[test]
    fn errors_have_their_column() {
        const GOOD: &str = r#""TimeGenerated":"2026-11-24T10:00:00Z","RemoteIp":"203.0.113.7""#;
        for (line, expected) in [
            ("[\"2026-11-24T10:00:00Z\",\"203.0.113.7\"]", "not a JSON object"),
            ("{", "EOF while parsing an object at column 1"),
            ("{}", "TimeGenerated: missing"),
            (r#"{"TimeGenerated":null}"#, "TimeGenerated: missing"),
            (
                r#"{"TimeGenerated":7}"#,
                "TimeGenerated: \"7\" is not a time such as 2026-11-24T10:00:00Z",
            ),
            (
                r#"{"TimeGenerated":"soon"}"#,
                "TimeGenerated: \"soon\" is not a time such as 2026-11-24T10:00:00Z",
            ),
            (r#"{"TimeGenerated":"2026-11-24T10:00:00Z"}"#, "RemoteIp: missing"),
            (
                r#"{"TimeGenerated":"2026-11-24T10:00:00Z","RemoteIp":"a.example"}"#,
                "RemoteIp: \"a.example\" is not an address",
            ),
            (&format!("{{{GOOD},{GOOD}}}"), "duplicate field `TimeGenerated` at column 80"),
            (&format!("{{{GOOD}}}}}"), "trailing characters at column 66"),
        ] {
            assert_eq!(error(line), expected, "{line}");
        }
    }

    #[test]
    fn columns_may_be_text_null_escaped_or_absent() {
        let line = r#" {"TimeGenerated":"2026-11-24 10:00:00","RemoteIp":"::ffff:203.0.113.7",
            "DestinationPort":"443","ProcessName":"\u0063url","Computer":null,
            "LinksEstablished":2,"LinksFailed":"3"}"#;
        let RecordedLine::Row(head) = parse_head(text(line.as_bytes()).unwrap()).unwrap() else {
            panic!()
        };
        assert_eq!(head.remote.to_string(), "203.0.113.7");
        assert_eq!(head.time.to_string(), "2026-11-24T10:00:00Z");
        let row = parse_row(line, head).unwrap();
        assert_eq!(row.sighting.destination_port, Some(443));
        assert_eq!(row.sighting.process_name, "curl");
        assert_eq!(row.sighting.computer, "");
        assert_eq!(row.connections, 5);
    }

    #[test]
    fn a_cell_of_another_type_costs_only_itself() {
        let line = r#"{"TimeGenerated":"2026-11-24T10:00:00Z","RemoteIp":"203.0.113.7",
            "DestinationPort":70000,"LinksEstablished":true,"LinksFailed":"None","BytesSent":[1],
            "BytesReceived":"NaN","ProcessId":"x","ProcessName":17,"UserName":false,
            "Computer":"None","Direction":null}"#;
        let Ok(RecordedLine::Row(head)) = parse_head(line) else { panic!("{line}") };
        let row = parse_row(line, head).unwrap();
        assert_eq!((row.connections, row.bytes_sent, row.bytes_received), (1, 0, 0));
        let seen = &row.sighting;
        assert_eq!((seen.destination_port, seen.process_id), (None, None));
        assert_eq!((&*seen.process_name, &*seen.user_name, &*seen.computer), ("17", "false", ""));
        let names: Vec<&str> = row.unused.iter().map(|it| it.split_once(": ").unwrap().0).collect();
        assert_eq!(names, ["DestinationPort", "BytesSent", "ProcessId"]);
    }

    #[test]
    fn a_row_has_the_destination_port() {
        for (rest, ports) in [
            (r#""Direction":"outbound","DestinationPort":443"#, (Some(443), None)),
            (r#""Direction":"inbound","DestinationPort":443"#, (None, Some(443))),
            (r#""SourceIp":"203.0.113.7","DestinationPort":"22""#, (None, Some(22))),
            (r#""SourceIp":"192.0.2.1","DestinationPort":22"#, (Some(22), None)),
            (r#""Direction":"inbound","DestinationPort":22,"SourcePort":9"#, (Some(9), Some(22))),
            ("\"Direction\":\"outbound\"", (None, None)),
        ] {
            let line = format!(
                r#"{{"TimeGenerated":"2026-11-24T10:00:00Z","RemoteIp":"203.0.113.7",{rest}}}"#
            );
            let Ok(RecordedLine::Row(head)) = parse_head(&line) else { panic!("{line}") };
            let peer = parse_row(&line, head).unwrap().peer(head);
            assert_eq!((peer.port, peer.local_port), ports, "{line}");
        }
    }
}
