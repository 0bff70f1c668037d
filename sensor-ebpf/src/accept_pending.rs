//! Which inbound connections wait for a task that touches them.
//!
//! Two slots for each socket, chosen by its address: an array costs a tenth of a hash map, whose
//! insert and delete were a fifth of what watching a connection cost. A race of two CPUs for one
//! slot loses one mark at worst, as an eviction does: that connection keeps its listener as owner.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use sensor_ebpf::maps::{ACCEPT_PENDING_SLOTS, LossCounter};

use crate::globals::count;

#[map]
static ACCEPT_PENDING: Array<u64> = Array::with_max_entries(ACCEPT_PENDING_SLOTS, 0);

const EMPTY: u64 = 0;

/// Marks `sk` as waiting.
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

/// Whether `sk` waits.
#[inline(always)]
pub(crate) fn contains(sk: u64) -> bool {
    let (Some(first), Some(second)) = slots(sk) else { return false };
    // SAFETY: as in `add`.
    unsafe { first.read_volatile() == sk || second.read_volatile() == sk }
}

/// Ends the wait of `sk`; says whether it waited.
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

/// The pair of `sk`: neighbours, so that both are in one cache line.
#[inline(always)]
fn slots(sk: u64) -> (Option<*mut u64>, Option<*mut u64>) {
    // Sockets come from a slab: the low bits of their addresses are equal.
    let hash = (sk >> 6) ^ (sk >> 22);
    let first = hash as u32 & (ACCEPT_PENDING_SLOTS - 1);
    (ACCEPT_PENDING.get_ptr_mut(first), ACCEPT_PENDING.get_ptr_mut(first ^ 1))
}
