//! Threat intelligence: feeds are pulled, parsed and merged into one immutable `IndicatorSet`.
//!
//! Feed content is hostile input: its size is bounded, every entry that cannot be used is counted
//! with its position and reason, and after a failed pull the last good set stays in use.

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

pub use address::{PrefixPolicy, canonical, host, is_special, parse_prefix};
pub use config::query::{CrowdSecQuery, FeedQuery, MispQuery, TaxiiQuery, WorkspaceQuery};
pub use config::{FeedConfig, FeedSource};
pub use feeds::{FeedFolder, FeedStatus, Intel};
pub use fetch::{FetchError, Fetcher, PullProgress};
pub use formats::columns::{JsonStr, Lenient, integer, parse_time};
pub use formats::crowdsec::read_crowdsec;
pub use formats::entry::{
    CollectedEntries, EntryContent, EntrySink, FeedEntry, ReadError, ReadPolicy,
};
pub use formats::kind::FeedKind;
pub use formats::list::{ListField, ListFormat, ListShape, PRESETS, preset, read_list};
pub use formats::misp::read_misp;
pub use formats::rows::{REPLY_HEAD_BYTES, RowReader, read_rows, table_reply};
pub use formats::sentinel_query::read_sentinel_query;
pub use formats::sniff::sniff;
pub use formats::stix::read_stix;
pub use formats::stix_pattern::{PatternAddresses, SufficientPrefix, read_pattern};
pub use formats::warninglist::{AllowedNetworks, read_allowed, read_networks};
pub use formats::{DocumentFormat, read_document};
pub use indicator::{Indicator, PortRange, Ports};
pub(crate) use parser::applied::hash as id_hash;
pub use parser::merge::{Merge, MergeSummary};
pub use parser::{JobError, OpenedJob, ParseJob, ParserMode, run_feed_parser};
pub use pull::{Cursor, Documents, DocumentsError, Extent, OpenDocuments, PullOutcome, Validators};
pub use rejects::{Reject, RejectReason, Rejects};
pub use set::IndicatorSet;
pub(crate) use set::memory::MemorySegment;
pub use set::segment::{FeedSegment, Validity};
pub use set::ttl::Ttl;
