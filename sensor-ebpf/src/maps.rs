//! Maps: names, capacities, and what each slot of the counters means.

/// Ring buffer of records: queue 1.
pub const RECORDS: &str = "RECORDS";
/// Default size of the ring, bytes. A power of two and a multiple of the page size.
pub const RECORDS_BYTES: u32 = 4 << 20;

/// Array of `struct sock` addresses: established inbound connections that no task has touched.
/// Each has a pair of slots that its address chooses; 0 is an empty slot.
pub const ACCEPT_PENDING: &str = "ACCEPT_PENDING";
/// Slots. A connection that finds both of its slots taken replaces one, which is counted: that one
/// keeps its listener as owner. A power of two.
pub const ACCEPT_PENDING_SLOTS: u32 = 65_536;

/// LRU hash from [`crate::record::FlowKey`] to [`crate::record::FlowCounts`]: the UDP flows.
pub const UDP_FLOWS: &str = "UDP_FLOWS";
/// Default number of flows at most; the least recently used leaves first.
pub const UDP_FLOWS_MAX: u32 = 65_536;

/// LRU hash from a socket cookie to [`crate::latency::ConnectionLatency`]: request and answer.
pub const LATENCY: &str = "LATENCY";
/// Connections with turns at most; the least recently used loses what was not read of it.
pub const LATENCY_MAX: u32 = 32_768;
/// Array of one `u32`: the epoch in which turns are counted, from 1; the agent begins each.
pub const LATENCY_EPOCH: &str = "LATENCY_EPOCH";
/// Array of one: how many DNS answers this second has had.
pub const DNS_BUDGET: &str = "DNS_BUDGET";
/// DNS answers that are told in a second at most (more exactly: in 2^30 ns): a flood of them must
/// neither fill the ring nor keep the agent busy. Further ones are counted.
pub const DNS_ANSWERS_PER_SECOND: u64 = 4096;

/// Array of one `u32`: 1 while the reader sleeps until a record comes; the program that sends it
/// wakes the reader and sets 0.
pub const READER_ASLEEP: &str = "READER_ASLEEP";

/// Per-CPU array of `u64`, indexed by [`LossCounter`].
pub const COUNTERS: &str = "COUNTERS";

/// Global `u32`: bytes in the ring from which on a record wakes the reader at once.
pub const WAKE_AT_BYTES: &str = "WAKE_AT_BYTES";
/// Global `u32`: 1 where the kernel has `bpf_ktime_get_coarse_ns` (5.11 and later), which costs a
/// tenth of the exact time. UDP datagrams are timed with it.
pub const COARSE_TIME: &str = "COARSE_TIME";
/// Global `u32`: offset of the register with a function's result in this machine's `struct pt_regs`;
/// [`crate::offsets::MISSING`] where it is not known.
pub const RESULT_REGISTER: &str = "RESULT_REGISTER";
/// Global `[u32; OFFSET_COUNT]`, see [`crate::offsets`].
pub const OFFSETS: &str = "OFFSETS";

/// What the kernel half counts. The ledger of a kind closes when
/// attempted = delivered + ring full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum LossCounter {
    /// TCP records that a program wanted to send.
    TcpAttempted = 0,
    /// Of these, lost because the ring was full.
    TcpRingFull = 1,
    /// Process records that a program wanted to send.
    ProcessAttempted = 2,
    /// Of these, lost because the ring was full.
    ProcessRingFull = 3,
    /// Connections that another one replaced in [`ACCEPT_PENDING`].
    AcceptPendingEvicted = 4,
    /// Kernel memory that could not be read where it must be readable.
    ReadFailed = 5,
    /// UDP records that a program wanted to send.
    UdpAttempted = 6,
    /// Of these, lost because the ring was full.
    UdpRingFull = 7,
    /// UDP datagrams of flows that did not fit in [`UDP_FLOWS`].
    UdpUncounted = 8,
    /// DNS answers that a program wanted to send.
    DnsAttempted = 9,
    /// Of these, lost because the ring was full.
    DnsRingFull = 10,
    /// DNS answers beyond [`DNS_ANSWERS_PER_SECOND`].
    DnsOverRate = 11,
}

/// Slots of [`COUNTERS`].
pub const COUNTER_COUNT: u32 = 12;
