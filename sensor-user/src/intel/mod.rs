//! Intel: feeds are pulled, parsed and merged into one immutable `IndicatorSet`.
//!
//! Feed content is hostile input: it is bounded in size, every entry that cannot be used is
//! counted with its place and reason, and a failed pull keeps the last good set.

mod address;
mod columns;
mod feeds;
mod fetch;
mod indicator;
mod list;
mod rejects;
mod rows;
mod set;

pub use address::{Exclusion, PrefixPolicy, canonical, host, is_special, parse_prefix};
pub use columns::{Text, flag, integer, number, parse_time, time};
pub use feeds::{FeedStatus, Intel};
pub use fetch::{FetchError, Fetched, Fetcher, Validators};
pub use indicator::Indicator;
pub use list::{Parsed, parse as parse_list};
pub use rejects::{Reason, Reject, Rejects};
pub use rows::RowReader;
pub use set::IndicatorSet;

use std::time::Duration;

/// How a feed's body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedKind {
    /// Plain list: an address or network a line, `#` and `;` begin comments.
    List,
    /// Rows of `ThreatIntelligenceIndicator` as JSON lines.
    Sentinel,
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
    /// Largest body, bytes, after decompression.
    pub max_bytes: u64,
}
