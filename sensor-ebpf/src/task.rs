//! Ids and name of a task, from the `bpf_get_current_*` helpers (`bpf-helpers(7)`) and `struct
//! task_struct`.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_task,
};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::{COMM_LEN, TaskIds};

use crate::kernel::{read_member, read_pointer};

/// Fills `ids` for "no task": for records of programs that run in softirq.
///
/// # Safety
///
/// `ids` must be writable; every field is written.
#[inline(always)]
pub(crate) unsafe fn fill_none(ids: *mut TaskIds) {
    // SAFETY: the caller's contract.
    unsafe {
        (*ids).tgid = 0;
        (*ids).tid = 0;
        (*ids).start_boot_ns = 0;
        (*ids).uid = u32::MAX;
        (*ids).parent_tgid = 0;
        (*ids).cgroup_id = 0;
        clear_comm(ids);
    }
}

/// Clears the name, in words. BPF has no unaligned stores, so the compiler would clear a byte array
/// byte by byte.
///
/// # Safety
///
/// `ids` must be writable and aligned.
#[inline(always)]
unsafe fn clear_comm(ids: *mut TaskIds) {
    // SAFETY: the caller's contract; `comm` is at a multiple of 8 in an 8-byte aligned structure.
    unsafe { (&raw mut (*ids).comm).cast::<[u64; COMM_LEN / 8]>().write([0; COMM_LEN / 8]) };
}

/// Fills `ids` with the current task, without its parent: that takes two reads, and exec and fork
/// records have it ([`fill_current_and_parent`]). Call it only where the current task is the actor.
///
/// # Safety
///
/// `ids` must be writable; every field is written. It is filled in place, since two copies do not
/// fit on the BPF stack of 512 bytes beside the rest.
#[inline(always)]
pub(crate) unsafe fn fill_current(ids: *mut TaskIds) {
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: helpers without preconditions, and the caller's contract.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        (*ids).tgid = (pid_tgid >> 32) as u32;
        (*ids).tid = pid_tgid as u32;
        (*ids).start_boot_ns = start_boot_ns(task);
        (*ids).uid = bpf_get_current_uid_gid() as u32;
        (*ids).parent_tgid = 0;
        (*ids).cgroup_id = bpf_get_current_cgroup_id();
        clear_comm(ids);
        let _unnamed = bpf_get_current_comm((&raw mut (*ids).comm).cast(), COMM_LEN as u32);
    }
}

/// Fills `ids` like [`fill_current`], and the parent.
///
/// # Safety
///
/// As for [`fill_current`].
#[inline(always)]
pub(crate) unsafe fn fill_current_and_parent(ids: *mut TaskIds) {
    // SAFETY: the caller's contract; the helper has no preconditions.
    unsafe {
        fill_current(ids);
        (*ids).parent_tgid = parent_tgid(bpf_get_current_task() as *const u8);
    }
}

/// True if the current task is a kernel thread, which may close sockets on behalf of others.
#[inline(always)]
pub(crate) fn is_kernel_thread() -> bool {
    /// `include/linux/sched.h`; unchanged since 2.6.
    const PF_KTHREAD: u32 = 0x0020_0000;
    // SAFETY: a helper without preconditions.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    read_member::<u32>(task, Offset::TaskFlags).is_some_and(|flags| flags & PF_KTHREAD != 0)
}

/// Start of the process that `task` belongs to, ns since boot; 0 if unknown.
#[inline(always)]
pub(crate) fn start_boot_ns(task: *const u8) -> u64 {
    let Some(leader) = read_pointer(task, Offset::TaskGroupLeader) else { return 0 };
    read_member(leader, Offset::TaskStartBoottime).unwrap_or(0)
}

#[inline(always)]
fn parent_tgid(task: *const u8) -> u32 {
    let Some(parent) = read_pointer(task, Offset::TaskRealParent) else { return 0 };
    read_member(parent, Offset::TaskTgid).unwrap_or(0)
}
