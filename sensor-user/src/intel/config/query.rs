//! `FeedQuery`: protocol-specific request parameters of a feed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::http::Secret;
use crate::intel::formats::kind::FeedKind;

/// Request parameters of a feed, by protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FeedQuery {
    /// The document at the URL; no parameters.
    #[default]
    Document,
    /// Collections of a TAXII server.
    Taxii(TaxiiQuery),
    /// Attributes of a MISP server.
    Misp(MispQuery),
    /// Decisions of a `CrowdSec` Local API.
    CrowdSec(CrowdSecQuery),
    /// Indicators of a Sentinel workspace.
    Sentinel(Box<WorkspaceQuery>),
}

/// Parameters for a TAXII 2.1 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxiiQuery {
    /// Ids, aliases or titles; empty for all readable collections.
    pub collections: Vec<String>,
    /// Maximum number of objects per page; servers may return fewer.
    pub page_size: u32,
}

/// Parameters for a MISP server (`attributes/restSearch`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MispQuery {
    /// Types of attributes.
    pub types: Vec<String>,
    /// Further parameters of the search, passed unchanged.
    pub filter: BTreeMap<String, serde_json::Value>,
    /// Attributes per page.
    pub page_size: u32,
    /// Overlap with the previous pull: changes are requested from this long before its start.
    pub overlap: Duration,
}

/// Parameters for a `CrowdSec` Local API (`/v1/decisions/stream`); empty lists do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrowdSecQuery {
    /// Such as `ip`, `range`.
    pub scopes: Vec<String>,
    /// Such as `crowdsec`, `CAPI`, `cscli`.
    pub origins: Vec<String>,
    /// Scenarios must contain one of these words.
    pub scenarios_containing: Vec<String>,
    /// Scenarios must contain none of these words.
    pub scenarios_not_containing: Vec<String>,
}

/// Parameters for the management API of a Sentinel workspace (`queryIndicators`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceQuery {
    /// Id of the subscription.
    pub subscription: String,
    /// Name of the resource group.
    pub resource_group: String,
    /// Name of the Log Analytics workspace.
    pub workspace: String,
    /// Id or domain of the tenant.
    pub tenant: String,
    /// Client id of the application.
    pub client_id: String,
    /// Client secret of the application.
    pub client_secret: Secret,
    /// URL of the token server (OAuth 2.0, client credentials).
    pub login_url: reqwest::Url,
    /// Indicators per page.
    pub page_size: u32,
}

impl TaxiiQuery {
    /// Default number of objects per page.
    pub const PAGE_SIZE: u32 = 1000;
}

impl Default for TaxiiQuery {
    fn default() -> Self {
        Self { collections: Vec::new(), page_size: Self::PAGE_SIZE }
    }
}

impl MispQuery {
    /// Default number of attributes per page.
    pub const PAGE_SIZE: u32 = 5000;
    /// Default overlap: clocks differ, and an event may be saved during the request.
    pub const OVERLAP: Duration = Duration::from_mins(10);
    /// Default types: all that contain an address.
    pub const TYPES: [&str; 5] = ["ip-src", "ip-dst", "ip-src|port", "ip-dst|port", "domain|ip"];
}

impl Default for MispQuery {
    fn default() -> Self {
        Self {
            types: Self::TYPES.map(str::to_owned).into(),
            filter: BTreeMap::new(),
            page_size: Self::PAGE_SIZE,
            overlap: Self::OVERLAP,
        }
    }
}

impl WorkspaceQuery {
    /// Default number of indicators per page.
    pub const PAGE_SIZE: u32 = 1000;
    /// Default URL of the management API; sovereign clouds have others.
    pub const URL: &str = "https://management.azure.com/";
    /// Default URL of the token server.
    pub const LOGIN_URL: &str = "https://login.microsoftonline.com/";
}

impl FeedQuery {
    /// Returns the default query of a feed of `kind`. A workspace has no defaults.
    pub fn new(kind: FeedKind) -> Self {
        match kind {
            FeedKind::Taxii2 => Self::Taxii(TaxiiQuery::default()),
            FeedKind::Misp => Self::Misp(MispQuery::default()),
            FeedKind::CrowdSec => Self::CrowdSec(CrowdSecQuery::default()),
            _ => Self::Document,
        }
    }
}
