//! Exec, fork and exit of processes. Path and arguments are read at exec, so that they are known
//! even of a process that lives for a millisecond.
//!
//! Helpers: `bpf_probe_read_kernel_str` and `bpf_probe_read_user` (v5.5), `bpf-helpers(7)`.

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_probe_read_kernel_str, bpf_probe_read_user,
};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::RawTracePointContext;
use sensor_ebpf::offsets::Offset;
use sensor_ebpf::record::{
    ARGS_MAX_LEN, ExecRecord, ExitRecord, ForkRecord, PATH_MAX_LEN, RecordKind,
};

use crate::emit::{self, Ledger};
use crate::globals::offset;
use crate::kernel::{read_member, read_pointer};
use crate::task;

/// Maximum number of path components. Of a deeper path the innermost ones are kept, and it is
/// marked as truncated.
const COMPONENTS_MAX: usize = 48;
/// Maximum bytes of one component, NUL included: `NAME_MAX` + 1, `include/uapi/linux/limits.h`.
const COMPONENT_MAX_LEN: usize = 256;

/// Buffer in which an exec record is assembled: fixed part, path and arguments. It has room for one
/// component and one set of arguments more, so that each bounded write stays inside.
#[repr(C, align(8))]
struct Scratch {
    /// Length of the path so far, bytes. Kept in the map rather than in a register: to the verifier
    /// a value from a map is any number, so it need not track every possible length of each step.
    path_len: usize,
    head: ExecRecord,
    tail: [u8; PATH_MAX_LEN + COMPONENT_MAX_LEN + ARGS_MAX_LEN],
}

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Hook: `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`,
/// `include/trace/events/sched.h`, `sched_process_exec`; called in `fs/exec.c: exec_binprm`.
///
/// Runs in the task, with its new image (`execve(2)`).
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn sched_process_exec(_ctx: RawTracePointContext) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the array has one slot per CPU. Exec runs in process context and does not nest, so no
    // other program writes the slot concurrently. The task is the current one.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let tail = (&raw mut (*scratch).tail).cast::<u8>();
        let path_len = &raw mut (*scratch).path_len;
        path_len.write_volatile(0);
        let path_truncated = read_path(task, tail, path_len);
        let path_len = bounded::<{ PATH_MAX_LEN - 1 }>(path_len.read_volatile());
        let (args_len, args_truncated) = read_args(task, tail, path_len);
        let len =
            bounded::<2047>(path_len.wrapping_add(args_len)).wrapping_add(size_of::<ExecRecord>());
        let mut header = emit::header::<ExecRecord>(RecordKind::ProcessExec, 0);
        header.len = len as u16;
        let head = &raw mut (*scratch).head;
        (*head).header = header;
        task::fill_current_and_parent(&raw mut (*head).task);
        (*head).path_len = path_len as u16;
        (*head).args_len = args_len as u16;
        (*head).path_truncated = path_truncated;
        (*head).args_truncated = args_truncated;
        emit::bytes(Ledger::Process, head.cast::<u8>(), len);
    }
    0
}

/// Writes the components of the executable's path to `tail`, innermost first, and their length
/// (at most `PATH_MAX_LEN - 1`) to `len`. Returns 1 if the path is truncated.
///
/// Walks `dentry->d_parent` and, at the root of a mount, continues at the entry that the mount
/// covers, like `fs/d_path.c: prepend_path`. The helper `bpf_d_path` is not allowed in tracepoints.
///
/// # Safety
///
/// `tail` must be writable for `PATH_MAX_LEN + COMPONENT_MAX_LEN` bytes, and `len` must point to a
/// map value.
#[inline(always)]
unsafe fn read_path(task: *const u8, tail: *mut u8, len: *mut usize) -> u16 {
    let Some((mut dentry, mut mnt, mount_mnt)) = executable(task) else { return 0 };
    for _component in 0..COMPONENTS_MAX {
        let parent = read_pointer(dentry, Offset::DentryParent).unwrap_or(dentry);
        // An entry outside of the mounted tree is its own parent: `memfd_create(2)`. /proc gives
        // its name alone (`fs/d_path.c: simple_dname`).
        let is_detached = parent == dentry;
        if read_pointer(mnt, Offset::MntRoot) == Some(dentry) {
            let mount = mnt.wrapping_sub(mount_mnt);
            let parent_mount = read_pointer(mount, Offset::MountParent).unwrap_or(mount);
            let covered = read_pointer(mount, Offset::MountMountpoint).unwrap_or(dentry);
            if parent_mount == mount {
                return 0;
            }
            dentry = covered;
            mnt = parent_mount.wrapping_add(mount_mnt);
            continue;
        }
        let Some(name) = read_pointer(dentry, Offset::DentryName) else { return 1 };
        // SAFETY: `at` is below PATH_MAX_LEN and a component is at most COMPONENT_MAX_LEN long, so
        // the write stays inside `tail`. The kernel checks the source. `len` is valid by the
        // caller's contract.
        let (at, read) = unsafe {
            let at = bounded::<{ PATH_MAX_LEN - 1 }>(len.read_volatile());
            let to = tail.add(at).cast();
            (at, bpf_probe_read_kernel_str(to, COMPONENT_MAX_LEN as u32, name.cast()))
        };
        let next = at.wrapping_add(read as usize);
        if read <= 0 || next >= PATH_MAX_LEN {
            return 1;
        }
        // SAFETY: the caller's contract.
        unsafe { len.write_volatile(next) };
        if is_detached {
            return 0;
        }
        dentry = parent;
    }
    1
}

