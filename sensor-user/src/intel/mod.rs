//! Intel: feeds are pulled, parsed and merged into one immutable `IndicatorSet`.
//!
//! Feed content is hostile input: it is bounded in size, every entry that cannot be used is
//! counted with its place and reason, and a failed pull keeps the last good set.

pub mod address;
pub mod config;
pub mod feeds;
mod fetch;
pub mod formats;
mod indicator;
mod parser;
mod pull;
mod rejects;
pub mod set;

pub use address::{Exclusion, PrefixPolicy, canonical, host, is_special, parse_prefix};
pub use config::query::{Ask, CrowdSecAsk, MispAsk, SentinelAsk, TaxiiAsk};
pub use formats::columns::{Text, flag, integer, loose_time, number, parse_time, time};
pub use formats::crowdsec::read_crowdsec;
pub use formats::entry::{Collected, Content, Entries, Entry, ReadFault, ReadPolicy};

pub use feeds::{FeedFolder, FeedStatus, Intel, Kept};
pub use fetch::{FetchError, Fetcher};
pub use formats::list::{
    Columns, Field, FormatFault, ListFormat, PRESETS, Parsed, Shape, parse as parse_list, preset,
    read_list,
};
pub use formats::misp::read_misp;
pub use formats::rows::{RowReader, read_rows};
pub use formats::sentinel_query::read_sentinel_query;
pub use formats::sniff::sniff;
pub use formats::stix::read_stix;
pub use formats::stix_pattern::{
    Fault as PatternFaultKind, PatternFault, Sufficient, read_pattern,
};
pub use formats::warninglist::{AllowFault, AllowFaultKind, Allowed, read_allowed, read_networks};
pub use indicator::{Indicator, PortRange, Ports};
pub use parser::merge::{Merge, Merged, Ttl};
pub use parser::{Job, JobFault, Opened, Reading, read_document, run_feed_parser};
pub use pull::{Cursor, Documents, Extent, KeepError, OpenDocuments, Pulled, Validators};
pub use rejects::{Reason, Reject, Rejects};
pub use set::segment::{Segment, Validity};
pub use set::{Found, IndicatorSet, SetPlace};

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::base::clock::signed;
use crate::http::Access;

/// How a feed's body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Limit of one request, connect to last byte.
    pub timeout: Duration,
    /// Largest body, or all bodies of a pull together, bytes, after decompression.
    pub max_bytes: u64,
    /// Entries of less confidence (0 to 100) are not used.
    pub min_confidence: Option<u8>,
    /// Whether a pull that looks wrong (more than half gone, a hundred times as many) is held back.
    pub quarantine: bool,
    /// How its server is reached.
    pub access: Access,
    /// What of it is asked for; has a meaning only for its kind.
    pub ask: Ask,
    /// Time after which all of a feed is asked for that otherwise tells only what changed.
    pub full_every: Duration,
    /// How a list is written.
    pub list: ListFormat,
}

impl FeedConfig {
    /// What its sets are known by: a set of another kind, place or reading is not its.
    pub fn origin(&self) -> String {
        let place = match &self.source {
            FeedSource::Http(url) => format!("{:x}", Sha256::digest(url.as_str())),
            other => other.shown(),
        };
        format!(
            "{:?} {place} {} {} {} {:?} {:?}",
            self.kind,
            self.allow_private,
            self.min_prefix_v4,
            self.min_prefix_v6,
            self.min_confidence,
            self.list,
        )
    }

    /// What readers go by in a pull at `now`.
    pub fn read_policy(&self, now: Timestamp) -> ReadPolicy {
        ReadPolicy {
            prefixes: PrefixPolicy::from(self),
            min_confidence: self.min_confidence,
            now,
            oldest: now.checked_sub(signed(self.indicator_lookback)).unwrap_or(Timestamp::MIN),
        }
    }

    /// How long its indicators count, where what is there was last confirmed as a whole then.
    pub fn validity(&self, confirmed: Option<Timestamp>) -> Validity {
        let confirmed = confirmed.filter(|_| self.kind.is_snapshot());
        let rows = self.kind == FeedKind::Sentinel;
        Validity {
            ttl: Ttl { ttl: signed(self.default_ttl), confirmed },
            rows_for: rows.then(|| signed(self.indicator_lookback)),
            is_list: self.kind == FeedKind::List,
        }
    }
}

impl FeedKind {
    /// As the configuration and what is shown name it.
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

    /// Whether "not modified" says of every entry that it still stands.
    pub const fn is_snapshot(self) -> bool {
        matches!(self, Self::List | Self::Sentinel | Self::Stix | Self::SentinelQuery)
    }
}

impl FeedSource {
    /// Where it is, without the parts of a URL that may be secret.
    pub fn shown(&self) -> String {
        match self {
            Self::File(path) => format!("{}", path.display()),
            Self::Http(url) => {
                let query = if url.query().is_some() { "?…" } else { "" };
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                let host = url.host_str().unwrap_or_default();
                format!("{}://{host}{port}{}{query}", url.scheme(), url.path())
            }
            Self::Embedded(_) => "embedded".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FeedSource;

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        let url = "https://user:pass@feeds.example:8443/list.txt?key=secret".parse().unwrap();
        assert_eq!(FeedSource::Http(url).shown(), "https://feeds.example:8443/list.txt?…");
    }
}
