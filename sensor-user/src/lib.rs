//! netsensor: connections from the kernel, matched on the host against threat intelligence.
//!
//! The modules are listed in the order of the data path; `pipeline` calls them in that order and
//! ARCHITECTURE.md has the same order as a table.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod capture;
pub mod decode;
pub mod dedup;
pub mod deliver;
pub mod enrich;
pub mod intel;
pub mod matcher;

pub mod pipeline;
pub mod replay;

pub mod cli;
pub mod clock;
pub mod config;
pub mod stable_id;
pub mod stats;
