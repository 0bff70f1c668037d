//! What each helper keeps.

use std::io;
use std::path::{Path, PathBuf};

use caps::Capability;

use super::landlock::{Files, FilesError};
use super::seccomp::Calls;
use super::{capabilities, syscalls};

/// What a helper is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Starts what reads feeds, and the canary's child.
    Launcher,
    /// Starts the other helpers.
    Keeper,
    /// Lists open sockets in all network namespaces.
    Looks,
    /// Asks the connection tracking.
    Translations,
    /// Reads what /proc tells of processes.
    Processes,
}

/// What other processes' /proc, and other network namespaces, take.
const LOOKS: [Capability; 4] = [
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SYS_ADMIN,
];

impl Role {
    /// What it keeps, as far as the agent was given it.
    const fn capabilities(self) -> &'static [Capability] {
        match self {
            Self::Launcher => &[],
            Self::Keeper | Self::Looks | Self::Translations => &LOOKS,
            Self::Processes => &[Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH],
        }
    }

    fn calls(self) -> Calls {
        match self {
            Self::Launcher => syscalls::launcher(),
            Self::Keeper => syscalls::keeper(),
            Self::Looks => syscalls::looks(),
            Self::Translations => syscalls::translations(),
            Self::Processes => syscalls::processes(),
        }
    }
}

/// Keeps what a helper of this role needs, and nothing else. `written` is where the launcher's
/// children may write.
pub fn confine_helper(role: Role, written: Option<&Path>) -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    let kept = capabilities::held(role.capabilities())?;
    if role == Role::Keeper {
        capabilities::pass_on(&kept)?;
    } else {
        capabilities::keep_only(&kept)?;
    }
    if role == Role::Launcher {
        let files = Files {
            written: written.map(Path::to_owned).into_iter().collect(),
            executed: executables()?,
            ..Files::default()
        };
        match files.enforce() {
            Ok(()) => {}
            Err(error @ FilesError::Absent) => {
                tracing::debug!(%error, "which files are used is not confined");
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    role.calls().enforce()
}

/// The own executable and what the kernel loads to run it: the files that are mapped to be executed.
fn executables() -> io::Result<Vec<PathBuf>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut files: Vec<PathBuf> = maps.lines().filter_map(executable).collect();
    files.dedup();
    files.push("/proc/self/exe".into());
    Ok(files)
}

/// The file of a line of `proc_pid_maps(5)` that may be executed.
fn executable(line: &str) -> Option<PathBuf> {
    let mut fields = line.split_ascii_whitespace();
    let is_code = fields.nth(1)?.contains('x');
    let path = fields.nth(3).filter(|path| path.starts_with('/'))?;
    is_code.then(|| PathBuf::from(path))
}
