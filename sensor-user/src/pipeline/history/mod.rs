//! History: connections of the look-back period, for indicators that arrive later.
//!
//! The history stores connections on disk by entry: the process, the remote address and the service
//! that they have in common. Memory holds an index of some numbers per entry.
//!
//! Invariants:
//!
//! - There are at most `max_entries` entries and `max_bytes` bytes of files. Above these limits the
//!   oldest segment is evicted, and its entries are counted.
//! - Each connection within the look-back period is recorded once, with the indicators that it
//!   matched, so that no hit is reported twice, also after a kill -9: records are written as soon as
//!   the alerts of the same iteration are, in the next iteration of the pipeline.
//! - Files are not synced: power loss may take their end.

mod correct;
mod entry;
mod index_entry;
mod log;
mod restart;
mod retro_match;
mod table;

pub use retro_match::RetroMatch;
pub use table::{History, HistoryConfig};

#[cfg(test)]
mod tests;
