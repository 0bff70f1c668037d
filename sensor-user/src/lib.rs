//! netsensor: connections from the kernel, matched on the host against threat intelligence.
//!
//! The folders are layers, top to bottom: each imports only from those below it. `cargo xtask
//! tidy` enforces the order from the list in `xtask/src/tidy/layers.rs`, which ARCHITECTURE.md shows.
#![forbid(unsafe_code)]

// The command line.
pub mod cli;

// The agent process: `run`, `record`, `self-test`.
pub mod agent;

// The configuration file.
pub mod config;

// Log, metrics, control socket, loss ledger.
pub mod telemetry;

// Recorded input, and delivery to sinks.
pub mod replay;

pub mod deliver;

// The data path: kernel records to alerts.
pub mod pipeline;

// Threat intelligence feeds, and facts about this host.
pub mod intel;

pub mod inventory;

// Worker processes and their sandbox.
pub mod privsep;

// HTTP clients.
pub mod http;

// Tables, row types, events.
pub mod schema;

// Clock, counters, collections, escapes.
pub mod base;
