//! `FeedKind`: the formats of feeds, each with its protocol.

use serde::{Deserialize, Serialize};

/// Feed format: the format of a feed's documents. CONTRIBUTING.md lists what a new one takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedKind {
    /// List of addresses and networks: plain, CSV, JSON or JSON lines.
    List,
    /// Rows of `ThreatIntelligenceIndicator` or `ThreatIntelIndicators` as JSON lines.
    Sentinel,
    /// STIX 2.1: a bundle, an array of objects, or objects as JSON lines.
    Stix,
    /// Collection of a TAXII 2.1 server; pages of STIX objects.
    Taxii2,
    /// Attributes of a MISP server, by `restSearch`.
    Misp,
    /// Feed of MISP events: `manifest.json` and a file per event.
    MispFeed,
    /// Decisions of a `CrowdSec` Local API, by its stream.
    CrowdSec,
    /// Indicators of a Microsoft Sentinel workspace, by `queryIndicators`.
    SentinelQuery,
}

impl FeedKind {
    /// Returns the kind's name in the configuration and in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Sentinel => "sentinel",
            Self::Stix => "stix",
            Self::Taxii2 => "taxii2",
            Self::Misp => "misp",
            Self::MispFeed => "misp feed",
            Self::CrowdSec => "crowdsec",
            Self::SentinelQuery => "sentinel workspace",
        }
    }

    /// True if "not modified" confirms every entry of the last pull.
    pub const fn is_snapshot(self) -> bool {
        matches!(self, Self::List | Self::Sentinel | Self::Stix | Self::SentinelQuery)
    }
}
