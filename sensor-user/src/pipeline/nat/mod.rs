//! NAT mappings of connections, from the kernel's connection tracking.

pub mod client;
pub mod netns;
pub mod worker;
