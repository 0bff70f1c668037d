//! `AgentEvent`: what the agent says of itself, in the same stream as its rows: that something was lost,
//! and that its health changed. The serde names are a contract, as those of alerts and rows are.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::health::State;
use crate::base::stable_id::stable_id;

/// A line about the agent itself, told from rows by its `Type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type")]
pub enum AgentEvent {
    /// Something was lost.
    #[serde(rename = "NetsensorLoss")]
    Loss(Loss),
    /// A part of the agent stopped working, or works again.
    #[serde(rename = "NetsensorHealth")]
    Health(HealthChange),
}

/// How much of what was lost for one reason, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Loss {
    /// Same as `LastSeen`.
    pub time_generated: Timestamp,
    /// Full name of the host.
    pub computer: String,
    /// The agent's UUID; "" in a recording.
    pub agent_id: String,
    /// No such loss was before this since the last such line.
    pub first_seen: Timestamp,
    /// Nor after this.
    pub last_seen: Timestamp,
    /// Why: `ring_full`, `map_full`, `decode_error`, `simulated`, `table_full`, `queue_full`,
    /// `rejected`, `reader_slow`, `over_rate`.
    pub reason: String,
    /// What: `tcp`, `process` and `record` (of the kernel), `accept_pending`, `connection`, …
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// A part of the agent whose state changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthChange {
    /// When.
    pub time_generated: Timestamp,
    /// Full name of the host.
    pub computer: String,
    /// The agent's UUID.
    pub agent_id: String,
    /// Which part: a hook, a feed, the canary.
    pub component: String,
    /// How it is now: `OK` or `DEGRADED`.
    pub state: State,
    /// Why; "" when it is well.
    pub reason: String,
    /// How the agent is as a whole.
    pub agent_state: State,
}

impl AgentEvent {
    /// Every value of the `Type` column begins so.
    pub const TYPE_PREFIX: &str = "Netsensor";

    /// What the `Type` column says.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Loss(_) => "NetsensorLoss",
            Self::Health(_) => "NetsensorHealth",
        }
    }

    /// Full name of the host.
    pub fn computer(&self) -> &str {
        match self {
            Self::Loss(loss) => &loss.computer,
            Self::Health(change) => &change.computer,
        }
    }

    /// The agent's UUID.
    pub fn agent_id(&self) -> &str {
        match self {
            Self::Loss(loss) => &loss.agent_id,
            Self::Health(change) => &change.agent_id,
        }
    }

    /// The same notice gives the same id, however often it is sent.
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

    /// When it was made.
    pub const fn time_generated(&self) -> Timestamp {
        match self {
            Self::Loss(loss) => loss.time_generated,
            Self::Health(change) => change.time_generated,
        }
    }

    /// How much was lost; 0 for a notice that is about something else.
    pub const fn lost(&self) -> u64 {
        match self {
            Self::Loss(loss) => loss.count,
            Self::Health(_) => 0,
        }
    }
}

/// Who says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentIdentity {
    /// Full name of the host.
    pub computer: String,
    /// The agent's UUID.
    pub agent_id: String,
}
