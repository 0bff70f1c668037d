//! Files: what a process may write and execute, by Landlock. What may be read stays as it is.
//!
//! Not for a process that reads /proc of others: those outside its domain are hidden from it.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

/// The newest version whose rights are known here; an older kernel has fewer.
const KNOWN: ABI = ABI::V6;

/// What a process may do to files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Folders below which everything may be written, and single files.
    pub(crate) written: Vec<PathBuf>,
    /// Folders from which files may be removed.
    pub(crate) removed_from: Vec<PathBuf>,
    /// Files that may be executed.
    pub(crate) executed: Vec<PathBuf>,
}

/// Why there is no Landlock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// The kernel has none, or it is off.
    #[error("this kernel has no Landlock (5.13 and later, and not switched off by lsm=)")]
    Absent,
    /// The kernel refuses.
    #[error("Landlock: {0}")]
    Refused(#[from] RulesetError),
}

impl Files {
    /// From here on, for the calling thread and all that it starts. Paths that are not there are
    /// left out: they can be neither written nor executed.
    pub(crate) fn enforce(&self) -> Result<(), FilesError> {
        let write = AccessFs::from_write(KNOWN);
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(write | AccessFs::Execute)?
            .scope(Scope::Signal)?
            .create()?;
        let remove = AccessFs::RemoveFile.into();
        let execute = AccessFs::Execute.into();
        let rules =
            [(&self.written, write), (&self.removed_from, remove), (&self.executed, execute)];
        for (paths, access) in rules {
            for path in paths {
                if let Some(rule) = rule(path, access) {
                    ruleset = ruleset.add_rule(rule)?;
                }
            }
        }
        match ruleset.restrict_self()?.ruleset {
            RulesetStatus::NotEnforced => Err(FilesError::Absent),
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        }
    }
}

fn rule(path: &Path, access: BitFlags<AccessFs>) -> Option<PathBeneath<PathFd>> {
    let file = PathFd::new(path).ok()?;
    // Most rights are those of folders.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    Some(PathBeneath::new(file, access))
}
