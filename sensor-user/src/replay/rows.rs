//! `VMConnection` rows as JSON lines, in two steps: of every row only what decides whether it can
//! be a hit (the parser still checks that the rest is JSON), and all columns of the few that are.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::base::lines::json_error;
use crate::intel::{JsonStr, integer, parse_time};
use crate::pipeline::aggregate::{Direction, Peer};
use crate::pipeline::dedup::Sighting;
use crate::pipeline::enrich::DnsAnswer;
use crate::schema::agent_event::AgentEvent;

/// When a row is from, and which address is remote (canonical).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) time: Timestamp,
    pub(super) remote: IpAddr,
    /// The remote end behind a translation, which a recording may tell.
    pub(super) translated: Option<SocketAddr>,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Row(Head),
    /// What a name resolved to.
    Answer,
    /// The recording agent says that it lost so much.
    AgentEvent {
        lost: u64,
    },
}

/// What a row says of its connections, all columns read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sighting: Arc<Sighting>,
    pub(super) connections: u64,
    /// Connections whose translation the row tells, and which were counted before without it.
    pub(super) translated: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

/// The text of a line, if it can be a row at all.
pub(super) fn text(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
    // serde would read an array as a row, column by column.
    if text.trim_ascii_start().starts_with('{') {
        Ok(text)
    } else {
        Err("not a JSON object".into())
    }
}

/// The first step; the error says what is wrong (hostile text may be in it). A line may be no row
/// but what the recording agent said of itself.
pub(super) fn head(line: &str) -> Result<Line, String> {
    let row: HeadRow<'_> = serde_json::from_str(line).map_err(|error| json_error(&error))?;
    if row.r#type.as_str() == DnsAnswer::TYPE {
        return Ok(Line::Answer);
    }
    if row.r#type.as_str().starts_with(AgentEvent::TYPE_PREFIX) {
        let notice: AgentEvent = serde_json::from_str(line).map_err(|error| json_error(&error))?;
        return Ok(Line::AgentEvent { lost: notice.lost() });
    }
    let time = match row.time_generated.as_str() {
        "" => return Err("TimeGenerated: missing".to_owned()),
        text => parse_time(text).ok_or_else(|| {
            format!("TimeGenerated: {text:?} is not a time such as 2026-11-24T10:00:00Z")
        })?,
    };
    let remote = match row.remote_ip.as_str() {
        "" => return Err("RemoteIp: missing".to_owned()),
        text => text
            .parse::<IpAddr>()
            .map_err(|_cause| format!("RemoteIp: {text:?} is not an address"))?
            .to_canonical(),
    };
    let translated =
        row.translated.map(|it| SocketAddr::new(it.remote_ip.to_canonical(), it.remote_port));
    Ok(Line::Row(Head { time, remote, translated }))
}

/// The second step, for a line that passed the first.
pub(super) fn seen(line: &str, head: Head) -> Result<Seen, String> {
    let row: Row<'_> = serde_json::from_str(line).map_err(|error| json_error(&error))?;
    let connections = row.connections();
    let translated = u64::from(row.event.as_str() == "translated");
    let sighting = Sighting {
        time: head.time,
        computer: row.computer.into_owned(),
        direction: row.direction.into_owned(),
        process_name: row.process_name.into_owned(),
        source_ip: row.source_ip.into_owned(),
        destination_ip: row.destination_ip.into_owned(),
        remote_ip: head.remote.to_string(),
        protocol: row.protocol.into_owned(),
        destination_port: row.destination_port,
        source_port: row.source_port,
        process_id: row.process_id,
        process_path: row.process_path.into_owned(),
        command_line: row.command_line.into_owned(),
        user_name: row.user_name.into_owned(),
        parent_process_name: row.parent_process_name.into_owned(),
        container_id: row.container_id.into_owned(),
        attribution: row.attribution.into_owned(),
        remote_dns_questions: row.remote_dns_questions.into_owned(),
    };
    Ok(Seen {
        sighting: Arc::new(sighting),
        connections,
        translated,
        bytes_sent: row.bytes_sent.unwrap_or(0),
        bytes_received: row.bytes_received.unwrap_or(0),
    })
}

