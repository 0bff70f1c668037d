//! Socket scans: the open sockets of all network namespaces.

pub mod client;
pub mod worker;
