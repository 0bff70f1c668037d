//! Set of inbound connections that have no owner yet: no task has accepted, read or written them.
//! Of MPTCP connections it has the MPTCP socket beside the subflows.
//!
//! The address of a socket selects two slots of an array. An array takes a tenth of the time of a
//! hash map, whose insert and delete were a fifth of the cost of monitoring a connection. A race of
//! two CPUs for a slot loses at most one entry, like an eviction: that connection keeps its
//! listener as owner. Map type: `Documentation/bpf/map_array.rst`.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use sensor_ebpf::maps::{ACCEPT_PENDING_SLOTS, LossCounter};

use crate::globals::count;

#[map]
static ACCEPT_PENDING: Array<u64> = Array::with_max_entries(ACCEPT_PENDING_SLOTS, 0);

const EMPTY: u64 = 0;

/// Adds `sk` to the set.
#[inline(always)]
pub(crate) fn add(sk: u64) {
    let (Some(first), Some(second)) = slots(sk) else { return };
    // SAFETY: both point to values of the array, aligned, valid for the program's life.
    unsafe {
        if first.read_volatile() == EMPTY {
            first.write_volatile(sk);
            return;
        }
        if second.read_volatile() != EMPTY {
            count(LossCounter::AcceptPendingEvicted);
        }
        second.write_volatile(sk);
    }
}

/// True if `sk` is in the set.
#[inline(always)]
pub(crate) fn contains(sk: u64) -> bool {
    let (Some(first), Some(second)) = slots(sk) else { return false };
    // SAFETY: as in `add`.
    unsafe { first.read_volatile() == sk || second.read_volatile() == sk }
}

/// Removes `sk` from the set; returns true if it was present.
#[inline(always)]
pub(crate) fn take(sk: u64) -> bool {
    let (Some(first), Some(second)) = slots(sk) else { return false };
    // SAFETY: as in `add`.
    unsafe {
        let slot = if first.read_volatile() == sk {
            first
        } else if second.read_volatile() == sk {
            second
        } else {
            return false;
        };
        slot.write_volatile(EMPTY);
    }
    true
}

/// Returns the two slots of `sk`, which are adjacent so that they share a cache line.
#[inline(always)]
fn slots(sk: u64) -> (Option<*mut u64>, Option<*mut u64>) {
    // Sockets come from a slab, so the low bits of their addresses are equal.
    let hash = (sk >> 6) ^ (sk >> 22);
    let first = hash as u32 & (ACCEPT_PENDING_SLOTS - 1);
    (ACCEPT_PENDING.get_ptr_mut(first), ACCEPT_PENDING.get_ptr_mut(first ^ 1))
}
