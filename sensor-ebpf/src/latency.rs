//! ConnectionLatency: request and answer on a TCP connection, as its process sees them.
//!
//! A run is what one end writes, or reads, without the other way between. Where a run follows one of
//! the other way it answers it: the time of the answer is from the end of the one run to the end of
//! the other (the last byte out to the last byte in, or in to out where this end answers). An answer
//! is over when the way changes again, after [`RESPONSE_IDLE_NS`], or with the connection.
//!
//! What it can see: protocols that take turns, such as HTTP/1.1 with keep-alive, SMTP or a database's,
//! also under TLS. Ends are those of calls (`write`, `sendmsg`, `read`, `io_uring` …): a time includes
//! how long the reader took to come for the answer. What it cannot: which answer belongs to which of
//! several requests under way (`HTTP/2`, pipelining: the two ways overlap and count as few, mixed
//! turns), what the other end does for itself (a push after silence is no answer), splice to a
//! socket's reader, MPTCP, and anything before Linux 6.3.

use crate::record::RecordHeader;

/// Answers of one direction in one epoch; all zero for none.
///
/// An epoch is the time between two looks of the agent, numbered from 1.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct LatencyCounts {
    /// Sum of their times, microseconds.
    pub sum_us: u64,
    /// Answers.
    pub count: u32,
    /// The shortest, microseconds.
    pub min_us: u32,
    /// The longest, microseconds.
    pub max_us: u32,
    /// The epoch.
    pub epoch: u32,
}

/// Bytes of a [`LatencyCounts`].
pub const LATENCY_COUNTS_LEN: usize = 24;

/// Which way an answer went: the first index of [`ConnectionLatency::counts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ResponseDirection {
    /// This end answered what it had received.
    Sent = 0,
    /// The other end answered what it had been sent.
    Received = 1,
}

/// Value of the map of turns, by socket cookie.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ConnectionLatency {
    /// End of the latest run (reads, or writes, one after the other), ns since boot.
    pub run_end_ns: u64,
    /// End of the run before, if what runs now answers it and is not counted yet; else 0.
    pub request_end_ns: u64,
    /// By [`ResponseDirection`], then by the lowest bit of the epoch.
    pub counts: [[LatencyCounts; 2]; 2],
    /// An [`ResponseDirection`] plus 1: which way the latest run goes; 0 before the first.
    pub run_direction: u32,
    /// Padding.
    pub padding: u32,
}

/// Bytes of a [`ConnectionLatency`].
pub const CONNECTION_LATENCY_LEN: usize = 120;

/// An answer is over after so much silence, ns.
pub const RESPONSE_IDLE_NS: u64 = 1_000_000_000;

/// The turns of a connection that ends.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct TcpLatencyRecord {
    /// Header.
    pub header: RecordHeader,
    /// Socket cookie.
    pub cookie: u64,
    /// As in [`ConnectionLatency`].
    pub counts: [[LatencyCounts; 2]; 2],
}

const _: () = assert!(size_of::<LatencyCounts>() == LATENCY_COUNTS_LEN);
const _: () = assert!(size_of::<ConnectionLatency>() == CONNECTION_LATENCY_LEN);
const _: () = assert!(size_of::<TcpLatencyRecord>() == 24 + 4 * LATENCY_COUNTS_LEN);
