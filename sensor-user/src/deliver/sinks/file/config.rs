//! Settings of the file sink.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of `kind = "file"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileConfig {
    /// Absolute path of the file.
    pub path: PathBuf,
    /// Maximum size before rotation, bytes.
    pub max_bytes: Option<u64>,
    /// Maximum age before rotation, checked at a write.
    pub max_age: Option<Duration>,
    /// Number of rotated files to retain: `path.1`, the latest, to `path.KEEP`.
    pub keep: u32,
}

impl FileConfig {
    /// Default of `keep`.
    pub const KEEP: u32 = 5;

    /// A file that the agent never rotates.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, max_bytes: None, max_age: None, keep: Self::KEEP }
    }

    /// Path of a rotated file: `path.number`.
    pub(super) fn rotated(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}
