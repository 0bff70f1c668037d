//! NAT mappings of connections, from the kernel's connection tracking.

pub(crate) mod client;
pub mod worker;

mod messages;
mod netns;

pub(crate) use client::{NatTracker, unavailable_reason};