/// Returns `dentry` and `vfsmount` of the task's executable, and the offset of `mount.mnt`.
#[inline(always)]
fn executable(task: *const u8) -> Option<(*const u8, *const u8, usize)> {
    let mm = read_pointer(task, Offset::TaskMm)?;
    let file = read_pointer(mm, Offset::MmExeFile)?;
    let mnt = read_pointer(file, Offset::FileMnt)?;
    let dentry = read_pointer(file, Offset::FileDentry)?;
    Some((dentry, mnt, offset(Offset::MountMnt)?))
}

/// Writes the arguments, each with its NUL, to `tail + path_len`. Returns their length (at most
/// `ARGS_MAX_LEN - 1`), and 1 if they are truncated.
///
/// # Safety
///
/// `tail` must be writable for `PATH_MAX_LEN + ARGS_MAX_LEN` bytes.
#[inline(always)]
unsafe fn read_args(task: *const u8, tail: *mut u8, path_len: usize) -> (usize, u16) {
    let Some(mm) = read_pointer(task, Offset::TaskMm) else { return (0, 0) };
    let start: u64 = read_member(mm, Offset::MmArgStart).unwrap_or(0);
    let end: u64 = read_member(mm, Offset::MmArgEnd).unwrap_or(0);
    let args_len = end.saturating_sub(start) as usize;
    let truncated = u16::from(args_len >= ARGS_MAX_LEN);
    let len = if args_len >= ARGS_MAX_LEN { ARGS_MAX_LEN - 1 } else { args_len };
    let at = bounded::<{ PATH_MAX_LEN - 1 }>(path_len);
    let len = bounded::<{ ARGS_MAX_LEN - 1 }>(len);
    // SAFETY: `at` and `len` are below PATH_MAX_LEN and ARGS_MAX_LEN, so the write stays inside
    // `tail`. The source is user memory of the task, which the kernel checks.
    let read = unsafe { bpf_probe_read_user(tail.add(at).cast(), len as u32, start as *const _) };
    if read == 0 { (len, truncated) } else { (0, 1) }
}

/// Returns `value & MASK`, in assembly, so that the compiler cannot remove the mask as redundant:
/// the verifier needs it. `MASK` is a power of two minus one.
#[inline(always)]
fn bounded<const MASK: usize>(mut value: usize) -> usize {
    // SAFETY: one instruction on one register.
    unsafe { core::arch::asm!("{value} &= {mask}", value = inout(reg) value, mask = const MASK) };
    value
}

/// Hook: `TP_PROTO(struct task_struct *parent, struct task_struct *child)`,
/// `include/trace/events/sched.h`, `sched_process_fork`; called in `kernel/fork.c: kernel_clone`
/// (`_do_fork` before v5.10).
///
/// Runs in the parent (`clone(2)`).
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub(crate) fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let child: *const u8 = ctx.arg(1);
    let tid: u32 = read_member(child, Offset::TaskPid).unwrap_or(0);
    let tgid: u32 = read_member(child, Offset::TaskTgid).unwrap_or(0);
    if tid != tgid || tgid == 0 {
        return 0;
    }
    emit::record::<ForkRecord>(Ledger::Process, |record| {
        // SAFETY: `record` is the reserved entry, a whole ForkRecord.
        unsafe {
            (*record).header = emit::header::<ForkRecord>(RecordKind::ProcessFork, 0);
            task::fill_current_and_parent(&raw mut (*record).parent);
            (*record).child_tgid = tgid;
            (*record).padding = 0;
            (*record).child_start_boot_ns =
                read_member(child, Offset::TaskStartBoottime).unwrap_or(0);
        }
    });
    0
}

/// Hook: `TP_PROTO(struct task_struct *p)` (and `bool group_dead` from v6.16),
/// `include/trace/events/sched.h`, `sched_process_exit`; called in `kernel/exit.c: do_exit`.
///
/// Runs in the task that ends (`exit_group(2)`).
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(0);
    // `do_exit` has already decremented `signal->live`: 0 means that this was the last thread.
    let live: Option<i32> = read_pointer(task, Offset::TaskSignal)
        .and_then(|signal| read_member(signal, Offset::SignalLive));
    let tgid: u32 = read_member(task, Offset::TaskTgid).unwrap_or(0);
    let last = match live {
        Some(live) => live == 0,
        None => read_member::<u32>(task, Offset::TaskPid) == Some(tgid),
    };
    if !last || tgid == 0 {
        return 0;
    }
    emit::record::<ExitRecord>(Ledger::Process, |record| {
        // SAFETY: `record` is the reserved entry, a whole ExitRecord.
        unsafe {
            *record = ExitRecord {
                header: emit::header::<ExitRecord>(RecordKind::ProcessExit, 0),
                tgid,
                padding: 0,
                start_boot_ns: task::start_boot_ns(task),
            };
        }
    });
    0
}
