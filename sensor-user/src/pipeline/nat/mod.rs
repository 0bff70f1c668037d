//! NAT mappings of connections, from the kernel's connection tracking.

mod client;
mod messages;
mod netns;
mod worker;

pub(crate) use client::{NatTracker, unavailable_reason};
pub(crate) use worker::serve_nat_lookups;
