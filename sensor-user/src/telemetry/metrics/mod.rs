//! Metrics: what the agent counts and measures of itself, for Prometheus, over HTTP/1.1 on a unix
//! socket or a loopback address (`[metrics]`; off unless set).
//!
//! Invariants. The pipeline never waits: a page is made of what it told last, once a second at most.
//! Callers are bounded in number, bytes and time, and a new one always gets its turn: the one that
//! has been there for longest leaves. Names are fixed; label values come from the configuration and
//! from short lists, never from traffic or feeds.

mod counters;
mod page;
mod process;
mod server;
mod text;

pub use page::{Vitals, page};
pub use process::{ProcessVitals, WorkerVitals};
pub use server::{Exporter, Listen, MetricsConfig, MetricsError};
pub use text::Format;

#[cfg(test)]
mod tests;
