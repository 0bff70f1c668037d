//! `FeedConfig`: the configuration of one feed, checked and with its defaults.

mod origin;
pub mod query;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::clock::signed;
use crate::http::Access;
use crate::intel::address::PrefixPolicy;
use crate::intel::formats::entry::ReadPolicy;
use crate::intel::formats::kind::FeedKind;
use crate::intel::formats::list::ListFormat;
use crate::intel::set::segment::Validity;
use crate::intel::set::ttl::Ttl;
use query::FeedQuery;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Location of a feed's documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedSource {
    /// A local file.
    File(PathBuf),
    /// An `http:` or `https:` URL.
    Http(reqwest::Url),
    /// Text compiled into the agent (the example indicators).
    Embedded(&'static str),
}

impl FeedSource {
    /// Returns the location without the parts of a URL that may be secret.
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

/// Configuration of one feed, checked and with its defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedConfig {
    /// Unique name, used in alerts, logs and counters.
    pub name: String,
    /// Format of its documents.
    pub kind: FeedKind,
    /// Location of its documents.
    pub source: FeedSource,
    /// Time between two pulls.
    pub interval: Duration,
    /// Validity of entries without an expiry, from the time of the pull (not for rows).
    pub default_ttl: Duration,
    /// Rows older than this, by `TimeGenerated`, are ignored.
    pub indicator_lookback: Duration,
    /// True to keep private and special addresses.
    pub allow_private: bool,
    /// Shortest IPv4 prefix that is accepted.
    pub min_prefix_v4: u8,
    /// Shortest IPv6 prefix that is accepted.
    pub min_prefix_v6: u8,
    /// Limit of one request, from connect to the last byte.
    pub timeout: Duration,
    /// Maximum size of a body, or of all bodies of a pull together, in bytes after decompression.
    pub max_bytes: u64,
    /// Entries with a lower confidence (0 to 100) are not used.
    pub min_confidence: Option<u8>,
    /// True to hold back an implausible pull (more than half removed, a hundred times as many).
    pub quarantine: bool,
    /// Credentials, headers, TLS and proxy for its server.
    pub access: Access,
    /// Protocol-specific request parameters; they apply to its kind only.
    pub query: FeedQuery,
    /// Interval of full pulls of a feed whose other pulls fetch changes only.
    pub full_refresh_interval: Duration,
    /// Format of a list.
    pub list: ListFormat,
}

impl FeedConfig {
    /// A feed with every default filled in.
    pub fn new(name: String, kind: FeedKind, source: FeedSource) -> Self {
        Self {
            name,
            kind,
            source,
            interval: HOUR,
            default_ttl: 30 * DAY,
            indicator_lookback: 14 * DAY,
            allow_private: false,
            min_prefix_v4: 8,
            min_prefix_v6: 19,
            timeout: Duration::from_secs(30),
            max_bytes: 256 << 20,
            min_confidence: None,
            quarantine: true,
            access: Access::default(),
            query: FeedQuery::new(kind),
            full_refresh_interval: DAY,
            list: ListFormat::default(),
        }
    }

    /// Returns the rules for entries of a pull at `now`.
    pub fn read_policy(&self, now: Timestamp) -> ReadPolicy {
        ReadPolicy {
            prefixes: PrefixPolicy::from(self),
            min_confidence: self.min_confidence,
            now,
            oldest: now.checked_sub(signed(self.indicator_lookback)).unwrap_or(Timestamp::MIN),
        }
    }

    /// Returns the validity of its indicators, where `confirmed` is the last confirmation of the
    /// whole set.
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

impl From<&FeedConfig> for PrefixPolicy {
    fn from(feed: &FeedConfig) -> Self {
        Self {
            allow_private: feed.allow_private,
            min_v4: feed.min_prefix_v4,
            min_v6: feed.min_prefix_v6,
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
