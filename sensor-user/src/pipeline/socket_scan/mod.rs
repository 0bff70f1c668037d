//! Socket scans: the open sockets of all network namespaces, and their owners.

mod client;
mod messages;
mod worker;

pub(crate) use client::{SocketScanConfig, SocketScanner};
pub(crate) use messages::{Scan, ScanResult};
pub(crate) use worker::serve_scans;
