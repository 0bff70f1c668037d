//! Errors of loading and attaching the BPF programs.

use std::path::PathBuf;

use aya::maps::MapError;
use nix::errno::Errno;

/// Why the BPF programs do not run.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file of the object cannot be read.
    #[error("read BPF object {}", path.display())]
    ReadObject {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a BPF object of netsensor.
    #[error(
        "{origin}: not a BPF object of netsensor; build one with `cargo xtask build-ebpf` ({detail})"
    )]
    BadObject {
        /// Origin of the object.
        origin: String,
        /// Error of the parser.
        detail: String,
    },
    /// The kernel refuses maps: missing privileges.
    #[error(
        "load kernel programs: {errno}; run as root, or give the process CAP_BPF and CAP_PERFMON \
         (kernel 5.8 or later)"
    )]
    Refused {
        /// Error of the kernel.
        errno: String,
    },
    /// No hook for TCP can be attached.
    #[error(
        "attach to inet_sock_set_state: not possible in this kernel: {reasons}; requires root or \
         CAP_PERFMON, and /sys/kernel/btf/vmlinux (kernel 5.8 or later) or tracefs mounted at \
         /sys/kernel/tracing"
    )]
    NoTcpHook {
        /// Each candidate with its reason.
        reasons: String,
    },
    /// A map of the contract is not in the object, or has another type.
    #[error("map {name}: not in the BPF object as this agent expects it; rebuild the object")]
    BadMap {
        /// Name of the map.
        name: &'static str,
        /// The cause.
        source: Option<MapError>,
    },
    /// A thread cannot be started.
    #[error("start a thread; is the limit of processes or memory reached?")]
    Thread(#[source] std::io::Error),
    /// Waiting for the ring buffer cannot be set up.
    #[error("wait for the ring buffer")]
    Wait(#[source] Errno),
}

pub(super) fn bad_map(name: &'static str, source: Option<MapError>) -> CaptureError {
    CaptureError::BadMap { name, source }
}
