//! The kernel half on the real kernel: real programs, real connections, in network namespaces of
//! the suite's own. Needs root; run with `--test-threads=1`, since the probes see the whole host.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends with a panic"
)]

mod harness;

/// Every way to open, accept and end a connection.
mod matrix;

/// Outbound connections: who, where, when.
mod outbound;

/// Inbound connections: the worker, not its master.
mod inbound;

/// Connections that the kernel translates.
mod nat;
/// UDP flows: one for each socket and remote end, with exact counts.
mod udp;

/// Whose a UDP flow is.
mod udp_owner;

/// UDP under load, and at the limits of its tables.
mod udp_load;

/// From a datagram to alert, row and replay.
mod udp_detection;

/// Names of remote addresses, as DNS told them.
mod dns;

/// What is known of a process, however it was started.
mod process;

/// Many connections, and the ledger.
mod load;

/// What stands in where a probe is refused.
mod fallback;

/// What the agent says when it cannot run.
mod refusals;
mod reload;

/// What the agent says when its probes fall silent.
mod health;
/// Indicators that come after the connections that they name.
mod look_back;
/// What was open before, and what lives on.
mod preexisting;

/// Lines as they happen.
mod service;
mod stream;

/// Request and answer.
mod turns;

/// Rows of real traffic.
mod rows;

/// What lives on: bytes at each look, and what the ring lost.
mod lives_on;

/// From alert and row to the sinks.
mod delivery;

/// Bound ports, processes, the computer.
mod tables;
