//! Kernel suite: real BPF programs and real connections, in the suite's own network namespaces.
//! Needs root; run with `--test-threads=1`, because the probes observe the whole host.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends with a panic"
)]

mod harness;

/// Every path by which a connection opens, is accepted and ends.
mod matrix;

/// Outbound connections: process, addresses and timestamps.
mod outbound;

/// Inbound connections: attributed to the worker process, not its master.
mod inbound;

/// Owners that are known late, or from other sockets.
mod attribution;

/// Listeners that the kernel gives a port.
mod listeners;

/// Connections with a NAT mapping.
mod nat;

/// Translated connections beside other traffic, and translated UDP flows.
mod nat_traffic;

/// UDP flows: one per socket and remote address, with exact counts.
mod udp;

/// Owners of UDP flows.
mod udp_owner;

/// Refused datagrams, and sockets that change their port.
mod udp_refused;

/// UDP under load, and at its table limits.
mod udp_load;

/// UDP from the datagram to alert, row and replay.
mod udp_detection;

/// Names of remote addresses, learned from DNS responses.
mod dns;

/// Process metadata, for every method of starting a process.
mod process;

/// Programs that are in no file.
mod fileless;

/// High connection rates, and the ledger.
mod load;

/// Fallbacks for probes that the kernel refuses.
mod fallback;

/// Error messages when the agent cannot run.
mod refusals;
mod reload;

/// Status and health records when probes fall silent.
mod health;
/// Connections that predate the probes.
mod preexisting;
/// Retro alerts: indicators that arrive after the connections that they match.
mod retro;

/// The stream: events in real time.
mod service;
mod stream;

mod latency;

/// Rows from real traffic.
mod rows;

/// Open connections: byte counts at each socket scan, and recovery of lost records.
mod socket_scan;

/// Delivery of alerts and rows to the sinks.
mod delivery;

/// Tables of bound ports, processes and the computer.
mod tables;
