//! `FeedFolder`: the last good set of each feed in the state directory.
//!
//! `NAME.set` is the set (see [`crate::intel::set::store`]), `NAME.new` a set that is being built,
//! `NAME.confirmed` the time of the last "not modified", and `.pull-*` the documents of a pull.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::intel::set::store::{SetFile, SetFileError, SetParts};

/// Directory of the saved sets.
#[derive(Debug, Clone)]
pub struct FeedFolder {
    path: PathBuf,
}

/// Last good set of a feed.
#[derive(Debug)]
pub struct SavedSet {
    /// The open file of the set.
    pub set: SetFile,
    /// Time at which the set was last confirmed.
    pub confirmed: Timestamp,
}

impl FeedFolder {
    /// Opens `feeds` in the state directory `state`; creates it (mode 0700) if it is absent.
    pub fn open(state: &Path) -> io::Result<Self> {
        let path = state.join("feeds");
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// `feeds` in the state directory `state`, for reading only; creates nothing.
    pub fn at(state: &Path) -> Self {
        Self { path: state.join("feeds") }
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of the set of feed `name`.
    pub fn set_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.set"))
    }

    pub(super) fn new_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.new"))
    }

    fn confirmed_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.confirmed"))
    }

    /// Removes files that a killed run left, and the sets of feeds that are not in `names`.
    pub(super) fn clean(&self, names: &[&str]) {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return };
        for entry in entries.filter_map(Result::ok) {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            let is_known = file
                .strip_suffix(".set")
                .or_else(|| file.strip_suffix(".confirmed"))
                .is_some_and(|name| names.contains(&name));
            if !is_known && let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "remove an old file");
            }
        }
    }

    /// Removes the set of feed `name`, which is no longer configured.
    pub(super) fn forget(&self, name: &str) {
        for path in [self.set_path(name), self.confirmed_path(name)] {
            let removed = std::fs::remove_file(&path);
            if let Err(error) = removed.or_else(ignore_not_found) {
                tracing::warn!(path = %path.display(), %error, "remove an old file");
            }
        }
    }

    /// Loads the last good set of feed `name`, if it has the same `origin`.
    pub fn load(&self, name: &str, origin: &str) -> Option<SavedSet> {
        let path = self.set_path(name);
        let set = match SetFile::open(&path, SetParts::Lookup) {
            Ok(set) => set,
            Err(SetFileError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                return None;
            }
            Err(error) => {
                let path = path.display();
                tracing::warn!(feed = name, %path, %error, "the last good set cannot be used");
                return None;
            }
        };
        if set.meta.origin != origin {
            tracing::info!(feed = name, "the last good set has another kind or location; ignored");
            return None;
        }
        let pulled = set.meta.pulled;
        let confirmed = std::fs::read_to_string(self.confirmed_path(name)).ok();
        let confirmed = confirmed.and_then(|text| text.trim_end().parse().ok());
        Some(SavedSet { confirmed: confirmed.map_or(pulled, |it: Timestamp| it.max(pulled)), set })
    }

    /// Removes an incomplete set.
    pub(super) fn remove_new(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.new_path(name)).or_else(ignore_not_found)
    }

    /// Replaces the set of feed `name` by the new one, atomically: a complete set exists at any time.
    pub(super) fn promote(&self, name: &str) -> Result<SetFile, SetFileError> {
        let new = self.new_path(name);
        let set = SetFile::open(&new, SetParts::Lookup)?;
        std::fs::rename(&new, self.set_path(name))?;
        File::open(&self.path)?.sync_all()?;
        Ok(set)
    }

    /// Records that the set of feed `name` is still the whole feed.
    pub(super) fn confirm(&self, name: &str, now: Timestamp) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        writeln!(file, "{now}")?;
        file.persist(self.confirmed_path(name))?;
        Ok(())
    }
}

/// Ignores the error of an absent file.
fn ignore_not_found(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
