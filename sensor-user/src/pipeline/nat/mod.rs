//! NAT mappings of connections, from the kernel's connection tracking.

mod connections;
mod lookup_thread;
mod messages;
mod netns;
mod schedule;
mod tracker;
mod udp_flow;
mod worker;

pub(crate) use tracker::{NatState, NatTracker, unavailable_reason};
pub(crate) use worker::serve_nat_lookups;

#[cfg(test)]
mod tests;
