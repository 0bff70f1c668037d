//! Socket scans: the open sockets of all network namespaces, and their owners.

pub(crate) mod client;
pub mod worker;

mod messages;

pub use client::SocketScanConfig;
pub(crate) use client::SocketScanner;
pub(crate) use messages::{Scan, ScanResult};
