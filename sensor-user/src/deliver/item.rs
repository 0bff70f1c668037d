//! `Item`: one thing that goes to sinks.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::pipeline::dedup::{Alert, AlertKind};
use crate::schema::Table;
use crate::schema::TableRow;
use crate::schema::agent_event::AgentEvent;

/// An alert, a row of a table, or a notice of the agent about itself.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Alert(Arc<Alert>),
    Row(Arc<TableRow>),
    /// Goes the way of rows, so that a reader of rows sees where they have a gap.
    AgentEvent(Arc<AgentEvent>),
}

impl Item {
    /// How long before `now` the connection was of which an alert is the first to tell; `None` for
    /// what tells of the past.
    pub(crate) fn delay(&self, now: Timestamp) -> Option<Duration> {
        let Self::Alert(alert) = self else { return None };
        let is_new = alert.alert_kind == AlertKind::New;
        let delay = now.duration_since(alert.vm_connection_time_generated);
        // A clock that was set back makes it 0.
        is_new.then(|| delay.try_into().unwrap_or_default())
    }

    /// The same item has the same id, whenever and however often it is sent.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Alert(alert) => alert.alert_id.clone(),
            Self::Row(row) => row.id(),
            Self::AgentEvent(notice) => notice.id(),
        }
    }

    /// `TimeGenerated`, or an alert's latest connection.
    pub(crate) fn time(&self) -> Timestamp {
        match self {
            Self::Alert(alert) => alert.vm_connection_time_generated,
            Self::Row(row) => row.time_generated(),
            Self::AgentEvent(notice) => notice.time_generated(),
        }
    }

    /// The table of a row; `None` for what is no row.
    pub(crate) fn table(&self) -> Option<&'static Table> {
        match self {
            Self::Row(row) => Some(row.table()),
            Self::Alert(_) | Self::AgentEvent(_) => None,
        }
    }

    /// The `Type` of a row or notice; `NetsensorAlert` for an alert, whose column is the rule's.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Alert(_) => "NetsensorAlert",
            Self::Row(row) => row.table().name,
            Self::AgentEvent(notice) => notice.type_name(),
        }
    }

    /// Full name of the host.
    pub(crate) fn computer(&self) -> &str {
        match self {
            Self::Alert(alert) => &alert.computer,
            Self::Row(row) => row.computer(),
            Self::AgentEvent(notice) => notice.computer(),
        }
    }

    /// The agent's UUID; "" for an alert, which has none.
    pub(crate) fn agent_id(&self) -> &str {
        match self {
            Self::Alert(_) => "",
            Self::Row(row) => row.agent_id(),
            Self::AgentEvent(notice) => notice.agent_id(),
        }
    }

    /// As one line of JSON, under its own columns.
    pub(crate) fn json(&self) -> String {
        match self {
            Self::Alert(alert) => json(alert),
            Self::Row(row) => json(row),
            Self::AgentEvent(notice) => json(notice),
        }
    }
}

/// JSON without a line end inside.
pub(crate) fn json(item: &impl serde::Serialize) -> String {
    // Serialisation fails only for maps with keys that are not text, and these types have none.
    serde_json::to_string(item).unwrap_or_default()
}
