//! Maps and globals of the BPF object: names, capacities and counter slots.
//!
//! Map types: `Documentation/bpf/maps.rst` in the kernel source.

/// `BPF_MAP_TYPE_RINGBUF` of records: queue 1. See `Documentation/bpf/ringbuf.rst`.
pub const RECORDS: &str = "RECORDS";
/// Default size of the ring, bytes. A power of two and a multiple of the page size.
pub const RECORDS_BYTES: u32 = 4 << 20;

/// Array of `struct sock` addresses: established inbound connections without an owner yet. The
/// address of a socket selects a pair of slots; 0 is an empty slot.
pub const ACCEPT_PENDING: &str = "ACCEPT_PENDING";
/// Number of slots, a power of two. A connection whose two slots are taken replaces another, which
/// then keeps its listener as owner and is counted.
pub const ACCEPT_PENDING_SLOTS: u32 = 65_536;

/// LRU hash of UDP flows, from [`crate::record::FlowKey`] to [`crate::record::FlowCounts`].
pub const UDP_FLOWS: &str = "UDP_FLOWS";
/// Default maximum number of flows; the least recently used is evicted.
pub const UDP_FLOWS_MAX: u32 = 65_536;

/// LRU hash of response latency, from a socket cookie to [`crate::latency::ConnectionLatency`].
pub const LATENCY: &str = "LATENCY";
/// Maximum number of connections in [`LATENCY`]; the least recently used loses its unread counts.
pub const LATENCY_MAX: u32 = 32_768;
/// Array of one `u32`: the epoch in which responses are counted, from 1. The agent begins each.
pub const LATENCY_EPOCH: &str = "LATENCY_EPOCH";

/// Array with one element: the number of DNS answers in the current second.
pub const DNS_BUDGET: &str = "DNS_BUDGET";
/// Maximum number of DNS answers emitted per second (exactly: per 2^30 ns); more are counted. The
/// limit keeps a flood from filling the ring and from loading the agent.
pub const DNS_ANSWERS_PER_SECOND: u64 = 4096;

/// Array of one `u32`: 1 while the reader sleeps until the next record. The program that submits
/// that record wakes the reader and sets 0.
pub const READER_ASLEEP: &str = "READER_ASLEEP";

/// Per-CPU array of `u64`, indexed by [`LossCounter`].
pub const COUNTERS: &str = "COUNTERS";

/// Global `u32`: fill level of the ring, in bytes, from which a record wakes the reader at once.
pub const WAKE_AT_BYTES: &str = "WAKE_AT_BYTES";
/// Global `u32`: 1 where the kernel has `bpf_ktime_get_coarse_ns` (5.11 and later), which takes a
/// tenth of the time of `bpf_ktime_get_ns`. UDP datagrams are timestamped with it.
pub const COARSE_TIME: &str = "COARSE_TIME";
/// Global `u32`: 1 where tracing programs have `bpf_get_socket_cookie` (5.12 and later).
pub const TRACING_COOKIE: &str = "TRACING_COOKIE";
/// Global `u32`: offset of the return value's register in this machine's `struct pt_regs`;
/// [`crate::offsets::MISSING`] where it is unknown.
pub const RESULT_REGISTER: &str = "RESULT_REGISTER";
/// Global `[u32; OFFSET_COUNT]`, see [`crate::offsets`].
pub const OFFSETS: &str = "OFFSETS";

/// Counters of the BPF programs. The ledger of a record kind balances when
/// attempted = delivered + ring full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum LossCounter {
    /// TCP records that a program attempted to submit.
    TcpAttempted = 0,
    /// TCP records lost because the ring was full.
    TcpRingFull = 1,
    /// Process records that a program attempted to submit.
    ProcessAttempted = 2,
    /// Process records lost because the ring was full.
    ProcessRingFull = 3,
    /// Connections that another one replaced in [`ACCEPT_PENDING`].
    AcceptPendingEvicted = 4,
    /// Failed reads of kernel memory that must be readable.
    ReadFailed = 5,
    /// UDP records that a program attempted to submit.
    UdpAttempted = 6,
    /// UDP records lost because the ring was full.
    UdpRingFull = 7,
    /// UDP datagrams of flows that did not fit in [`UDP_FLOWS`].
    UdpUncounted = 8,
    /// DNS answers that a program attempted to submit.
    DnsAttempted = 9,
    /// DNS answers lost because the ring was full.
    DnsRingFull = 10,
    /// DNS answers beyond [`DNS_ANSWERS_PER_SECOND`].
    DnsOverRate = 11,
}

/// Number of slots of [`COUNTERS`].
pub const COUNTER_COUNT: u32 = 12;
