//! Intel: feeds are pulled, parsed and merged into one immutable `IndicatorSet`.
//!
//! Feed content is hostile input: it is bounded in size, every entry that cannot be used is
//! counted with its place and reason, and a failed pull keeps the last good set.

mod address;
mod columns;
mod crowdsec;
mod endpoint;
mod entry;
mod feeds;
mod fetch;
mod indicator;
mod json;
mod list;
mod misp;
mod pattern;
mod pull;
mod rejects;
mod rows;
mod sentinel_query;
mod set;
mod stix;
mod warninglist;

pub use address::{Exclusion, PrefixPolicy, canonical, host, is_special, parse_prefix};
pub use columns::{Text, flag, integer, loose_time, number, parse_time, time};
pub use crowdsec::read_crowdsec;
pub use entry::{Collected, Content, Entries, Entry, ReadFault, ReadPolicy};
pub use feeds::{FeedStatus, Intel};
pub use fetch::{FetchError, Fetched, Fetcher};
pub use indicator::{Indicator, PortRange, Ports};
pub use list::{
    Columns, Field, FormatFault, ListFormat, PRESETS, Parsed, Shape, parse as parse_list, preset,
    read_list,
};
pub use misp::read_misp;
pub use pattern::{Fault as PatternFaultKind, PatternFault, Sufficient, read_pattern};
pub use pull::{Cursor, Documents, Extent, KeepError, OpenDocuments, Pulled, Validators};
pub use rejects::{Reason, Reject, Rejects};
pub use rows::{RowReader, read_rows};
pub use sentinel_query::read_sentinel_query;
pub use set::IndicatorSet;
pub use stix::read_stix;
pub use warninglist::{AllowFault, AllowFaultKind, Allowed, read_allowed, read_networks};

use std::time::Duration;

/// How a feed's body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedKind {
    /// Plain list: an address or network a line, `#` and `;` begin comments.
    List,
    /// Rows of `ThreatIntelligenceIndicator` or `ThreatIntelIndicators` as JSON lines.
    Sentinel,
    /// STIX 2.1: a bundle, an array of objects, or objects as JSON lines.
    Stix,
    /// A collection of a TAXII 2.1 server; pages of STIX objects.
    Taxii2,
    /// Attributes of a MISP server, by `restSearch`.
    Misp,
    /// A feed of MISP events: `manifest.json` and a file an event.
    MispFeed,
    /// Decisions of a `CrowdSec` Local API, by its stream.
    CrowdSec,
    /// Indicators of a Microsoft Sentinel workspace, by `queryIndicators`.
    SentinelQuery,
}

/// Where a feed's body comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedSource {
    /// A local file.
    File(std::path::PathBuf),
    /// An `http:` or `https:` URL.
    Http(reqwest::Url),
    /// Text compiled into the agent (the example indicators).
    Embedded(&'static str),
}

/// One feed, checked and with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedConfig {
    /// Unique name, used in alerts, logs and counters.
    pub name: String,
    /// How to read it.
    pub kind: FeedKind,
    /// Where it is.
    pub source: FeedSource,
    /// Time between two pulls.
    pub interval: Duration,
    /// Validity of an entry that names no expiry, from the time of the pull (not for rows).
    pub default_ttl: Duration,
    /// Rows older than this, by `TimeGenerated`, are ignored.
    pub indicator_lookback: Duration,
    /// Keep private and special addresses.
    pub allow_private: bool,
    /// Shortest IPv4 prefix that is accepted.
    pub min_prefix_v4: u8,
    /// Shortest IPv6 prefix that is accepted.
    pub min_prefix_v6: u8,
    /// Limit of one pull, connect to last byte.
    pub timeout: Duration,
    /// Largest body, or all bodies of a pull together, bytes, after decompression.
    pub max_bytes: u64,
    /// Entries of less confidence (0 to 100) are not used.
    pub min_confidence: Option<u8>,
    /// Whether a pull that looks wrong (more than half gone, a hundred times as many) is held back.
    pub quarantine: bool,
}
