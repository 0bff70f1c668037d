//! Replay: the same detection over recorded input.

mod recorded;

pub use recorded::RecordedChange;
