//! Response latency of a TCP connection, measured at the read and write calls of its process.
//!
//! A run is a sequence of writes, or of reads, with no call in the other direction in between. A
//! run that follows one of the other direction is the response to it. Response latency is the time
//! from the end of the request run to the end of the response run: from the last byte out to the
//! last byte in, or from in to out where this host responds. A response ends when the direction
//! changes again, after [`RESPONSE_IDLE_NS`] without a call, or with the connection.
//!
//! Measured: protocols in which request and response alternate, such as HTTP/1.1 with keep-alive,
//! SMTP or a database protocol, also under TLS. Times are those of calls (`write`, `sendmsg`,
//! `read`, `io_uring` …), so they include the delay until the reader calls.
//!
//! Not measured:
//! - which of several concurrent requests a response belongs to (HTTP/2, pipelining): the
//!   directions overlap and count as a few mixed responses;
//! - messages that the peer sends unprompted: a push after an idle period is no response;
//! - data that a reader takes with `splice(2)`, MPTCP, and kernels before Linux 6.3.

use crate::record::RecordHeader;

/// Responses of one direction in one epoch; all zero without a response.
///
/// An epoch is the time between two socket scans of the agent, numbered from 1.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct LatencyCounts {
    /// Sum of the latencies, microseconds.
    pub sum_us: u64,
    /// Number of responses.
    pub count: u32,
    /// Shortest latency, microseconds.
    pub min_us: u32,
    /// Longest latency, microseconds.
    pub max_us: u32,
    /// Epoch that these counts belong to.
    pub epoch: u32,
}

/// Size of a [`LatencyCounts`], bytes.
pub const LATENCY_COUNTS_LEN: usize = 24;

/// Direction of a response: the first index of [`ConnectionLatency::counts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ResponseDirection {
    /// Sent by this host, in response to what it received.
    Sent = 0,
    /// Received by this host, in response to what it sent.
    Received = 1,
}

/// Value of the map [`crate::maps::LATENCY`], by socket cookie.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct ConnectionLatency {
    /// End of the latest run, ns since boot.
    pub run_end_ns: u64,
    /// End of the request run while the latest run is its response and not counted yet; else 0. Ns
    /// since boot.
    pub request_end_ns: u64,
    /// Counts by [`ResponseDirection`], then by the lowest bit of the epoch.
    pub counts: [[LatencyCounts; 2]; 2],
    /// Direction of the latest run: a [`ResponseDirection`] plus 1; 0 before the first run.
    pub run_direction: u32,
    /// Explicit padding, zero.
    pub padding: u32,
}

/// Size of a [`ConnectionLatency`], bytes.
pub const CONNECTION_LATENCY_LEN: usize = 120;

/// Idle time after which a response has ended, ns.
pub const RESPONSE_IDLE_NS: u64 = 1_000_000_000;

/// Response latency of a connection, emitted ahead of its close record.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct TcpLatencyRecord {
    /// Header of kind [`crate::record::RecordKind::TcpLatency`].
    pub header: RecordHeader,
    /// Socket cookie of the connection.
    pub cookie: u64,
    /// Counts, indexed as in [`ConnectionLatency`].
    pub counts: [[LatencyCounts; 2]; 2],
}

const _: () = assert!(size_of::<LatencyCounts>() == LATENCY_COUNTS_LEN);
const _: () = assert!(size_of::<ConnectionLatency>() == CONNECTION_LATENCY_LEN);
const _: () = assert!(size_of::<TcpLatencyRecord>() == 24 + 4 * LATENCY_COUNTS_LEN);
