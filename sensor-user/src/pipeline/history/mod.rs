//! History: the connections of the look-back by remote address, for indicators that come later.
//!
//! Invariants. What is asked for is kept on disk, and memory holds a few numbers a kind of
//! connection (process, remote end and service). At most `max_entries` of these and
//! `max_bytes` of files are kept; what does not fit leaves oldest first, a segment at a time, and
//! is counted. Every connection within the look-back is in it once, with the indicators that it was
//! a hit of, so that no hit is told twice, also after a kill -9: what was observed is written as soon
//! as what it raised is, in the next turn of the pipeline. It is not synced: power loss may take its end.

mod entry;
mod index_entry;
mod log;
mod retro_match;
mod size;
mod table;

pub use retro_match::Retro;
pub use table::{History, HistoryConfig};

#[cfg(test)]
mod tests;
