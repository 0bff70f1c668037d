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
pub use config::{FeedConfig, FeedSource};
pub use formats::columns::{Text, flag, integer, loose_time, number, parse_time, time};
pub use formats::crowdsec::read_crowdsec;
pub use formats::entry::{Collected, Content, Entries, Entry, ReadFault, ReadPolicy};

pub use feeds::{FeedFolder, FeedStatus, Intel, Kept};
pub use fetch::{FetchError, Fetcher};
pub use formats::kind::FeedKind;
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
pub use parser::merge::{Merge, Merged};
pub use parser::{Job, JobFault, Opened, Reading, read_document, run_feed_parser};
pub use pull::{Cursor, Documents, Extent, KeepError, OpenDocuments, Pulled, Validators};
pub use rejects::{Reason, Reject, Rejects};
pub use set::segment::{Segment, Validity};
pub use set::ttl::Ttl;
pub use set::{Found, IndicatorSet, SetPlace};
