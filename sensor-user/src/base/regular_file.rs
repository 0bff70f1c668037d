//! `regular_file`: opens files without waiting, and without following links that other users can plant.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::libc;
use nix::unistd::geteuid;

/// Write permission of the group and of everybody.
const OTHERS_WRITE: u32 = 0o022;

/// Opens a regular file for reading. A pipe, device or directory is an error at once: the first would
/// otherwise wait for its writer.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().read(true), 0)
}

/// Like [`open`]. In a directory that others can write, the path must not be a link, and the file must be
/// root's, this user's or the directory owner's: another user could otherwise have this program read what
/// they cannot.
pub(crate) fn open_trusted(path: &Path) -> io::Result<File> {
    let Some(folder) = shared_folder(path) else { return open(path) };
    let opened = open_with(path, OpenOptions::new().read(true), libc::O_NOFOLLOW);
    let file = opened.map_err(|error| name_link(error, path))?;
    check_owner(path, &file.metadata()?, &folder)?;
    Ok(file)
}

/// Checks a file that is written to, by the rules of [`open_trusted`]; a path that does not exist is good.
pub(crate) fn check_trusted(path: &Path) -> io::Result<()> {
    let Some(folder) = shared_folder(path) else { return Ok(()) };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(it) if it.is_symlink() => {
            Err(name_link(io::Error::from_raw_os_error(libc::ELOOP), path))
        }
        Ok(it) => check_owner(path, &it, &folder),
    }
}

fn open_with(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    // Not to wait for a pipe: it has no effect on regular files.
    let file = options.custom_flags(flags | libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    let text = "is not a regular file (but a pipe, device, socket or directory); use one";
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// The directory of `path`, if other users can add files to it.
fn shared_folder(path: &Path) -> Option<Metadata> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let metadata = std::fs::metadata(folder.unwrap_or_else(|| Path::new("."))).ok()?;
    (metadata.mode() & OTHERS_WRITE != 0).then_some(metadata)
}

fn check_owner(path: &Path, file: &Metadata, folder: &Metadata) -> io::Result<()> {
    if [0, geteuid().as_raw(), folder.uid()].contains(&file.uid()) {
        return Ok(());
    }
    let text = format!(
        "belongs to user {}, in a directory that others can write; use a file of root or of the agent's \
         user, or a directory of its own ({})",
        file.uid(),
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

fn name_link(error: io::Error, path: &Path) -> io::Error {
    if error.raw_os_error() != Some(libc::ELOOP) {
        return error;
    }
    let text = format!(
        "is a link, in a directory that others can write; use the path of the file itself ({})",
        path.display()
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        symlink(path("file"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(open(&path("file")).is_ok() && open(&path("link")).is_ok());
        for name in ["fifo", ""] {
            let error = open(&path(name)).unwrap_err().to_string();
            assert!(error.starts_with("is not a regular file"), "{name}: {error}");
        }
        open(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(open(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn links_and_files_of_others_are_refused_where_others_can_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        symlink(path("file"), path("link")).unwrap();
        for (mode, is_link_good) in [(0o755, true), (0o1777, false), (0o770, false)] {
            set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            assert!(open_trusted(&path("file")).is_ok(), "{mode:o}");
            assert!(check_trusted(&path("file")).is_ok() && check_trusted(&path("new")).is_ok());
            assert_eq!(open_trusted(&path("link")).is_ok(), is_link_good, "{mode:o}");
            assert_eq!(check_trusted(&path("link")).is_ok(), is_link_good, "{mode:o}");
        }
        let error = open_trusted(&path("link")).unwrap_err().to_string();
        assert!(error.starts_with("is a link, in a directory that others can write"), "{error}");
        if geteuid().is_root() {
            std::os::unix::fs::chown(path("file"), Some(65534), None).unwrap();
            let error = open_trusted(&path("file")).unwrap_err().to_string();
            assert!(error.starts_with("belongs to user 65534, in a directory"), "{error}");
            check_trusted(&path("file")).unwrap_err();
            // The owner of the directory may be anybody.
            std::os::unix::fs::chown(folder.path(), Some(65534), None).unwrap();
            open_trusted(&path("file")).unwrap();
        }
    }
}
