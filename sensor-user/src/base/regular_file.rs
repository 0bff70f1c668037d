//! Files that the configuration names: opened without waiting, and not through links of other users.
//!
//! A pipe without a writer must not stop the agent, and a user who can write to the folder of a feed must
//! not make the agent, which may read more, open another file with it.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};

/// Write permission of the group and of everybody.
pub(crate) const OTHERS_WRITE: u32 = 0o022;
/// In a directory with this bit, only the owner of a file can replace it.
pub(crate) const STICKY: u32 = 0o1000;

/// Reason why a file is not opened; the source of an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegularFileError {
    /// A pipe, a socket, a device or a directory.
    #[error("is not a regular file (but a pipe, device, socket or directory); use one")]
    NotRegular,
    /// Another user can have made the link.
    #[error("is a link, in a directory that others can write; use the path of the file itself")]
    Link,
    /// Another user can have put the file there.
    #[error(
        "belongs to user {uid}, in a directory that others can write; use a file of root or of the agent's \
         user, or a directory of its own"
    )]
    Owner {
        /// Owner of the file.
        uid: u32,
    },
}

impl RegularFileError {
    /// The reason of `error`, if it has one of these.
    #[cfg(test)]
    fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<RegularFileError> for io::Error {
    fn from(error: RegularFileError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Opens the regular file at `path` for reading. Never waits, and refuses everything else.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    regular(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

/// Like [`open`], and follows no link, and takes no file, that other users can have put there:
/// see [`RegularFileError`]. Links in folders that only root and the agent can write to are followed.
pub(crate) fn open_trusted(path: &Path) -> io::Result<File> {
    regular(open_checked(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?)
}

/// Opens the file at `path` for reading and appending, and creates it with mode 0600. It has the rules of
/// [`open_trusted`], but may be a device or a pipe in a folder that only root and the agent can write to.
pub(crate) fn open_to_append(path: &Path) -> io::Result<File> {
    open_checked(path, OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT)
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(RegularFileError::NotRegular.into()) }
}

fn open_checked(path: &Path, flags: OFlag) -> io::Result<File> {
    let mut path = std::path::absolute(path)?;
    let mut is_open = is_open_to_others(&path)?;
    if !is_open && let Ok(target) = std::fs::canonicalize(&path) {
        is_open = is_open_to_others(&target)?;
        path = target;
    }
    let flags = flags | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    if is_open {
        let file = open_without_links(&path, flags | OFlag::O_NONBLOCK)?;
        check_owner(&file, &path)?;
        return regular(file);
    }
    let file = openat(nix::fcntl::AT_FDCWD, &path, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(file.into())
}

/// True if a user other than root and the agent's can change what a component of `path` refers to.
fn is_open_to_others(path: &Path) -> io::Result<bool> {
    for (entry, folder) in path.ancestors().zip(path.ancestors().skip(1)) {
        let folder_metadata = std::fs::metadata(folder)?;
        let can_write = !is_own(&folder_metadata) || folder_metadata.mode() & OTHERS_WRITE != 0;
        let is_kept = is_own(&folder_metadata)
            && folder_metadata.mode() & STICKY != 0
            && std::fs::symlink_metadata(entry).is_ok_and(|entry| is_own(&entry));
        // Volumes of Kubernetes have mode 0777, and are mounted read-only.
        let is_read_only =
            || statvfs(folder).is_ok_and(|it| it.flags().contains(FsFlags::ST_RDONLY));
        if can_write && !is_kept && !is_read_only() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True if it belongs to root or to the agent's user.
fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == nix::unistd::geteuid().as_raw()
}

/// Opens one component after the other, so that no link is followed whenever it was made.
fn open_without_links(path: &Path, flags: OFlag) -> io::Result<File> {
    let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let linked = |errno| match errno {
        Errno::ELOOP => RegularFileError::Link.into(),
        other => io::Error::from(other),
    };
    let mut parent: OwnedFd = openat(nix::fcntl::AT_FDCWD, "/", folder, Mode::empty())?;
    let mut reached = std::path::PathBuf::from("/");
    let mut names: Vec<&OsStr> = path.components().filter_map(name).collect();
    let last = names.pop().ok_or(RegularFileError::NotRegular)?;
    for name in names {
        reached.push(name);
        parent = openat(&parent, name, folder, Mode::empty()).map_err(|errno| {
            // A link is "not a directory" here.
            let is_link = std::fs::symlink_metadata(&reached).is_ok_and(|it| it.is_symlink());
            linked(if is_link { Errno::ELOOP } else { errno })
        })?;
    }
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let file = openat(&parent, last, flags | OFlag::O_NOFOLLOW, mode).map_err(linked)?;
    Ok(file.into())
}

fn name(component: Component<'_>) -> Option<&OsStr> {
    match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }
}

/// Checks who made `file`. A second name (hard link) may be of another user's file.
fn check_owner(file: &File, path: &Path) -> io::Result<()> {
    let metadata = file.metadata()?;
    let uid = metadata.uid();
    let folder = path.parent().map(std::fs::metadata).transpose()?;
    let is_of_folder = folder.is_some_and(|folder| folder.uid() == uid);
    let is_single = metadata.nlink() <= 1;
    if is_single && (is_of_folder || is_own(&metadata)) {
        return Ok(());
    }
    Err(RegularFileError::Owner { uid }.into())
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, hard_link, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn reason(opened: io::Result<File>) -> Option<RegularFileError> {
        opened.err().map(|error| RegularFileError::of(&error).expect("one of these"))
    }

    #[test]
    fn a_link_is_followed_only_where_others_cannot_make_it() {
        let root = tempfile::tempdir().unwrap();
        let (own, shared) = (root.path().join("own"), root.path().join("shared"));
        for folder in [&own, &shared] {
            std::fs::create_dir(folder).unwrap();
            write(folder.join("file"), "203.0.113.9\n").unwrap();
            symlink(own.join("file"), folder.join("link")).unwrap();
            std::fs::create_dir(folder.join("sub")).unwrap();
            write(folder.join("sub/file"), "").unwrap();
            symlink(folder.join("sub"), folder.join("sub-link")).unwrap();
        }
        symlink(shared.join("link"), own.join("to-shared-link")).unwrap();
        symlink(shared.join("file"), own.join("to-shared-file")).unwrap();
        hard_link(own.join("file"), shared.join("second-name")).unwrap();
        set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
        for path in ["file", "link", "sub/file", "sub-link/file", "to-shared-file"] {
            assert_eq!(reason(open_trusted(&own.join(path))), None, "{path}");
        }
        for path in ["file", "sub/file", "sub/../file", "./file"] {
            assert_eq!(reason(open_trusted(&shared.join(path))), None, "{path}");
        }
        for path in ["link", "sub-link/file", "sub/../link"] {
            let path = shared.join(path);
            assert_eq!(reason(open_trusted(&path)), Some(RegularFileError::Link), "{path:?}");
            assert_eq!(reason(open_to_append(&path)), Some(RegularFileError::Link), "{path:?}");
        }
        let second = reason(open_trusted(&shared.join("second-name")));
        assert_eq!(second, Some(RegularFileError::Owner { uid: nix::unistd::geteuid().as_raw() }));
        if nix::unistd::geteuid().is_root() {
            let other = Some(65534);
            std::os::unix::fs::chown(shared.join("file"), other, None).unwrap();
            let refused = reason(open_trusted(&shared.join("file")));
            assert_eq!(refused, Some(RegularFileError::Owner { uid: 65534 }));
            // The owner of the directory may be anybody, and is not trusted with links.
            std::os::unix::fs::chown(&shared, other, None).unwrap();
            set_permissions(&shared, Permissions::from_mode(0o755)).unwrap();
            assert_eq!(reason(open_trusted(&shared.join("file"))), None);
            assert_eq!(reason(open_trusted(&shared.join("link"))), Some(RegularFileError::Link));
        }
        // A link to a new file is not created.
        symlink(own.join("new"), shared.join("dangling")).unwrap();
        let created = reason(open_to_append(&shared.join("dangling")));
        assert_eq!((created, own.join("new").exists()), (Some(RegularFileError::Link), false));
        assert_eq!(reason(open_to_append(&shared.join("new"))), None);
    }

    #[test]
    fn what_is_not_a_file_is_refused_without_waiting() {
        let root = tempfile::tempdir().unwrap();
        let pipe = root.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let socket = root.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&pipe, Path::new("/dev/zero"), root.path()] {
            assert_eq!(reason(open(path)), Some(RegularFileError::NotRegular), "{path:?}");
            assert_eq!(reason(open_trusted(path)), Some(RegularFileError::NotRegular), "{path:?}");
        }
        assert!(open(&socket).is_err(), "a socket cannot be opened (ENXIO)");
        assert!(open_to_append(Path::new("/dev/null")).is_ok(), "a device of root");
    }
}
