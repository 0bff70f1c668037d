//! Errors of the configuration file.

use std::path::PathBuf;

use super::section::{self, Problem};

/// A configuration file is not larger than this, bytes.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// Why there is no `Config`. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others than the file's owner can change what the agent does.
    #[error(
        "{}: can be written by its group or by everybody (mode {mode:04o}); run chmod go-w {}",
        path.display(),
        path.display()
    )]
    Writable {
        /// The file, or its folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is not one that a person wrote.
    #[error("{}: is over {MAX_FILE} bytes; is this the configuration file?", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// The file says something that cannot be.
    #[error("{}", section::lines(path, problems))]
    Invalid {
        /// Which.
        path: PathBuf,
        /// All that is wrong, in the order of the file; at least one.
        problems: Vec<Problem>,
    },
    /// Neither configuration nor environment names a state directory.
    #[error(
        "agent.state_dir: not set, and neither XDG_STATE_HOME nor HOME is an absolute path; set one of them"
    )]
    NoStateDir,
}
