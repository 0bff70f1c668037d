//! Enrich: Record to Event.
mod facts;
pub use facts::Process;
