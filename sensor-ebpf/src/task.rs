//! Who: ids and name of a task.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_task,
};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_probe_read_kernel};
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::{COMM_LEN, TaskIds};

use crate::globals::offset;

/// No task: for records that are made in softirq.
///
/// # Safety
///
/// `ids` must be writable; every field is written.
#[inline(always)]
pub(crate) unsafe fn fill_nobody(ids: *mut TaskIds) {
    // SAFETY: the caller's promise.
    unsafe {
        (*ids).tgid = 0;
        (*ids).tid = 0;
        (*ids).start_boot_ns = 0;
        (*ids).uid = u32::MAX;
        (*ids).parent_tgid = 0;
        (*ids).cgroup_id = 0;
        fill_no_name(ids);
    }
}

/// Writes the empty name, in words: BPF has no unaligned stores, and what the compiler only knows
/// to be bytes it clears byte by byte.
///
/// # Safety
///
/// `ids` must be writable and aligned.
#[inline(always)]
unsafe fn fill_no_name(ids: *mut TaskIds) {
    // SAFETY: the caller's promise; `comm` is at a multiple of 8 in an 8-byte aligned structure.
    unsafe { (&raw mut (*ids).comm).cast::<[u64; COMM_LEN / 8]>().write([0; COMM_LEN / 8]) };
}

/// The current task. Call it only where the current task is the one that acts.
///
/// # Safety
///
/// `ids` must be writable; every field is written. It is filled in place: two copies of it do not
/// fit on the stack of 512 bytes beside the rest.
#[inline(always)]
pub(crate) unsafe fn fill_current(ids: *mut TaskIds) {
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: helpers without preconditions, and the caller's promise.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        (*ids).tgid = (pid_tgid >> 32) as u32;
        (*ids).tid = pid_tgid as u32;
        (*ids).start_boot_ns = start_boot_ns(task);
        (*ids).uid = bpf_get_current_uid_gid() as u32;
        (*ids).parent_tgid = parent_tgid(task);
        (*ids).cgroup_id = bpf_get_current_cgroup_id();
        fill_no_name(ids);
        let _unnamed = bpf_get_current_comm((&raw mut (*ids).comm).cast(), COMM_LEN as u32);
    }
}

/// Start of the process that `task` belongs to, ns since boot; 0 when it cannot be told.
#[inline(always)]
pub(crate) fn start_boot_ns(task: *const u8) -> u64 {
    let Some(leader) = pointer(task, Offset::TaskGroupLeader) else { return 0 };
    member(leader, Offset::TaskStartBoottime).unwrap_or(0)
}

#[inline(always)]
fn parent_tgid(task: *const u8) -> u32 {
    let Some(parent) = pointer(task, Offset::TaskRealParent) else { return 0 };
    member(parent, Offset::TaskTgid).unwrap_or(0)
}

/// Reads a member of kernel memory; `None` when this kernel has no such member or no such page.
#[inline(always)]
pub(crate) fn member<T>(base: *const u8, at: Offset) -> Option<T> {
    let at = offset(at)?;
    // SAFETY: `bpf_probe_read_kernel` checks every address and fails instead of faulting.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(at).cast::<T>()) }.ok()
}

/// Reads a pointer member; `None` for a null one too.
#[inline(always)]
pub(crate) fn pointer(base: *const u8, at: Offset) -> Option<*const u8> {
    let pointer: *const u8 = member(base, at)?;
    if pointer.is_null() { None } else { Some(pointer) }
}
