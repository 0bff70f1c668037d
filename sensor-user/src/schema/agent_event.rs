//! `AgentEvent`: losses and health changes of the agent, sent with its rows. The serde names are a
//! contract, as those of alerts and rows are.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::health::HealthState;
use crate::base::stable_id::stable_id;

/// An event about the agent itself. Its `Type` distinguishes it from rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type")]
pub enum AgentEvent {
    /// Data was lost.
    #[serde(rename = "NetsensorLoss")]
    Loss(Loss),
    /// The state of a component changed.
    #[serde(rename = "NetsensorHealth")]
    Health(HealthChange),
}

/// Losses of one kind and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Loss {
    /// Same as `LastSeen`.
    pub time_generated: Timestamp,
    /// Full name of the host.
    pub computer: String,
    /// UUID of the agent; "" in a recording.
    pub agent_id: String,
    /// Time after which the losses occurred; they follow those of the previous such event.
    pub first_seen: Timestamp,
    /// Time until which the losses occurred.
    pub last_seen: Timestamp,
    /// Reason: `ring_full`, `map_full`, `decode_error`, `simulated`, `table_full`, `queue_full`,
    /// `rejected`, `reader_slow`, `over_rate`, `probe_missed`.
    pub reason: String,
    /// Lost items: `tcp`, `process` and `record` (of the kernel), `accept_pending`, `connection`, …
    pub kind: String,
    /// Number of lost items.
    pub count: u64,
}

/// A component whose state changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthChange {
    /// Time of the change.
    pub time_generated: Timestamp,
    /// Full name of the host.
    pub computer: String,
    /// UUID of the agent.
    pub agent_id: String,
    /// Component: a hook, a feed, a sink, the canary, …
    pub component: String,
    /// New state: `OK` or `DEGRADED`.
    pub state: HealthState,
    /// Reason why it is degraded, else "".
    pub reason: String,
    /// State of the whole agent.
    pub agent_state: HealthState,
}

impl AgentEvent {
    /// Prefix of all values of the `Type` column.
    pub const TYPE_PREFIX: &str = "Netsensor";

    /// Returns the value of the `Type` column.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Loss(_) => "NetsensorLoss",
            Self::Health(_) => "NetsensorHealth",
        }
    }

    /// Returns the full name of the host.
    pub fn computer(&self) -> &str {
        match self {
            Self::Loss(loss) => &loss.computer,
            Self::Health(change) => &change.computer,
        }
    }

    /// Returns the agent's UUID.
    pub fn agent_id(&self) -> &str {
        match self {
            Self::Loss(loss) => &loss.agent_id,
            Self::Health(change) => &change.agent_id,
        }
    }

    /// Returns the stable id of the event: equal each time that it is sent.
    pub fn id(&self) -> String {
        match self {
            Self::Loss(loss) => stable_id(&[
                "loss",
                &loss.agent_id,
                &loss.computer,
                &loss.first_seen.to_string(),
                &loss.last_seen.to_string(),
                &loss.reason,
                &loss.kind,
            ]),
            Self::Health(change) => stable_id(&[
                "health",
                &change.agent_id,
                &change.computer,
                &change.time_generated.to_string(),
                &change.component,
                &change.state.to_string(),
            ]),
        }
    }

    /// Returns the time of the event.
    pub const fn time_generated(&self) -> Timestamp {
        match self {
            Self::Loss(loss) => loss.time_generated,
            Self::Health(change) => change.time_generated,
        }
    }

    /// Returns the number of lost items; 0 for other events.
    pub const fn lost(&self) -> u64 {
        match self {
            Self::Loss(loss) => loss.count,
            Self::Health(_) => 0,
        }
    }
}

/// Host and agent that an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentIdentity {
    /// Full name of the host.
    pub computer: String,
    /// UUID of the agent.
    pub agent_id: String,
}
