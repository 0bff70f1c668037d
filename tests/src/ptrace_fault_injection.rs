//! Fault injection with ptrace: takes a file descriptor away from a process that still uses it.
#![expect(clippy::panic, clippy::expect_used, reason = "a test ends with a panic")]

#[cfg(target_arch = "x86_64")]
use nix::{
    sys::ptrace,
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};

/// Finds the file descriptor of the BPF link of process `pid` to the tracepoint `name`.
///
/// Another process cannot detach a link to a raw tracepoint (`bpftool link detach`: not supported).
/// The kernel releases the link when its last descriptor is closed.
pub fn tracepoint_link_fd(pid: u32, name: &str) -> i32 {
    let directory = format!("/proc/{pid}/fdinfo");
    let entries = std::fs::read_dir(&directory).expect("descriptors of the process");
    let wanted = format!("tp_name:\t{name}");
    for entry in entries.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if text.lines().any(|line| line == wanted) {
            return entry.file_name().to_string_lossy().parse().expect("a number");
        }
    }
    panic!("process {pid} has no link to the tracepoint {name}")
}

/// True if [`replace_fd`] supports the registers of this architecture.
pub const CAN_REPLACE_FD: bool = cfg!(target_arch = "x86_64");

/// Makes process `pid` replace its descriptor `fd` with a copy of its standard input.
///
/// The main thread, which waits in a system call, is single-stepped through a `dup2` call and then
/// resumes waiting. Works with the registers of `x86_64` only: see [`CAN_REPLACE_FD`].
#[cfg(target_arch = "x86_64")]
pub fn replace_fd(pid: u32, fd: i32) {
    const DUP2: u64 = 33;
    const SYSCALL: i64 = 0x050f;
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    ptrace::attach(pid).expect("trace the process");
    wait_until_stopped(pid);
    let before = ptrace::getregs(pid).expect("registers");
    let mut call = before;
    call.rip -= 2;
    let word = ptrace::read(pid, call.rip as *mut _).expect("code");
    assert_eq!(word & 0xffff, SYSCALL, "the thread waits in a system call");
    call.rax = DUP2;
    // Not the number of the interrupted call: the kernel must not restart that call yet.
    call.orig_rax = u64::MAX;
    call.rdi = 0;
    call.rsi = u64::try_from(fd).expect("a descriptor");
    ptrace::setregs(pid, call).expect("set registers");
    ptrace::step(pid, None).expect("step");
    wait_until_stopped(pid);
    let after = ptrace::getregs(pid).expect("registers");
    assert_eq!(after.rax, call.rsi, "dup2");
    ptrace::setregs(pid, before).expect("set registers");
    ptrace::detach(pid, None).expect("detach");
}

/// Panics on this architecture: see [`CAN_REPLACE_FD`].
#[cfg(not(target_arch = "x86_64"))]
pub fn replace_fd(pid: u32, fd: i32) {
    panic!("descriptor {fd} of process {pid} cannot be replaced on this architecture");
}

#[cfg(target_arch = "x86_64")]
fn wait_until_stopped(pid: Pid) {
    let status = waitpid(pid, None).expect("wait for the process");
    assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
}
