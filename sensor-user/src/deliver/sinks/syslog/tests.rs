//! Messages as an independent parser reads them.

use std::sync::Arc;

use proptest::prelude::*;
use syslog_loose::{ProcId, SyslogFacility, SyslogSeverity, Variant, parse_message};

use super::encode::{frames, message};
use super::{Framing, SyslogConfig};
use crate::deliver::batch::{Batch, BatchItem, ItemKind};
use crate::deliver::format::Format;
use crate::deliver::item::Item;
use crate::schema::agent_event::{AgentEvent, HealthChange};
use crate::schema::health::HealthState;

fn item(computer: &str, component: &str) -> BatchItem {
    let event = AgentEvent::Health(HealthChange {
        time_generated: "2026-11-24T10:00:00.123456789Z".parse().unwrap(),
        computer: computer.to_owned(),
        agent_id: "agent".to_owned(),
        component: component.to_owned(),
        state: HealthState::Degraded,
        reason: "why".to_owned(),
        agent_state: HealthState::Degraded,
    });
    let item = Item::AgentEvent(Arc::new(event));
    let line = Format::Native.line(&item);
    BatchItem::new(item, 0, line)
}

fn config() -> SyslogConfig {
    SyslogConfig::new("h:1".to_owned())
}

#[test]
fn a_parser_reads_the_fields_of_a_message() {
    let item = item("web01.example.net", "feed a");
    let text = message(&config(), &item);
    let read = parse_message(&text, Variant::RFC5424);
    assert_eq!(read.facility, Some(SyslogFacility::LOG_LOCAL0));
    assert_eq!(read.severity, Some(SyslogSeverity::SEV_WARNING));
    assert_eq!(read.hostname, Some("web01.example.net"));
    assert_eq!((read.appname, read.msgid), (Some("netsensor"), Some("health")));
    assert_eq!(read.procid, Some(ProcId::PID(i32::try_from(std::process::id()).unwrap())));
    assert_eq!(read.timestamp.unwrap().to_rfc3339(), "2026-11-24T10:00:00.123456+00:00");
    let data = &read.structured_data[0];
    assert_eq!(data.id, "netsensor@32473");
    assert_eq!(data.params, [("id", item.id.as_str())]);
    assert_eq!(read.msg, item.line);
}

#[test]
fn messages_are_framed_by_their_octets_or_by_line_ends() {
    let batch = Batch::new(ItemKind::Rows, vec![item("größe", "a"), item("b", "c")]);
    let octets = frames(&config(), &batch);
    let mut rest = octets.as_slice();
    for item in &batch.items {
        let space = rest.iter().position(|byte| *byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
        let text = std::str::from_utf8(&rest[space + 1..=space + length]).unwrap();
        assert!(text.starts_with('<') && text.ends_with(&item.line), "{text}");
        rest = &rest[space + 1 + length..];
    }
    assert!(rest.is_empty());
    let lines = SyslogConfig { framing: Framing::Newline, ..config() };
    let lines = frames(&lines, &batch);
    assert_eq!(std::str::from_utf8(&lines).unwrap().lines().count(), 2);
}

proptest! {
    #[test]
    fn hostile_names_break_no_message(computer in any::<String>(), component in any::<String>()) {
        let mut item = item(&computer, &component);
        item.id = format!("\"]\\ x=\"{component}");
        let text = message(&config(), &item);
        prop_assert!(!text.chars().any(char::is_control), "{text:?}");
        let read = parse_message(&text, Variant::RFC5424);
        prop_assert_eq!(read.msg, item.line.as_str());
        prop_assert_eq!(read.structured_data.len(), 1);
        prop_assert_eq!(read.structured_data[0].params.len(), 1);
        prop_assert_eq!(read.msgid, Some("health"));
    }
}
