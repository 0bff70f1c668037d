//! State of each feed, as the control socket returns it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::intel::{FeedStatus, Reject};
use crate::schema::health::HealthState;

/// State of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FeedReport {
    /// Name in the configuration.
    pub name: String,
    /// Kind in the configuration.
    pub kind: String,
    /// URL or path, without parts that may be secret.
    pub location: String,
    /// State of the feed.
    pub state: HealthState,
    /// Reason why it is degraded, else "".
    pub reason: String,
    /// True if its last pull was suspicious and is quarantined.
    pub quarantined: bool,
    /// True if there was no good pull for three intervals.
    #[serde(default)]
    pub stale: bool,
    /// Number of its indicators.
    pub indicators: u64,
    /// Time of its last pull.
    pub last_pull: Option<Timestamp>,
    /// Time of its last good pull, which confirmed its indicators.
    pub last_good: Option<Timestamp>,
    /// Time at which its current indicators were pulled.
    pub loaded: Option<Timestamp>,
    /// Failed pulls since the last good one.
    pub failures: u32,
    /// The pull that is running; `None` between pulls.
    #[serde(default)]
    pub pulling: Option<PullReport>,
    /// Entries of the last good pull that repeat another one.
    #[serde(default)]
    pub duplicates: u64,
    /// Unused entries of the last good pull, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// The first unused entries, if requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejects: Vec<RejectReport>,
}

/// A running pull of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PullReport {
    /// Start of the pull.
    pub since: Timestamp,
    /// Page that it has reached (of a MISP feed: event), from 1.
    pub page: u32,
}

/// An entry of a feed that is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RejectReport {
    /// Line or number of the object, from 1, counted over all documents of the pull.
    pub position: u64,
    /// Full reason.
    pub reason: String,
    /// Rejected part of the entry. Hostile.
    pub text: String,
}

impl From<&Reject> for RejectReport {
    fn from(reject: &Reject) -> Self {
        Self {
            position: reject.position,
            reason: reject.reason.to_string(),
            text: reject.text.clone(),
        }
    }
}

impl FeedReport {
    /// Report of `status`, with rejected entries if `with_rejects`.
    pub fn new(status: &FeedStatus, with_rejects: bool) -> Self {
        let reason = status.degraded_reason().unwrap_or_default();
        let counts = status.rejects.counts().iter();
        let rejects = if with_rejects { status.rejects.kept() } else { &[] };
        Self {
            name: status.name.to_string(),
            kind: status.kind.name().to_owned(),
            location: status.location.clone(),
            state: if reason.is_empty() { HealthState::Ok } else { HealthState::Degraded },
            reason,
            quarantined: status.is_quarantined,
            stale: status.is_stale,
            indicators: status.indicators as u64,
            last_pull: status.last_pull,
            last_good: status.last_good,
            loaded: status.loaded,
            failures: status.failures,
            pulling: status
                .running
                .as_ref()
                .map(|it| PullReport { since: it.began(), page: it.page() }),
            duplicates: status.rejects.duplicates(),
            rejected: counts.map(|(reason, count)| (reason.to_string(), *count)).collect(),
            rejects: rejects.iter().map(RejectReport::from).collect(),
        }
    }
}
