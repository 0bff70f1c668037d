//! Readers of the feed formats: bytes to entries.

pub mod columns;
pub mod crowdsec;
pub mod endpoint;
pub mod entry;
pub mod json;
pub mod kind;
pub mod list;
pub mod misp;
pub mod rows;
pub mod sentinel_query;
pub mod sniff;
pub mod stix;
pub mod stix_pattern;
pub mod warninglist;
