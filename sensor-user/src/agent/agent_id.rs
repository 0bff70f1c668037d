//! The state directory, and the agent's identity in it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::base::escape::escaped;
use crate::base::regular_file;

/// Reason why the state directory is unusable.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory cannot be created.
    #[error("create the state directory {}", path.display())]
    Directory {
        /// Path of the directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The id cannot be read or written.
    #[error("read or write the agent id {}", path.display())]
    File {
        /// Path of the id file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file contains no valid id.
    #[error(
        "{}: \"{text}\" is not an agent id (a UUID); restore the file, or remove it and this host \
         gets a new identity",
        path.display()
    )]
    Corrupt {
        /// Path of the id file.
        path: PathBuf,
        /// Beginning of the file, escaped.
        text: String,
    },
}

/// Creates `dir` (mode 0700) if it is absent, and returns the agent's id, which is generated at the first
/// start and then persists.
pub fn agent_id(dir: &Path) -> Result<Uuid, StateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| StateError::Directory { path: dir.to_owned(), source })?;
    let path = dir.join("agent-id");
    let failed = |source| StateError::File { path: path.clone(), source };
    if let Some(text) = read(&path).map_err(failed)? {
        return parse(&path, &text);
    }
    // Two agents that start at the same time agree on an id: only one of them can create the link, and
    // both read its target.
    let temporary = dir.join(format!("agent-id.{}", Uuid::new_v4().simple()));
    let created = write(&temporary).and_then(|()| std::fs::hard_link(&temporary, &path));
    let removed = std::fs::remove_file(&temporary);
    if let Err(error) = created
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(failed(error));
    }
    removed.map_err(failed)?;
    let text = read(&path).map_err(failed)?.unwrap_or_default();
    parse(&path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Uuid, StateError> {
    text.trim_end().parse().map_err(|_not_a_uuid: uuid::Error| StateError::Corrupt {
        path: path.to_owned(),
        text: escaped(text.trim_end(), 40),
    })
}

/// The file's text, lossy, at most 4 KiB; `None` if there is no such file.
fn read(path: &Path) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    match regular_file::open(path) {
        Ok(file) => file.take(4096).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn write(path: &Path) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(format!("{}\n", Uuid::new_v4()).as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{StateError, agent_id};

    #[test]
    fn the_id_is_generated_once_and_is_private() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let first = agent_id(&dir).unwrap();
        assert_eq!(agent_id(&dir).unwrap(), first);
        assert_eq!(first.get_version_num(), 4);
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.clone()), 0o700);
        assert_eq!(mode(dir.join("agent-id")), 0o600);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn the_error_of_a_corrupt_id_has_a_hint_and_the_file_stays() {
        let root = tempfile::tempdir().unwrap();
        for text in ["", "not-a-uuid\u{1b}[31m\n", "\u{0}"] {
            std::fs::write(root.path().join("agent-id"), text).unwrap();
            let error = agent_id(root.path()).unwrap_err();
            assert!(matches!(error, StateError::Corrupt { .. }), "{text:?}: {error}");
            let message = error.to_string();
            assert!(message.contains("is not an agent id") && message.contains("remove it"));
            assert!(!message.contains('\u{1b}'), "{message:?}");
            assert_eq!(std::fs::read_to_string(root.path().join("agent-id")).unwrap(), text);
        }
    }

    #[test]
    fn agents_that_start_at_the_same_time_have_the_same_id() {
        let root = tempfile::tempdir().unwrap();
        let ids: std::collections::BTreeSet<_> = std::thread::scope(|scope| {
            let start = || scope.spawn(|| agent_id(&root.path().join("s")).unwrap());
            [start(), start()].map(|thread| thread.join().unwrap()).into()
        });
        assert_eq!(ids.len(), 1);
    }
}
