//! Replay of recorded input: `live.rs` runs it through the detection of the live agent, `at.rs` computes the
//! result of the original rule.

pub mod at;
pub mod live;

mod blocks;
mod indicators;
mod input;
mod lists;
mod options;
mod recorded_row;
mod reject_log;
mod row_scan;
mod row_writer;
mod search;
mod stored_entries;

pub use options::{AtOptions, AtSummary, LiveOptions, LiveSummary, ReplayError, RowChecks};
