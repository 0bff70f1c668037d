//! netsensor: connections from the kernel, matched on the host against threat intelligence.
//!
//! The stages stand in the order of the data path (each in a group of its own, so that rustfmt
//! keeps the order); `pipeline` calls them in that order and ARCHITECTURE.md tabulates it.
#![forbid(unsafe_code)]

// Ring to bytes.
pub mod capture;

// Bytes to Record.
pub mod decode;

// Record to Event.
pub mod enrich;

// Event to Flow and Row.
pub mod aggregate;

// Feeds to IndicatorSet.
pub mod intel;

// Flow to Hit.
pub mod matcher;

/// The connections of the look-back, for indicators that come later.
pub mod history;

// Hit to Alert.
pub mod dedup;

// Alert and Row to the sinks.
pub mod deliver;

// All of it, wired: live, and over recorded input.
pub mod pipeline;
pub mod replay;

// What all of them use.
mod bounded;
pub mod canary;
pub mod cli;
pub mod clock;
pub mod columnar;
pub mod commands;
pub mod config;
pub mod confine;
pub mod control;
pub mod error_chain;
pub mod health;
pub mod helpers;
pub mod inventory;
pub mod lines;
pub mod log;
pub mod manual;
pub mod metrics;
pub mod notice;
pub mod progress;
pub mod schema;
pub mod service;
pub mod stable_id;
mod stamp;
pub mod state;
pub mod stats;
pub mod tls;
pub mod web;
