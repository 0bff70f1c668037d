//! Meddling with a process behind its back, by ptrace: to make it lose what it believes it holds.
#![expect(clippy::panic, clippy::expect_used, reason = "a test ends with a panic")]

#[cfg(target_arch = "x86_64")]
use nix::{
    sys::ptrace,
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};

/// The file descriptor of the BPF link of process `pid` to the tracepoint `name`.
///
/// A link to a raw tracepoint cannot be detached from outside (`bpftool link detach`: not
/// supported); it goes when its last descriptor does.
pub fn tracepoint_link_fd(pid: u32, name: &str) -> i32 {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = std::fs::read_dir(&folder).expect("descriptors of the process");
    let wanted = format!("tp_name:\t{name}");
    for entry in entries.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if text.lines().any(|line| line == wanted) {
            return entry.file_name().to_string_lossy().parse().expect("a number");
        }
    }
    panic!("process {pid} has no link to the tracepoint {name}")
}

/// Whether this machine's registers are known to [`replace_fd`].
pub const CAN_REPLACE_FD: bool = cfg!(target_arch = "x86_64");

/// Makes process `pid` replace its descriptor `fd` by a copy of its standard input.
///
/// Its first thread, which waits in a system call, makes another one (`dup2`), step by step, and
/// then goes on waiting. Its registers are those of `x86_64`: see [`CAN_REPLACE_FD`].
#[cfg(target_arch = "x86_64")]
pub fn replace_fd(pid: u32, fd: i32) {
    const DUP2: u64 = 33;
    const SYSCALL: i64 = 0x050f;
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    ptrace::attach(pid).expect("trace the process");
    stopped(pid);
    let before = ptrace::getregs(pid).expect("registers");
    let mut call = before;
    call.rip -= 2;
    let word = ptrace::read(pid, call.rip as *mut _).expect("code");
    assert_eq!(word & 0xffff, SYSCALL, "the thread waits in a system call");
    call.rax = DUP2;
    // Not the call that was interrupted: nothing is to be restarted yet.
    call.orig_rax = u64::MAX;
    call.rdi = 0;
    call.rsi = u64::try_from(fd).expect("a descriptor");
    ptrace::setregs(pid, call).expect("set registers");
    ptrace::step(pid, None).expect("step");
    stopped(pid);
    let after = ptrace::getregs(pid).expect("registers");
    assert_eq!(after.rax, call.rsi, "dup2");
    ptrace::setregs(pid, before).expect("set registers");
    ptrace::detach(pid, None).expect("let it go");
}

/// Not here: see [`CAN_REPLACE_FD`].
#[cfg(not(target_arch = "x86_64"))]
pub fn replace_fd(pid: u32, fd: i32) {
    panic!("process {pid} cannot be made to lose descriptor {fd} on this machine");
}

#[cfg(target_arch = "x86_64")]
fn stopped(pid: Pid) {
    let status = waitpid(pid, None).expect("wait for the process");
    assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
}
