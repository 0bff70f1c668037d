//! `CaptureConfig`: the section `[capture]` of the configuration.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of the BPF programs, and of the queries to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureConfig {
    /// Size of the ring buffer, bytes: a power of two.
    pub ring_bytes: u32,
    /// BPF object to load instead of the embedded one.
    pub object: Option<PathBuf>,
    /// BTF file to read instead of the kernel's own, [`VMLINUX_BTF`](super::VMLINUX_BTF).
    pub btf: Option<PathBuf>,
    /// Names of programs that are not attached, out of [`programs`](super::programs).
    pub disable: Vec<String>,
    /// Number of records per million that are dropped unread (`--simulate-drops`; not in the file).
    pub drops_per_million: u32,
    /// True if the kernel's connection tracking is queried for NAT mappings.
    pub conntrack: bool,
    /// Interval between socket scans.
    pub scan_interval: Duration,
    /// Maximum number of UDP flows that the kernel counts at once.
    pub udp_flows: u32,
    /// Time without a datagram after which a UDP flow ends.
    pub udp_idle_timeout: Duration,
}

impl CaptureConfig {
    /// Default size of the ring buffer: 4 MiB.
    pub const RING_BYTES: u32 = sensor_ebpf::maps::RECORDS_BYTES;
    /// Minimum size of the ring buffer: 64 KiB.
    pub const RING_BYTES_MIN: u64 = 64 << 10;
    /// Maximum size of the ring buffer: 1 GiB.
    pub const RING_BYTES_MAX: u64 = 1 << 30;
    /// Default interval between socket scans: a minute, as for rows.
    pub const SCAN_INTERVAL: Duration = Duration::from_mins(1);
    /// Default number of UDP flows: 65,536, which take about 10 MB of kernel memory.
    pub const UDP_FLOWS: u32 = sensor_ebpf::maps::UDP_FLOWS_MAX;
    /// Default idle time of a UDP flow: 60 s.
    pub const UDP_IDLE: Duration = Duration::from_mins(1);
}
