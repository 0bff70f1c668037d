//! The only writer of the ring. It reserves, fills and submits a record, or counts the loss.
//!
//! Ring buffer: `Documentation/bpf/ringbuf.rst`, `kernel/bpf/ringbuf.c`, v5.8 and later. Helpers:
//! `bpf-helpers(7)`.

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use aya_ebpf::helpers::{bpf_ringbuf_output, bpf_ringbuf_query};
use sensor_ebpf::maps::LossCounter;
use sensor_ebpf::record::{RecordHeader, RecordKind};

use crate::globals::{
    RECORDS, count, count_up, has_coarse_time, take_reader_asleep, wake_at_bytes,
};

/// Flags of the ring buffer helpers: `include/uapi/linux/bpf.h`.
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// Ledger of a record kind: attempted records and those that did not fit are counted for each.
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

/// Returns a header for a record of type `T`.
#[inline(always)]
pub(crate) fn header<T>(kind: RecordKind, detail: u32) -> RecordHeader {
    RecordHeader { kind: kind as u16, len: size_of::<T>() as u16, detail, boot_ns: boot_ns() }
}

/// Time since boot, suspend included, ns (`CLOCK_BOOTTIME`, `clock_gettime(2)`).
#[inline(always)]
pub(crate) fn boot_ns() -> u64 {
    // SAFETY: a helper without arguments or preconditions (kernel 5.8 and later).
    unsafe { aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns() }
}

/// Time of `CLOCK_MONOTONIC`, ns, from the cheapest helper of this kernel.
#[inline(always)]
pub(crate) fn monotonic_ns() -> u64 {
    // SAFETY: helpers without arguments or preconditions. The verifier knows the global's value and
    // skips the dead branch, so a kernel before 5.11 never sees the helper that it lacks.
    unsafe { if has_coarse_time() { bpf_ktime_get_coarse_ns() } else { bpf_ktime_get_ns() } }
}

/// Submits a record of fixed size; returns false if the ring was full. `fill` must write all of it.
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

/// Submits a record like [`try_record`], for callers with no fallback: a lost record is only
/// counted.
///
/// A closure that uses a structure of the caller must be `move`. A reference leaves a forward
/// declaration in BTF, and LLVM writes several of these in an order that differs between builds.
#[inline(always)]
pub(crate) fn record<T: 'static>(ledger: Ledger, fill: impl FnOnce(*mut T)) {
    let _counted = try_record(ledger, fill);
}

/// Copies `len` bytes from `start` to the ring.
///
/// # Safety
///
/// `start` must be readable for `len` bytes, and the verifier must know a bound of `len`.
#[inline(always)]
pub(crate) unsafe fn bytes(ledger: Ledger, start: *mut u8, len: usize) {
    let attempted = count_up(ledger.attempted());
    let ring = (&raw const RECORDS).cast_mut().cast();
    // SAFETY: the caller's contract; the map pointer is that of a ring buffer.
    let result =
        unsafe { bpf_ringbuf_output(ring, start.cast(), len as u64, wake_flags(attempted)) };
    if result != 0 {
        count(ledger.ring_full());
    }
}

/// Returns the wake-up flags of the record that is number `attempted` of its ledger on this CPU.
///
/// A wake-up costs more than the record. While there is traffic, the reader drains the ring on a
/// timer, and a wake-up is needed only if the ring fills faster than that. After an idle period the
/// reader sleeps, and the first record wakes it. Only every eighth record of a CPU queries the fill
/// level: a query takes 20 ns, and eight records are a small part of the wake-up threshold.
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
