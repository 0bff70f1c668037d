//! The only writer of the ring: reserve, fill, submit; or count the loss.

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use aya_ebpf::helpers::{bpf_ringbuf_output, bpf_ringbuf_query};
use sensor_ebpf::maps::LossCounter;
use sensor_ebpf::record::{RecordHeader, RecordKind};

use crate::globals::{
    RECORDS, count, count_up, has_coarse_time, take_reader_asleep, wake_at_bytes,
};

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// The ledgers: what is attempted and what finds no room is counted for each.
#[derive(Clone, Copy)]
pub(crate) enum Ledger {
    Tcp,
    Process,
    Udp,
    Dns,
}

impl Ledger {
    #[inline(always)]
    const fn attempted(self) -> LossCounter {
        match self {
            Self::Tcp => LossCounter::TcpAttempted,
            Self::Process => LossCounter::ProcessAttempted,
            Self::Udp => LossCounter::UdpAttempted,
            Self::Dns => LossCounter::DnsAttempted,
        }
    }

    #[inline(always)]
    const fn ring_full(self) -> LossCounter {
        match self {
            Self::Tcp => LossCounter::TcpRingFull,
            Self::Process => LossCounter::ProcessRingFull,
            Self::Udp => LossCounter::UdpRingFull,
            Self::Dns => LossCounter::DnsRingFull,
        }
    }
}

/// A header for a record of type `T`.
#[inline(always)]
pub(crate) fn header<T>(kind: RecordKind, detail: u32) -> RecordHeader {
    RecordHeader { kind: kind as u16, len: size_of::<T>() as u16, detail, boot_ns: boot_ns() }
}

/// ns since boot, suspend included.
#[inline(always)]
pub(crate) fn boot_ns() -> u64 {
    // SAFETY: a helper without arguments or preconditions (kernel 5.8 and later).
    unsafe { aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns() }
}

/// ns of `CLOCK_MONOTONIC`, as cheaply as this kernel has it.
#[inline(always)]
pub(crate) fn monotonic_ns() -> u64 {
    // SAFETY: helpers without arguments or preconditions. The verifier knows the global's value and
    // does not look at the branch of the helper that a kernel before 5.11 has not.
    unsafe { if has_coarse_time() { bpf_ktime_get_coarse_ns() } else { bpf_ktime_get_ns() } }
}

/// Puts a record of fixed size on the ring; says whether there was room. `fill` writes all of it.
#[inline(always)]
pub(crate) fn try_record<T: 'static>(ledger: Ledger, fill: impl FnOnce(*mut T)) -> bool {
    let attempted = count_up(ledger.attempted());
    match RECORDS.reserve::<T>(0) {
        Some(mut entry) => {
            fill(entry.as_mut_ptr());
            entry.submit(wake_flags(attempted));
            true
        }
        None => {
            count(ledger.ring_full());
            false
        }
    }
}

/// As [`try_record`], for a record that nothing is done about when it is lost.
///
/// A closure that uses a structure of the caller's must be `move`: a reference to one leaves a mere
/// declaration in BTF, and several of these come in an order that changes from build to build.
#[inline(always)]
pub(crate) fn record<T: 'static>(ledger: Ledger, fill: impl FnOnce(*mut T)) {
    let _counted = try_record(ledger, fill);
}

/// Puts `len` bytes from `start` on the ring.
///
/// # Safety
///
/// `start` must be readable for `len` bytes, and the verifier must see a bound on `len`.
#[inline(always)]
pub(crate) unsafe fn bytes(ledger: Ledger, start: *mut u8, len: usize) {
    let attempted = count_up(ledger.attempted());
    let ring = (&raw const RECORDS).cast_mut().cast();
    // SAFETY: the caller's promise; the map pointer is that of a ring buffer.
    let result =
        unsafe { bpf_ringbuf_output(ring, start.cast(), len as u64, wake_flags(attempted)) };
    if result != 0 {
        count(ledger.ring_full());
    }
}

/// A wake-up costs more than the record: while there is traffic the reader drains on a timer, and
/// is woken only when the ring fills faster than that. When there was none for a while it sleeps,
/// and the first record wakes it. How full the ring is, every eighth record of a CPU asks
/// (`attempted` is its number): asking costs 20 ns, and eight are a small part of the mark.
#[inline(always)]
fn wake_flags(attempted: u64) -> u64 {
    if take_reader_asleep() {
        return BPF_RB_FORCE_WAKEUP;
    }
    if attempted % 8 != 0 {
        return BPF_RB_NO_WAKEUP;
    }
    let ring = (&raw const RECORDS).cast_mut().cast();
    // SAFETY: the map pointer is that of a ring buffer; the helper only reads.
    let waiting = unsafe { bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) };
    if waiting >= wake_at_bytes() { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }
}
