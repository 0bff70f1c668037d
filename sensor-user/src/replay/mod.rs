//! Replay: the same detection over recorded input.

pub mod at;
pub mod live;

mod blocks;
mod indicators;
mod input;
mod reject_log;
mod rows;
mod rows_out;
mod search;

pub use at::{AtOptions, AtSummary, ReplayError};
pub use live::{LiveOptions, LiveSummary};
