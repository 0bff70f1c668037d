//! Base: clock, counters, bounded collections, escaping, lines, text input, framing, progress, stable
//! ids.

pub mod array_lines;
pub mod clock;
pub mod collections;
pub mod community_id;
pub mod counters;
pub mod environment;
pub mod error_chain;
pub mod escape;
pub mod framing;
pub(crate) mod io;
pub mod json_text;
pub mod lines;
pub mod log_throttle;
pub mod memory_limit;
pub mod proc_stat;
pub mod proc_threads;
pub mod progress;
pub mod protocol;
pub(crate) mod regular_file;
pub mod serde_time;
pub mod stable_id;
pub mod text_input;
