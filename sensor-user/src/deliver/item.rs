//! `Item`: an alert, row or agent event on its way to the sinks.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::pipeline::dedup::{Alert, AlertKind};
use crate::schema::agent_event::AgentEvent;
use crate::schema::health::HealthState;
use crate::schema::{Table, TableRow};

/// An alert, a row of a table, or an event of the agent about itself.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Alert(Arc<Alert>),
    Row(Arc<TableRow>),
    /// Queued with the rows, so that a reader of the rows sees their gaps.
    AgentEvent(Arc<AgentEvent>),
}

/// Severity of an item, before a format maps it to its own scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Unknown,
    Informational,
    Low,
    /// Loss or degraded health of the agent.
    Warning,
    Medium,
    High,
}

impl Severity {
    /// Number of the severity in ECS and OCSF.
    pub(super) const fn id(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Informational => 1,
            Self::Low | Self::Warning => 2,
            Self::Medium => 3,
            Self::High => 4,
        }
    }
}

impl Item {
    /// Time from the connection to `now` for the first alert of a window; `None` for items about
    /// the past.
    pub(super) fn latency(&self, now: Timestamp) -> Option<Duration> {
        let Self::Alert(alert) = self else { return None };
        let is_new = alert.alert_kind == AlertKind::New;
        let latency = now.duration_since(alert.vm_connection_time_generated);
        // 0 if the clock was set back.
        is_new.then(|| latency.try_into().unwrap_or_default())
    }

    /// Stable id: equal each time that the item is sent.
    pub(super) fn id(&self) -> String {
        match self {
            Self::Alert(alert) => alert.alert_id.clone(),
            Self::Row(row) => row.id(),
            Self::AgentEvent(event) => event.id(),
        }
    }

    /// `TimeGenerated`, or the latest connection of an alert.
    pub(super) fn time(&self) -> Timestamp {
        match self {
            Self::Alert(alert) => alert.vm_connection_time_generated,
            Self::Row(row) => row.time_generated(),
            Self::AgentEvent(event) => event.time_generated(),
        }
    }

    /// Table of a row.
    pub(super) fn table(&self) -> Option<&'static Table> {
        match self {
            Self::Row(row) => Some(row.table()),
            Self::Alert(_) | Self::AgentEvent(_) => None,
        }
    }

    /// `Type` of a row or agent event; `NetsensorAlert` for an alert, whose column is the rule's.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Alert(_) => "NetsensorAlert",
            Self::Row(row) => row.table().name,
            Self::AgentEvent(event) => event.type_name(),
        }
    }

    /// Type without the product's name, in lower case: `alert`, `vmconnection`, `loss`, …
    pub(super) fn short_type_name(&self) -> String {
        let name = self.type_name();
        name.strip_prefix(AgentEvent::TYPE_PREFIX).unwrap_or(name).to_ascii_lowercase()
    }

    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::Alert(alert) => match alert.severity.as_str() {
                "Informational" => Severity::Informational,
                "Low" => Severity::Low,
                "Medium" => Severity::Medium,
                "High" => Severity::High,
                _ => Severity::Unknown,
            },
            Self::Row(_) => Severity::Informational,
            Self::AgentEvent(event) => match &**event {
                AgentEvent::Health(change) if change.state == HealthState::Ok => {
                    Severity::Informational
                }
                AgentEvent::Loss(_) | AgentEvent::Health(_) => Severity::Warning,
            },
        }
    }

    /// Full name of the host.
    pub(super) fn computer(&self) -> &str {
        match self {
            Self::Alert(alert) => &alert.computer,
            Self::Row(row) => row.computer(),
            Self::AgentEvent(event) => event.computer(),
        }
    }

    /// UUID of the agent; "" for an alert.
    pub(super) fn agent_id(&self) -> &str {
        match self {
            Self::Alert(_) => "",
            Self::Row(row) => row.agent_id(),
            Self::AgentEvent(event) => event.agent_id(),
        }
    }

    /// The item's own columns as one line of JSON.
    pub(super) fn json(&self) -> String {
        let json = match self {
            Self::Alert(alert) => serde_json::to_string(alert),
            Self::Row(row) => serde_json::to_string(row),
            Self::AgentEvent(event) => serde_json::to_string(event),
        };
        // Serialization fails only for maps with keys that are not text, which these types lack.
        json.unwrap_or_default()
    }
}
