//! Health: state of each component of the agent, its reason, and the time of its last change.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// State of a component, or of the whole agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthState {
    /// Works as configured.
    #[serde(rename = "OK")]
    Ok,
    /// Fails, or works only in part: the agent observes or delivers less.
    #[serde(rename = "DEGRADED")]
    Degraded,
}

impl fmt::Display for HealthState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Ok => "OK",
            Self::Degraded => "DEGRADED",
        })
    }
}

/// A component of the agent: a hook, a feed, a sink, the canary, …
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Component {
    /// Name of the component.
    pub name: String,
    /// Current state.
    pub state: HealthState,
    /// Reason why it is degraded, else "".
    pub reason: String,
    /// Time of the last change of state.
    pub since: Timestamp,
}

/// Components of the agent with a known state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    components: Vec<Component>,
}

impl Health {
    /// Returns the agent's state: degraded if any component is.
    pub fn state(&self) -> HealthState {
        overall(&self.components)
    }

    /// Returns the components in the order of their first report.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// Removes components that no longer exist.
    pub fn forget(&mut self, is_gone: impl Fn(&str) -> bool) {
        self.components.retain(|component| !is_gone(&component.name));
    }

    /// Sets the state of a component at `now`: degraded for the reason `error`, or OK. Returns the
    /// component if its state changed; an unknown component counts as OK before.
    pub fn set(&mut self, name: &str, error: Option<String>, now: Timestamp) -> Option<Component> {
        let state = if error.is_some() { HealthState::Degraded } else { HealthState::Ok };
        let reason = error.unwrap_or_default();
        let known = self.components.iter_mut().find(|component| component.name == name);
        let Some(known) = known else {
            let new = Component { name: name.to_owned(), state, reason, since: now };
            self.components.push(new.clone());
            return (state == HealthState::Degraded).then_some(new);
        };
        known.reason = reason;
        if known.state == state {
            return None;
        }
        (known.state, known.since) = (state, now);
        Some(known.clone())
    }
}

/// Returns the state of the whole agent: degraded if any component is.
pub fn overall(components: &[Component]) -> HealthState {
    let degraded = components.iter().any(|component| component.state == HealthState::Degraded);
    if degraded { HealthState::Degraded } else { HealthState::Ok }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_returned_once_and_one_degraded_component_degrades_the_agent() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut health = Health::default();
        assert_eq!((health.set("hook", None, at(1)), health.state()), (None, HealthState::Ok));
        let changed = health.set("hook", Some("silent".into()), at(2)).unwrap();
        assert_eq!(
            (changed.state, changed.since, changed.reason.as_str()),
            (HealthState::Degraded, at(2), "silent")
        );
        assert_eq!(health.set("hook", Some("silent for long".into()), at(3)), None);
        assert_eq!(health.components()[0].reason, "silent for long");
        assert_eq!(health.components()[0].since, at(2));
        assert!(health.set("feed", Some("no response".into()), at(3)).is_some());
        assert_eq!(health.set("hook", None, at(4)).unwrap().reason, "");
        assert_eq!(health.state(), HealthState::Degraded);
        assert!(health.set("feed", None, at(5)).is_some());
        assert_eq!(health.state(), HealthState::Ok);
    }
}
