//! The TCP matrix: every way to open, accept and end a connection, each many times, between two
//! namespaces. The programs say what they did, and each end of each connection must be recorded so:
//! once, with its process, its addresses and ports, its bytes to the last one, and how it ended.

mod case;
mod claim;

/// Who connects, and how.
mod outbound;

/// Connections that fail, and those that end badly.
mod failures;

/// Whose an accepted connection is.
mod inbound;

/// TCP Fast Open.
mod fast_open;

/// MPTCP.
mod mptcp;

/// Both ends over `io_uring`.
mod uring;

/// Processes that enter a container late.
mod container;
