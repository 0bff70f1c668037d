//! Truth suite: real programs talk in the suite's own network namespaces. For each connection, the
//! recorded ends, bytes, directions and owners must equal the packets that tcpdump captures and what
//! the programs log. Needs root; run with `--test-threads=1`. A program that is missing skips its test.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends with a panic"
)]

/// One test's namespace, programs, capture and recording.
mod lab;

/// Connections as they were on the wire.
mod wire;

/// Ends of connections as the agent records them.
mod ends;

/// Rows and alerts of a recording.
mod tables;

mod activation;
mod chrony;
mod dns;
mod haproxy;
mod iperf;
mod nginx;
mod podman;
mod postgres;
mod redis;
mod ssh;
