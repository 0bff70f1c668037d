//! Processes: what they are, taken when they begin, so that one that lives a millisecond is as
//! well known as any other.

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
use crate::kernel::{member, pointer};
use crate::task;

/// Path components at most; a deeper executable keeps its innermost ones and is marked as cut.
const COMPONENTS_MAX: usize = 48;
/// Bytes of one component at most, NUL included (`NAME_MAX` + 1).
const COMPONENT_MAX_LEN: usize = 256;

/// Where an exec record is put together: head, path, arguments, and room for one component and
/// one round of arguments beyond, so that each bounded write stays inside.
#[repr(C, align(8))]
struct Scratch {
    /// Bytes of path so far. Kept in the map, not in a register: what comes back from a map is
    /// any number to the verifier, so it need not follow each length that each step may have.
    path_len: usize,
    head: ExecRecord,
    tail: [u8; PATH_MAX_LEN + COMPONENT_MAX_LEN + ARGS_MAX_LEN],
}

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Hook: `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`,
/// `include/trace/events/sched.h`, `sched_process_exec`. Runs in the task, with its new image.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn sched_process_exec(_ctx: RawTracePointContext) -> i32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: the array has one slot, this CPU's own; exec runs in process context and does not
    // nest, so nobody else writes it meanwhile. The task is the current one.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let tail = (&raw mut (*scratch).tail).cast::<u8>();
        let path_len = &raw mut (*scratch).path_len;
        path_len.write_volatile(0);
        let path_cut = read_path(task, tail, path_len);
        let path_len = bounded::<{ PATH_MAX_LEN - 1 }>(path_len.read_volatile());
        let (args_len, args_cut) = read_args(task, tail, path_len);
        let len =
            bounded::<2047>(path_len.wrapping_add(args_len)).wrapping_add(size_of::<ExecRecord>());
        let mut header = emit::header::<ExecRecord>(RecordKind::ProcessExec, 0);
        header.len = len as u16;
        let head = &raw mut (*scratch).head;
        (*head).header = header;
        task::fill_current_and_parent(&raw mut (*head).task);
        (*head).path_len = path_len as u16;
        (*head).args_len = args_len as u16;
        (*head).path_cut = path_cut;
        (*head).args_cut = args_cut;
        emit::bytes(Ledger::Process, head.cast::<u8>(), len);
    }
    0
}

/// Writes the components of the executable's path to `tail`, innermost first, and their length
/// (at most `PATH_MAX_LEN - 1`) to `len`; gives 1 when some were left out.
///
/// Walks `dentry->d_parent` and, at the top of a mount, on to the entry that it covers: what
/// `d_path` does, which may not be called from a tracepoint.
///
/// # Safety
///
/// `tail` must be writable for `PATH_MAX_LEN + COMPONENT_MAX_LEN` bytes, `len` point to a map.
#[inline(always)]
unsafe fn read_path(task: *const u8, tail: *mut u8, len: *mut usize) -> u16 {
    let Some((mut dentry, mut mnt, mount_mnt)) = executable(task) else { return 0 };
    for _component in 0..COMPONENTS_MAX {
        let parent = pointer(dentry, Offset::DentryParent).unwrap_or(dentry);
        if pointer(mnt, Offset::MntRoot) == Some(dentry) || parent == dentry {
            let mount = mnt.wrapping_sub(mount_mnt);
            let below = pointer(mount, Offset::MountParent).unwrap_or(mount);
            let covered = pointer(mount, Offset::MountMountpoint).unwrap_or(dentry);
            if below == mount {
                return 0;
            }
            dentry = covered;
            mnt = below.wrapping_add(mount_mnt);
            continue;
        }
        let Some(name) = pointer(dentry, Offset::DentryName) else { return 1 };
        // SAFETY: `at` is below PATH_MAX_LEN and a component is at most COMPONENT_MAX_LEN long,
        // so the write stays inside `tail`; the source is checked by the kernel. `len` is the
        // caller's promise.
        let (at, read) = unsafe {
            let at = bounded::<{ PATH_MAX_LEN - 1 }>(len.read_volatile());
            let to = tail.add(at).cast();
            (at, bpf_probe_read_kernel_str(to, COMPONENT_MAX_LEN as u32, name.cast()))
        };
        let next = at.wrapping_add(read as usize);
        if read <= 0 || next >= PATH_MAX_LEN {
            return 1;
        }
        // SAFETY: the caller's promise.
        unsafe { len.write_volatile(next) };
        dentry = parent;
    }
    1
}

