//! The TCP matrix: every path by which a connection opens, is accepted and ends, many times each,
//! between two namespaces. The programs report their connections. Each end of each connection must
//! be recorded exactly once, with its process, addresses, ports, exact byte counts, and its end.

mod case;
mod expectation;

mod outbound;

/// Failed and aborted connections.
mod failures;

/// Owners of accepted connections.
mod inbound;

mod fast_open;

mod mptcp;

/// Both ends over `io_uring`.
mod uring;

/// Processes that are moved into a container after they start.
mod container;
