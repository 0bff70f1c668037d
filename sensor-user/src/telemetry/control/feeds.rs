//! The state of each feed, as the control socket returns it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::intel::{FeedStatus, Reject};
use crate::schema::health::State;

/// A feed, as the running agent knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FeedReport {
    /// Its name.
    pub name: String,
    /// Its kind, as the configuration names it.
    pub kind: String,
    /// Where it is, without what may be secret.
    pub location: String,
    /// How it is.
    pub state: State,
    /// Why it is degraded; "" where it is not.
    pub reason: String,
    /// Whether its last pull is held back, since it looked wrong.
    pub quarantined: bool,
    /// Whether there was no good pull for three intervals.
    #[serde(default)]
    pub stale: bool,
    /// Indicators that it gives.
    pub indicators: u64,
    /// When it was last asked.
    pub last_pull: Option<Timestamp>,
    /// When what it gives was last confirmed.
    pub last_good: Option<Timestamp>,
    /// When what it gives was pulled.
    pub loaded: Option<Timestamp>,
    /// Pulls that failed since the last good one.
    pub failures: u32,
    /// Entries of the last good pull that are not used, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// The first of them, where they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejects: Vec<RejectReport>,
}

/// An entry that is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RejectReport {
    /// Line, or number of the object, from 1, over all documents of the pull.
    pub position: u64,
    /// Why, in full.
    pub reason: String,
    /// The part at fault. Hostile.
    pub text: String,
}

impl From<&Reject> for RejectReport {
    fn from(reject: &Reject) -> Self {
        Self {
            position: reject.place,
            reason: reject.reason.to_string(),
            text: reject.text.clone(),
        }
    }
}

impl FeedReport {
    /// Of a status; with its rejects where `with_rejects`.
    pub fn of(status: &FeedStatus, with_rejects: bool) -> Self {
        let reason = status.fault().unwrap_or_default();
        let counts = status.rejects.counts().iter();
        let rejects = if with_rejects { status.rejects.kept() } else { &[] };
        Self {
            name: status.name.to_string(),
            kind: status.kind.name().to_owned(),
            location: status.place.clone(),
            state: if reason.is_empty() { State::Ok } else { State::Degraded },
            reason,
            quarantined: status.is_quarantined,
            stale: status.is_stale,
            indicators: status.indicators as u64,
            last_pull: status.last_pull,
            last_good: status.last_good,
            loaded: status.loaded,
            failures: status.failures,
            rejected: counts.map(|(reason, count)| (reason.to_string(), *count)).collect(),
            rejects: rejects.iter().map(RejectReport::from).collect(),
        }
    }
}
