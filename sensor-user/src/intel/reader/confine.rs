//! `confine`: a process gives up all that reading a feed does not need.

use std::collections::BTreeMap;
use std::io;

use caps::CapSet;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Address space of the reader, bytes. The largest set that was measured, a million STIX
/// indicators, takes less than 400 MiB.
pub(super) const MEMORY_MAX: u64 = 1 << 30;
/// Processor time of the reader, seconds.
const SECONDS_MAX: u64 = 300;
/// Bytes of the file that it writes.
const FILE_MAX: u64 = 8 << 30;

/// From here on: no capabilities and none to come by, no new files, sockets, processes or
/// programs, bounded memory, time and output. What is open stays open.
///
/// An error means that the process is not confined; it must not go on.
pub(super) fn confine() -> io::Result<()> {
    for (resource, max) in [
        (Resource::RLIMIT_AS, MEMORY_MAX),
        (Resource::RLIMIT_CPU, SECONDS_MAX),
        (Resource::RLIMIT_FSIZE, FILE_MAX),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, max, max)?;
    }
    nix::sys::prctl::set_no_new_privs()?;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    let filter = filter().map_err(io::Error::other)?;
    seccompiler::apply_filter(&filter).map_err(io::Error::other)
}

/// What reading, sorting and writing to open files needs; every other system call is refused.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let allowed = [
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_pread64,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_pwrite64,
        libc::SYS_lseek,
        libc::SYS_fstat,
        libc::SYS_statx,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_close,
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
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
    let rules: BTreeMap<i64, Vec<_>> = allowed.into_iter().map(|call| (call, vec![])).collect();
    let eperm = u32::try_from(libc::EPERM).unwrap_or(1);
    SeccompFilter::new(
        rules,
        SeccompAction::Errno(eperm),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}
