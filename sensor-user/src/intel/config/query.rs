//! What of a feed is asked for: the part of its configuration that only its protocol knows.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::http::Secret;
use crate::intel::formats::kind::FeedKind;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FeedQuery {
    /// The one document at the URL.
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

/// Of a TAXII 2.1 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxiiQuery {
    /// Ids, aliases or titles; empty for all that may be read.
    pub collections: Vec<String>,
    /// Objects a page at most; servers may give fewer.
    pub page_size: u32,
}

/// Of a MISP server (`attributes/restSearch`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MispQuery {
    /// Types of attributes.
    pub types: Vec<String>,
    /// Further parameters of the search, as they are.
    pub filter: BTreeMap<String, serde_json::Value>,
    /// Attributes a page.
    pub page_size: u32,
    /// So much earlier than the last pull began are changes asked for.
    pub overlap: Duration,
}

/// Of a `CrowdSec` Local API (`/v1/decisions/stream`); empty lists do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrowdSecQuery {
    /// Such as `ip`, `range`.
    pub scopes: Vec<String>,
    /// Such as `crowdsec`, `CAPI`, `cscli`.
    pub origins: Vec<String>,
    /// Words that a scenario has one of.
    pub scenarios_containing: Vec<String>,
    /// Words that a scenario has none of.
    pub scenarios_not_containing: Vec<String>,
}

/// Of the management API of a Sentinel workspace (`queryIndicators`).
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
    /// Id of the application that asks.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// The server that gives tokens (OAuth 2.0, client credentials).
    pub login_url: reqwest::Url,
    /// Indicators a page.
    pub page_size: u32,
}

impl TaxiiQuery {
    /// Objects a page unless set.
    pub const PAGE_SIZE: u32 = 1000;
}

impl Default for TaxiiQuery {
    fn default() -> Self {
        Self { collections: Vec::new(), page_size: Self::PAGE_SIZE }
    }
}

impl MispQuery {
    /// Attributes a page unless set.
    pub const PAGE_SIZE: u32 = 5000;
    /// Overlap unless set: clocks differ, and an event may be saved while it is asked for.
    pub const OVERLAP: Duration = Duration::from_mins(10);
    /// Types unless set: all that hold an address.
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
    /// Indicators a page unless set.
    pub const PAGE_SIZE: u32 = 1000;
    /// The management API unless another is named, as sovereign clouds have.
    pub const URL: &str = "https://management.azure.com/";
    /// The server that gives tokens unless another is named.
    pub const LOGIN_URL: &str = "https://login.microsoftonline.com/";
}

impl FeedQuery {
    /// What is asked of a feed of `kind` unless configured. A workspace has no defaults.
    pub fn usual(kind: FeedKind) -> Self {
        match kind {
            FeedKind::Taxii2 => Self::Taxii(TaxiiQuery::default()),
            FeedKind::Misp => Self::Misp(MispQuery::default()),
            FeedKind::CrowdSec => Self::CrowdSec(CrowdSecQuery::default()),
            _ => Self::Document,
        }
    }
}
