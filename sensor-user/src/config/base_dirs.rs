//! The directories that paths of a configuration are relative to.

use std::path::Path;

/// Where the paths of a configuration begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BaseDirs<'p> {
    /// The folder of the file.
    pub(crate) folder: &'p Path,
    /// The folder of the unit's credentials.
    pub(crate) credentials: Option<&'p Path>,
}

impl Default for BaseDirs<'_> {
    fn default() -> Self {
        Self { folder: Path::new(""), credentials: None }
    }
}