/// Who began. Where a row does not say so, its addresses do.
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

impl Seen {
    /// The remote end; of the ports, a row of `VMConnection` knows the one that was called.
    pub(super) fn peer(&self, head: Head) -> Peer {
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
struct HeadRow<'a> {
    #[serde(borrow)]
    time_generated: JsonStr<'a>,
    #[serde(borrow)]
    remote_ip: JsonStr<'a>,
    translated: Option<TranslatedHead>,
    #[serde(borrow)]
    r#type: JsonStr<'a>,
}

/// Of `NatMapping`, as `record` writes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TranslatedHead {
    remote_ip: IpAddr,
    /// 0 is not known.
    #[serde(default)]
    remote_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Row<'a> {
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
    destination_port: Option<u16>,
    #[serde(deserialize_with = "integer")]
    source_port: Option<u16>,
    #[serde(deserialize_with = "integer")]
    links_established: Option<u64>,
    #[serde(deserialize_with = "integer")]
    links_failed: Option<u64>,
    #[serde(deserialize_with = "integer")]
    bytes_sent: Option<u64>,
    #[serde(deserialize_with = "integer")]
    bytes_received: Option<u64>,
    #[serde(deserialize_with = "integer")]
    process_id: Option<u32>,
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

impl Row<'_> {
    /// Physical connections that the row adds. A minute's row with none new still stands for one
    /// that is live. A recording has several lines a connection, of which the first counts.
    fn connections(&self) -> u64 {
        match self.event.as_str() {
            "" => {
                let established = self.links_established.unwrap_or(0);
                established.saturating_add(self.links_failed.unwrap_or(0)).max(1)
            }
            event => u64::from(event == "opened"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str) -> String {
        let head = text(line.as_bytes()).and_then(head);
        let row = head.and_then(|head| match head {
            Line::Row(head) => seen(line, head),
            Line::AgentEvent { .. } | Line::Answer => Err("no row".to_owned()),
        });
        row.unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_column() {
        const GOOD: &str = r#""TimeGenerated":"2026-11-24T10:00:00Z","RemoteIp":"203.0.113.7""#;
        for (line, expected) in [
            ("[\"2026-11-24T10:00:00Z\",\"203.0.113.7\"]", "not a JSON object"),
            ("{", "EOF while parsing an object at column 1"),
            ("{}", "TimeGenerated: missing"),
            (r#"{"TimeGenerated":null}"#, "TimeGenerated: missing"),
            (
                r#"{"TimeGenerated":7}"#,
                "invalid type: integer `7`, expected a string or null at column 18",
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
            (
                &format!("{{{GOOD},\"DestinationPort\":70000}}"),
                "invalid value: floating point `70000.0`, expected an integer in range at column 89",
            ),
        ] {
            assert_eq!(fault(line), expected, "{line}");
        }
    }

    #[test]
    fn columns_may_be_text_null_escaped_or_absent() {
        let line = r#" {"TimeGenerated":"2026-11-24 10:00:00","RemoteIp":"::ffff:203.0.113.7",
            "DestinationPort":"443","ProcessName":"\u0063url","Computer":null,
            "LinksEstablished":2,"LinksFailed":"3"}"#;
        let Line::Row(head) = head(text(line.as_bytes()).unwrap()).unwrap() else { panic!() };
        assert_eq!(head.remote.to_string(), "203.0.113.7");
        assert_eq!(head.time.to_string(), "2026-11-24T10:00:00Z");
        let seen = seen(line, head).unwrap();
        assert_eq!(seen.sighting.destination_port, Some(443));
        assert_eq!(seen.sighting.process_name, "curl");
        assert_eq!(seen.sighting.computer, "");
        assert_eq!(seen.connections, 5);
    }

    #[test]
    fn a_row_knows_the_port_of_the_end_that_was_called() {
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
            let Ok(Line::Row(head)) = head(&line) else { panic!("{line}") };
            let peer = seen(&line, head).unwrap().peer(head);
            assert_eq!((peer.port, peer.local_port), ports, "{line}");
        }
    }
}
