//! Facts: the one list of the fields of alerts, rows and agent events.
//!
//! A row of a `facts!` table is `value => CEF, ECS, OCSF`, with "" where a format has no such
//! field. An ECS or OCSF name is one or several paths (`document.rs`); a CEF name is a key, and for
//! a custom field `key:label`. CEF has alerts only, and the fields in the order of the list; JSON is
//! sorted.

/// Writes each value under the name that the format of `$out` has for it.
macro_rules! facts {
    ($out:ident; $($value:expr => $cef:expr, $ecs:expr, $ocsf:expr;)*) => {{$(
        match $out.name($cef, $ecs, $ocsf) {
            "" => {}
            name => {
                let value = serde_json::json!($value);
                $out.write(name, value);
            }
        }
    )*}};
}

mod agent_event;
mod alert;
mod connection;
mod rows;
mod vocabulary;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Format;
use crate::deliver::item::Item;
use crate::pipeline::dedup::split_computer;
use crate::schema::TableRow;

/// Receiver of the facts of an item, for one format.
pub(super) struct FactWriter<'w> {
    format: Format,
    write: &'w mut dyn FnMut(&str, Value),
}

impl<'w> FactWriter<'w> {
    /// Passes the names of `format` and the values to `write`.
    pub(super) fn new(format: Format, write: &'w mut dyn FnMut(&str, Value)) -> Self {
        Self { format, write }
    }

    /// Writes all facts of `item`.
    pub(super) fn item(&mut self, item: &Item) {
        facts! { self;
            item.id() => "externalId", "event.id", "metadata.uid";
            self.time(item.time()) => "rt", "@timestamp", "time";
        }
        if let Item::Alert(alert) = item {
            alert::write_interval(alert, self);
        }
        let (host_name, domain) = split_computer(item.computer());
        facts! { self;
            item.computer() => "dvchost", "host.name", "device.hostname";
            host_name => "", "host.hostname", "";
            domain => "", "host.domain", "device.domain";
            item.agent_id() => "", "agent.id", "";
            0 => "", "", "device.type_id";
            "Unknown" => "", "", "device.type";
        }
        match item {
            Item::Alert(alert) => alert::write(alert, self),
            Item::AgentEvent(event) => agent_event::write(event, self),
            Item::Row(row) => match &**row {
                TableRow::Connection(row) => rows::connection(row, self),
                TableRow::BoundPort(row) => rows::bound_port(row, self),
                TableRow::Process(row) => rows::process(row, self),
                TableRow::Computer(row) => rows::computer(row, self),
            },
        }
    }

    const fn name<'n>(&self, cef: &'n str, ecs: &'n str, ocsf: &'n str) -> &'n str {
        match self.format {
            Format::Cef => cef,
            Format::Ecs => ecs,
            Format::Ocsf => ocsf,
            Format::Native => "",
        }
    }

    /// Text in ECS, milliseconds since 1970 in the others.
    fn time(&self, time: Timestamp) -> Value {
        if self.format == Format::Ecs { json!(time) } else { json!(time.as_millisecond()) }
    }

    fn write(&mut self, name: &str, value: Value) {
        (self.write)(name, value);
    }
}
