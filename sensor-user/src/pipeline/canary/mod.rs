//! The canary: two loopback connections and a short-lived child, made by the agent itself every
//! minute. What the probes do not tell of it, they do not tell of anything.
//!
//! `flight` makes them, on a thread of its own; `eye` sits in the pipeline, takes them out of the
//! output, and says which hook was silent.

mod detector;
mod emitter;

pub use detector::{CanaryDetector, Fault, Verdict};
pub use emitter::{Canary, Pair, Shared, child};
