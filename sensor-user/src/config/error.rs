//! Errors of the configuration file.

use std::path::PathBuf;

use super::section::{self, Problem};

/// Maximum size of a configuration file in bytes.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// Reason for which there is no `Config`. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        #[source]
        source: std::io::Error,
    },
    /// Users other than the file's owner can change the configuration.
    #[error(
        "{}: can be written by its group or by everybody (mode {mode:04o}); run chmod go-w {}",
        path.display(),
        path.display()
    )]
    Writable {
        /// Path of the file, or of its directory.
        path: PathBuf,
        /// Permissions of the file.
        mode: u32,
    },
    /// The file is too large for a hand-written one.
    #[error("{}: is over {MAX_FILE} bytes; is this the configuration file?", path.display())]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file is invalid.
    #[error("{}", section::lines(path, problems))]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// All problems, in the order of the file; at least one.
        problems: Vec<Problem>,
    },
    /// Neither the configuration nor the environment has a state directory.
    #[error(
        "agent.state_dir: not set, and neither XDG_STATE_HOME nor HOME is an absolute path; set one of them"
    )]
    NoStateDir,
}
