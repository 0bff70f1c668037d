//! Health: what of the agent works, and what does not, why, and since when.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It does.
    #[serde(rename = "OK")]
    Ok,
    /// It does not, or not as it should: the agent sees or tells less.
    #[serde(rename = "DEGRADED")]
    Degraded,
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Ok => "OK",
            Self::Degraded => "DEGRADED",
        })
    }
}

/// A part of the agent: a hook, a feed, the canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Component {
    /// What it is called.
    pub name: String,
    /// Whether it works.
    pub state: State,
    /// Why it does not; "" when it does.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// All parts of the agent of which something is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    components: Vec<Component>,
}

impl Health {
    /// The agent's state: it is degraded when a part of it is.
    pub fn state(&self) -> State {
        overall(&self.components)
    }

    /// The parts, in the order in which they were first told of.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// Parts that are there no more count no more.
    pub fn forget(&mut self, is_gone: impl Fn(&str) -> bool) {
        self.components.retain(|component| !is_gone(&component.name));
    }

    /// Says how a part is at `now`; `fault` is why it does not work. Gives the part when its state
    /// changed: a part of which nothing was known counts as one that worked.
    pub fn set(&mut self, name: &str, fault: Option<String>, now: Timestamp) -> Option<Component> {
        let state = if fault.is_some() { State::Degraded } else { State::Ok };
        let reason = fault.unwrap_or_default();
        let known = self.components.iter_mut().find(|component| component.name == name);
        let Some(known) = known else {
            let new = Component { name: name.to_owned(), state, reason, since: now };
            self.components.push(new.clone());
            return (state == State::Degraded).then_some(new);
        };
        known.reason = reason;
        if known.state == state {
            return None;
        }
        (known.state, known.since) = (state, now);
        Some(known.clone())
    }
}

/// Degraded when one of them is.
pub fn overall(components: &[Component]) -> State {
    let degraded = components.iter().any(|component| component.state == State::Degraded);
    if degraded { State::Degraded } else { State::Ok }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_the_worst_part_decides() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut health = Health::default();
        assert_eq!((health.set("hook", None, at(1)), health.state()), (None, State::Ok));
        let told = health.set("hook", Some("silent".into()), at(2)).unwrap();
        assert_eq!(
            (told.state, told.since, told.reason.as_str()),
            (State::Degraded, at(2), "silent")
        );
        assert_eq!(health.set("hook", Some("silent for long".into()), at(3)), None);
        assert_eq!(health.components()[0].reason, "silent for long");
        assert_eq!(health.components()[0].since, at(2));
        assert!(health.set("feed", Some("no answer".into()), at(3)).is_some());
        assert_eq!(health.set("hook", None, at(4)).unwrap().reason, "");
        assert_eq!(health.state(), State::Degraded);
        assert!(health.set("feed", None, at(5)).is_some());
        assert_eq!(health.state(), State::Ok);
    }
}