/// `dentry` and `vfsmount` of the task's executable, and the offset of `mount.mnt`.
#[inline(always)]
fn executable(task: *const u8) -> Option<(*const u8, *const u8, usize)> {
    let mm = pointer(task, Offset::TaskMm)?;
    let file = pointer(mm, Offset::MmExeFile)?;
    let mnt = pointer(file, Offset::FileMnt)?;
    let dentry = pointer(file, Offset::FileDentry)?;
    Some((dentry, mnt, offset(Offset::MountMnt)?))
}

/// Writes the arguments to `tail + path_len`, each closed by NUL, and gives their length (at most
/// `ARGS_MAX_LEN - 1`) and whether some were left out.
///
/// # Safety
///
/// `tail` must be writable for `PATH_MAX_LEN + ARGS_MAX_LEN` bytes.
#[inline(always)]
unsafe fn read_args(task: *const u8, tail: *mut u8, path_len: usize) -> (usize, u16) {
    let Some(mm) = pointer(task, Offset::TaskMm) else { return (0, 0) };
    let start: u64 = member(mm, Offset::MmArgStart).unwrap_or(0);
    let end: u64 = member(mm, Offset::MmArgEnd).unwrap_or(0);
    let wanted = end.saturating_sub(start) as usize;
    let cut = u16::from(wanted >= ARGS_MAX_LEN);
    let len = if wanted >= ARGS_MAX_LEN { ARGS_MAX_LEN - 1 } else { wanted };
    let at = bounded::<{ PATH_MAX_LEN - 1 }>(path_len);
    let len = bounded::<{ ARGS_MAX_LEN - 1 }>(len);
    // SAFETY: `at` and `len` are below PATH_MAX_LEN and ARGS_MAX_LEN, so the write stays inside
    // `tail`; the source is the task's own memory, checked by the kernel.
    let read = unsafe { bpf_probe_read_user(tail.add(at).cast(), len as u32, start as *const _) };
    if read == 0 { (len, cut) } else { (0, 1) }
}

/// `value & MASK`, in a way that the compiler cannot see through and remove: the verifier needs
/// to meet the mask. `MASK` is a power of two minus one.
#[inline(always)]
fn bounded<const MASK: usize>(mut value: usize) -> usize {
    // SAFETY: one instruction on one register.
    unsafe { core::arch::asm!("{value} &= {mask}", value = inout(reg) value, mask = const MASK) };
    value
}

/// Hook: `TP_PROTO(struct task_struct *parent, struct task_struct *child)`,
/// `include/trace/events/sched.h`, `sched_process_fork`. Runs in the parent.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub(crate) fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let child: *const u8 = ctx.arg(1);
    let tid: u32 = member(child, Offset::TaskPid).unwrap_or(0);
    let tgid: u32 = member(child, Offset::TaskTgid).unwrap_or(0);
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
            (*record).child_start_boot_ns = member(child, Offset::TaskStartBoottime).unwrap_or(0);
        }
    });
    0
}

/// Hook: `TP_PROTO(struct task_struct *p)` (and `bool group_dead` from v6.16),
/// `include/trace/events/sched.h`, `sched_process_exit`. Runs in the task that ends.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    let task: *const u8 = ctx.arg(0);
    // `do_exit` has counted this thread out already: 0 means that it was the last.
    let live: Option<i32> =
        pointer(task, Offset::TaskSignal).and_then(|signal| member(signal, Offset::SignalLive));
    let tgid: u32 = member(task, Offset::TaskTgid).unwrap_or(0);
    let last = match live {
        Some(live) => live == 0,
        None => member::<u32>(task, Offset::TaskPid) == Some(tgid),
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
