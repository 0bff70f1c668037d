//! Who: ids and name of a task.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_task,
};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::{COMM_LEN, TaskIds};

use crate::kernel::{member, pointer};

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

/// The current task. Call it only where the current task is the one that acts. Its parent costs
/// two reads and is known from exec and fork: [`fill_current_and_parent`] is for these.
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
        (*ids).parent_tgid = 0;
        (*ids).cgroup_id = bpf_get_current_cgroup_id();
        fill_no_name(ids);
        let _unnamed = bpf_get_current_comm((&raw mut (*ids).comm).cast(), COMM_LEN as u32);
    }
}

/// As [`fill_current`], with the parent.
///
/// # Safety
///
/// As there.
#[inline(always)]
pub(crate) unsafe fn fill_current_and_parent(ids: *mut TaskIds) {
    // SAFETY: the caller's promise; the helper has no preconditions.
    unsafe {
        fill_current(ids);
        (*ids).parent_tgid = parent_tgid(bpf_get_current_task() as *const u8);
    }
}

/// Whether the current task is a thread of the kernel: it closes sockets for others.
#[inline(always)]
pub(crate) fn is_kernel_thread() -> bool {
    /// `include/linux/sched.h`; the same since 2.6.
    const PF_KTHREAD: u32 = 0x0020_0000;
    // SAFETY: a helper without preconditions.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    member::<u32>(task, Offset::TaskFlags).is_some_and(|flags| flags & PF_KTHREAD != 0)
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
