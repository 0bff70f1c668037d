//! System calls of each process, composed of groups by purpose.

use nix::libc;

use super::seccomp::{Argument, Calls, Number};

/// Calls of every process: I/O on open files, memory, signals, exit.
const CORE: &[Number] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Beyond [`CORE`]: waits, threads, own identity. The feed parser makes none of these.
const BASE: &[Number] = &[
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_restart_syscall,
    libc::SYS_ppoll,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_membarrier,
    libc::SYS_uname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Reads of file metadata and directories.
const METADATA: &[Number] = &[
    libc::SYS_newfstatat,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_getcwd,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_fadvise64,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
];

/// Opening and changing files, as far as Landlock lets.
const FILES: &[Number] = &[
    libc::SYS_openat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_flock,
    libc::SYS_utimensat,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_umask,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
];

/// Sockets that are there.
const SOCKETS: &[Number] = &[
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_shutdown,
];

/// What a server and a client with many connections do, and a runtime.
const RUNTIME: &[Number] = &[
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_signalfd4,
    libc::SYS_memfd_create,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_sysinfo,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_capget,
    libc::SYS_msync,
    libc::SYS_mincore,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
];

/// Starting a process, and what becomes of it until it confines itself.
const START: &[Number] = &[
    libc::SYS_execve,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_mprotect,
    libc::SYS_mmap,
    libc::SYS_pipe2,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_signalfd4,
    libc::SYS_recvmsg,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_setrlimit,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_seccomp,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_umask,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
];

/// Commands of `bpf(2)` on maps and programs that exist (`enum bpf_cmd`, `linux/bpf.h`): look up,
/// update, delete, next key, detach a program, look up and delete, get information, and batches.
const BPF_COMMANDS: [u64; 10] = [1, 2, 3, 4, 9, 15, 21, 24, 25, 27];

/// Bits of `open(2)`'s flags by which anything would be written.
const WRITES: u64 = bits(libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC);
/// Bits of `clone(2)`'s flags by which a namespace would be made.
const NAMESPACES: u64 = bits(
    libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET,
);
/// The kind of a socket, without the flags beside it.
const SOCKET_KIND: u64 = 0xf;

#[expect(clippy::cast_sign_loss, reason = "bits of flags")]
const fn bits(flags: i32) -> u64 {
    flags as u32 as u64
}

/// The agent, whose probes are attached.
pub(crate) fn agent() -> Calls {
    let mut calls = base().with(METADATA).with(FILES).with(SOCKETS).with(RUNTIME);
    for command in BPF_COMMANDS {
        calls = calls.with_if(libc::SYS_bpf, &[Argument::Is(0, command)]);
    }
    let (stream, datagram) = (bits(libc::SOCK_STREAM), bits(libc::SOCK_DGRAM));
    for family in [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX] {
        for kind in [stream, datagram] {
            let kind = Argument::Bits(1, SOCKET_KIND, kind);
            calls = calls.with_if(libc::SYS_socket, &[Argument::Is(0, bits(family)), kind]);
        }
    }
    let thread = Argument::Bits(0, bits(libc::CLONE_THREAD), bits(libc::CLONE_THREAD));
    let named = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];
    for option in named {
        calls = calls.with_if(libc::SYS_prctl, &[Argument::Is(0, bits(option))]);
    }
    // `RLIMIT`s are read only: there is no new one.
    let unset = [Argument::Is(2, 0)];
    netlink(calls, libc::NETLINK_ROUTE)
        .with_if(libc::SYS_socketpair, &[Argument::Is(0, bits(libc::AF_UNIX))])
        .with_if(libc::SYS_clone, &[thread])
        .with_if(libc::SYS_prlimit64, &unset)
        // What would be typed into a terminal (`TIOCSTI`, `TIOCLINUX`) may run somewhere else.
        .with_if(libc::SYS_ioctl, &[Argument::IsNot(1, 0x5412), Argument::IsNot(1, 0x541c)])
        .data_only()
}

/// The launcher, and the processes that it starts.
pub(crate) fn launcher() -> Calls {
    start(base().with(METADATA).with(FILES))
}

/// The supervisor, and the three workers that it starts.
pub(crate) fn supervisor() -> Calls {
    let calls = base().with(METADATA).with(SOCKETS);
    let calls = netlink(calls, libc::NETLINK_SOCK_DIAG);
    start(enter(netlink(read_only(calls), libc::NETLINK_NETFILTER)))
}

/// Lists open sockets.
pub(crate) fn socket_scan() -> Calls {
    let calls = base().with(METADATA).with(SOCKETS);
    enter(netlink(read_only(calls), libc::NETLINK_SOCK_DIAG)).data_only()
}

/// Queries the connection tracking.
pub(crate) fn nat() -> Calls {
    let calls = base().with(METADATA).with(SOCKETS);
    enter(netlink(read_only(calls), libc::NETLINK_NETFILTER)).data_only()
}

/// Reads process facts from /proc.
pub(crate) fn proc() -> Calls {
    read_only(base().with(METADATA)).data_only()
}

/// The feed parser: reads, sorts, and writes to open files.
pub(crate) fn feed_parser() -> Calls {
    Calls::default().with(CORE).with(&[
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_mmap,
        libc::SYS_mprotect,
    ])
}

fn base() -> Calls {
    Calls::default().with(CORE).with(BASE)
}

fn start(calls: Calls) -> Calls {
    // A process, no namespace.
    calls.with(START).with_if(libc::SYS_clone, &[Argument::Bits(0, NAMESPACES, 0)])
}

fn read_only(calls: Calls) -> Calls {
    let calls = calls.with_if(libc::SYS_openat, &[Argument::Bits(2, WRITES, 0)]);
    #[cfg(target_arch = "x86_64")]
    let calls = calls.with_if(libc::SYS_open, &[Argument::Bits(1, WRITES, 0)]);
    calls
}

fn netlink(calls: Calls, protocol: i32) -> Calls {
    let family = Argument::Is(0, bits(libc::AF_NETLINK));
    calls.with_if(libc::SYS_socket, &[family, Argument::Is(2, bits(protocol))])
}

/// Entering network namespaces, and no others.
fn enter(calls: Calls) -> Calls {
    calls.with_if(libc::SYS_setns, &[Argument::Is(1, bits(libc::CLONE_NEWNET))])
}

impl Calls {
    /// Memory that is written is never executed.
    fn data_only(self) -> Self {
        let [write, execute] = [bits(libc::PROT_WRITE), bits(libc::PROT_EXEC)];
        [libc::SYS_mmap, libc::SYS_mprotect].into_iter().fold(self, |calls, number| {
            calls
                .with_if(number, &[Argument::Bits(2, write, 0)])
                .with_if(number, &[Argument::Bits(2, execute, 0)])
        })
    }
}
