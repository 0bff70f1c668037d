//! Confinement of the agent itself, after its probes are attached and before its second thread.

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use caps::{Capability, CapsHashSet};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};

use crate::config::Config;
use crate::deliver::SinkKind;
use crate::privsep::sandbox::landlock::Files;
use crate::privsep::sandbox::{capabilities, syscalls};
use crate::telemetry::metrics::Listen;

/// Confinement of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confined {
    /// Disabled by the configuration.
    Off,
    /// Confined, as far as the kernel permits.
    On {
        /// Capabilities that the agent had to keep, with reasons.
        kept: Vec<String>,
        /// Mechanisms that this kernel lacks, with reasons.
        missing: Vec<String>,
    },
}

/// Reason why the agent cannot be confined; it must exit.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Existing threads would not be confined.
    #[error("confine the agent: it has {0} threads already; please report")]
    Threads(usize),
    /// A system call failed.
    #[error("confine the agent: {what}; agent.confine = false disables it, for troubleshooting")]
    Refused {
        /// Operation that failed.
        what: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl Confined {
    /// True if the agent may write to all paths of the configuration `new`; `old` are the permitted ones.
    pub fn may_write(&self, old: &[PathBuf], new: &Config) -> bool {
        let is_permitted = |path: &PathBuf| old.iter().any(|old| path.starts_with(old));
        *self == Self::Off || written(new).iter().all(is_permitted)
    }

    /// True if no mechanism is missing.
    pub const fn is_whole(&self) -> bool {
        matches!(self, Self::On { missing, .. } if missing.is_empty())
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::On { kept, missing } = self else {
            return out.write_str("off (agent.confine = false)");
        };
        out.write_str(if missing.is_empty() { "on" } else { "in part" })?;
        if !kept.is_empty() {
            write!(out, ", keeps {}", kept.join(", "))?;
        }
        if !missing.is_empty() {
            write!(out, "; missing: {}", missing.join(", "))?;
        }
        Ok(())
    }
}

/// Drops privileges (`drop_privileges`): capabilities, system calls and paths that the agent no longer
/// needs. `memory` is a directory that replaces the state directory, and `is_readable` tries to read a map
/// of the probes. Must be called while the process has one thread, after the probes are attached.
pub fn confine_agent(
    config: &Config,
    memory: Option<&Path>,
    is_readable: impl Fn() -> bool,
) -> Result<Confined, ConfineError> {
    if !config.agent.confine {
        return Ok(Confined::Off);
    }
    let refused = |what| move |source| ConfineError::Refused { what, source };
    let threads = std::fs::read_dir("/proc/self/task").map_err(refused("list its threads"))?;
    match threads.count() {
        1 => {}
        more => return Err(ConfineError::Threads(more)),
    }
    nix::sys::prctl::set_no_new_privs()
        .map_err(|errno| refused("no new privileges")(errno.into()))?;
    let mut files = files(config);
    files.written.extend(memory.map(Path::to_owned));
    capabilities::rest().map_err(refused("lower its capabilities"))?;
    let needed = needed(&files, is_readable);
    let wanted: Vec<Capability> = needed.iter().map(|(capability, _)| *capability).collect();
    let kept = capabilities::held(&wanted).map_err(refused("read its capabilities"))?;
    capabilities::keep_only(&kept).map_err(refused("drop its capabilities"))?;

    let mut missing = Vec::new();
    if let Err(error) = files.enforce() {
        missing.push(error.to_string());
    }
    if let Err(error) = syscalls::agent().enforce() {
        missing.push(format!("seccomp: {error}"));
    }
    Ok(Confined::On { kept: reasons(&kept, needed), missing })
}

fn reasons(kept: &CapsHashSet, needed: Vec<(Capability, String)>) -> Vec<String> {
    let held = needed.into_iter().filter(|(capability, _)| kept.contains(capability));
    held.map(|(capability, why)| format!("{capability} ({why})")).collect()
}

/// Capabilities that the agent must keep, found by trying each operation without any.
fn needed(files: &Files, is_readable: impl Fn() -> bool) -> Vec<(Capability, String)> {
    let mut needed = Vec::new();
    if !is_readable() {
        let why = "this kernel requires it to read the maps of the probes".to_owned();
        needed.push((Capability::CAP_BPF, why));
    }
    if let Some(path) = files.written.iter().find(|path| !is_writable(path)) {
        let why = format!("{} belongs to another user", path.display());
        needed.push((Capability::CAP_DAC_OVERRIDE, why));
    }
    needed
}

fn is_writable(path: &Path) -> bool {
    let mut access = AccessFlags::W_OK;
    if path.is_dir() {
        access |= AccessFlags::X_OK;
    }
    let accessed = faccessat(nix::fcntl::AT_FDCWD, path, access, AtFlags::AT_EACCESS);
    // No capability makes a read-only disk writable.
    !path.exists() || matches!(accessed, Ok(()) | Err(Errno::EROFS))
}

/// Directories and files that the agent writes to with this configuration. A directory that a reload
/// adds becomes writable at a restart only.
pub fn written(config: &Config) -> Vec<PathBuf> {
    let own = [config.agent.state_dir.clone(), PathBuf::from("/dev/null")];
    let sinks = config.sinks.iter().filter_map(|sink| sink.kind.writable_path());
    own.into_iter().chain(sinks.map(Path::to_owned)).collect()
}

fn files(config: &Config) -> Files {
    let written = written(config);
    for sink in &config.sinks {
        if let SinkKind::Parquet(parquet) = &sink.kind {
            // Created here, as the sink would: afterwards it cannot be created any more. The sink reports
            // the error if this fails.
            let result = DirBuilder::new().recursive(true).mode(0o700).create(&parquet.folder);
            drop(result);
        }
    }
    // Sockets are removed at shutdown.
    let control = Some(config.agent.control_socket());
    let metrics = config.metrics.as_ref().and_then(|metrics| match &metrics.listen {
        Listen::Unix(path) => Some(path.clone()),
        Listen::Loopback(_) => None,
    });
    let sockets = control.iter().chain(&metrics);
    let removed_from = sockets.filter_map(|it| it.parent()).map(Path::to_owned).collect();
    Files { written, removed_from, executed: Vec::new() }
}
