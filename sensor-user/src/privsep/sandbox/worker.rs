//! Privileges that each worker keeps.

use std::io;
use std::path::{Path, PathBuf};

use caps::Capability;

use super::landlock::{Files, FilesError};
use super::seccomp::Calls;
use super::{capabilities, syscalls};
use crate::privsep::WorkerKind;

/// For /proc of other processes, and other network namespaces.
const PRIVILEGED: [Capability; 4] = [
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SYS_ADMIN,
];

impl WorkerKind {
    /// Capabilities that the worker keeps, of those that the agent was started with.
    const fn capabilities(self) -> &'static [Capability] {
        match self {
            Self::Launcher => &[],
            Self::Supervisor | Self::SocketScan | Self::Nat => &PRIVILEGED,
            Self::Proc => &[Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH],
        }
    }

    fn syscalls(self) -> Calls {
        match self {
            Self::Launcher => syscalls::launcher(),
            Self::Supervisor => syscalls::supervisor(),
            Self::SocketScan => syscalls::socket_scan(),
            Self::Nat => syscalls::nat(),
            Self::Proc => syscalls::proc(),
        }
    }
}

/// Drops all privileges that the worker does not need. `feeds` is the directory that the launcher's
/// children may write to.
///
/// An error means that the process is not confined; it must exit.
pub fn confine_worker(kind: WorkerKind, feeds: Option<&Path>) -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    let kept = capabilities::held(kind.capabilities())?;
    if kind == WorkerKind::Supervisor {
        capabilities::pass_on(&kept)?;
    } else {
        capabilities::keep_only(&kept)?;
    }
    if kind == WorkerKind::Launcher {
        let files = Files {
            written: feeds.map(Path::to_owned).into_iter().collect(),
            executed: executables()?,
            ..Files::default()
        };
        match files.enforce() {
            Ok(()) => {}
            Err(error @ FilesError::Absent) => {
                tracing::debug!(%error, "file access is not confined");
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    kind.syscalls().enforce()
}

/// This executable and its loader: all files that are mapped executable.
fn executables() -> io::Result<Vec<PathBuf>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut files: Vec<PathBuf> = maps.lines().filter_map(executable).collect();
    files.dedup();
    files.push("/proc/self/exe".into());
    Ok(files)
}

/// File of an executable mapping, from a line of `proc_pid_maps(5)`.
fn executable(line: &str) -> Option<PathBuf> {
    let mut fields = line.split_ascii_whitespace();
    let is_code = fields.nth(1)?.contains('x');
    let path = fields.nth(3).filter(|path| path.starts_with('/'))?;
    is_code.then(|| PathBuf::from(path))
}
