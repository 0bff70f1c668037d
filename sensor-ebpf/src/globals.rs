//! Maps shared by several programs, and the globals that the agent sets at load.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use sensor_ebpf::maps::{COUNTER_COUNT, LossCounter, RECORDS_BYTES};
use sensor_ebpf::offsets::{MISSING, OFFSET_COUNT, Offset};

#[map]
pub(crate) static RECORDS: RingBuf = RingBuf::with_byte_size(RECORDS_BYTES, 0);

#[map]
static READER_ASLEEP: Array<u32> = Array::with_max_entries(1, 0);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

#[unsafe(no_mangle)]
static OFFSETS: [u32; OFFSET_COUNT] = [MISSING; OFFSET_COUNT];

#[unsafe(no_mangle)]
static WAKE_AT_BYTES: u32 = RECORDS_BYTES / 4;

#[unsafe(no_mangle)]
static COARSE_TIME: u32 = 0;

#[unsafe(no_mangle)]
static TRACING_COOKIE: u32 = 0;

#[unsafe(no_mangle)]
static RESULT_REGISTER: u32 = MISSING;

/// Returns the offset of a member, or `None` if this kernel lacks it.
#[inline(always)]
pub(crate) fn offset(member: Offset) -> Option<usize> {
    // SAFETY: `Offset` has OFFSET_COUNT variants, numbered from 0, so the element exists. The read
    // is volatile because the agent overwrites the value at load, which the compiler cannot know.
    let value = unsafe { core::ptr::read_volatile(OFFSETS.as_ptr().add(member as usize)) };
    if value == MISSING { None } else { Some(value as usize) }
}

/// Fill level of the ring, in bytes, from which a record wakes the reader.
#[inline(always)]
pub(crate) fn wake_at_bytes() -> u64 {
    // SAFETY: a static; volatile for the reason given in `offset`.
    u64::from(unsafe { core::ptr::read_volatile(&raw const WAKE_AT_BYTES) })
}

/// Offset of the return value's register in `struct pt_regs`, if known. A global, because the same
/// object runs on every architecture.
#[inline(always)]
pub(crate) fn result_register() -> Option<usize> {
    // SAFETY: a static; volatile for the reason given in `offset`.
    let value = unsafe { core::ptr::read_volatile(&raw const RESULT_REGISTER) };
    if value == MISSING { None } else { Some(value as usize) }
}

/// True if this kernel has `bpf_ktime_get_coarse_ns` (5.11).
#[inline(always)]
pub(crate) fn has_coarse_time() -> bool {
    // SAFETY: a static; volatile for the reason given in `offset`.
    unsafe { core::ptr::read_volatile(&raw const COARSE_TIME) != 0 }
}

/// True if tracing programs of this kernel have `bpf_get_socket_cookie` (5.12).
#[inline(always)]
pub(crate) fn has_tracing_cookie() -> bool {
    // SAFETY: a static; volatile for the reason given in `offset`.
    unsafe { core::ptr::read_volatile(&raw const TRACING_COOKIE) != 0 }
}

/// Clears the sleep flag of the reader and returns its previous value. If true, the caller must
/// wake the reader.
#[inline(always)]
pub(crate) fn take_reader_asleep() -> bool {
    let Some(asleep) = READER_ASLEEP.get_ptr_mut(0) else { return false };
    // SAFETY: `asleep` points to the array's u32, aligned, valid for the program's life. Another
    // CPU or the agent may write it concurrently: the value is 0 or 1 either way, and at worst the
    // reader is woken twice.
    unsafe {
        let taken = asleep.read_volatile() != 0;
        if taken {
            asleep.write_volatile(0);
        }
        taken
    }
}

/// Increments a counter of this CPU.
#[inline(always)]
pub(crate) fn count(counter: LossCounter) {
    let _value = count_up(counter);
}

/// Increments a counter of this CPU and returns its value.
#[inline(always)]
pub(crate) fn count_up(counter: LossCounter) -> u64 {
    let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) else { return 0 };
    // SAFETY: `slot` points to this CPU's u64 in the array, aligned, valid for the program's life.
    // Atomic, because a program in softirq may interrupt one in process context on the same CPU,
    // and the ledger must balance to the last record. The value read may be that of a later
    // increment, which the callers tolerate.
    unsafe {
        add(slot, 1);
        slot.read_volatile()
    }
}

/// Adds to a number that other programs add to concurrently; wraps on overflow.
///
/// # Safety
///
/// `slot` must be in a map value, aligned to 8, and valid.
#[inline(always)]
pub(crate) unsafe fn add(slot: *mut u64, value: u64) {
    // SAFETY: one instruction, on memory that is valid by the caller's contract.
    unsafe {
        core::arch::asm!("lock *(u64 *)({slot} + 0) += {value}", slot = in(reg) slot, value = in(reg) value);
    }
}
