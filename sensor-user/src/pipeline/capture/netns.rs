//! Network namespaces: entry with `setns`, and return to the thread's own namespace.
//!
//! A namespace is identified by the inode number of its file in nsfs
//! ([namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html)).

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;

/// Network namespace in which a thread started, and to which it returns.
#[derive(Debug)]
pub struct HomeNetns {
    inode: u32,
    file: File,
    /// Link to the current namespace of the calling thread.
    current: PathBuf,
}

impl HomeNetns {
    /// Namespace of the calling thread. `proc_root` is `/proc`.
    pub fn of_this_thread(proc_root: &Path) -> io::Result<Self> {
        let current = proc_root.join("thread-self/ns/net");
        let file = File::open(&current)?;
        Ok(Self { inode: inode(&file)?, file, current })
    }

    /// Inode number of the namespace.
    pub const fn inode(&self) -> u32 {
        self.inode
    }

    /// Moves the calling thread back, if it is elsewhere: a move to the current namespace would
    /// also require `CAP_SYS_ADMIN`.
    pub fn enter(&self) -> io::Result<()> {
        let current = File::open(&self.current)?;
        if inode(&current)? == self.inode { Ok(()) } else { self.reenter() }
    }

    /// Moves the calling thread back from another namespace. Needs no new file descriptor, so that
    /// a lack of them cannot strand the thread.
    pub fn reenter(&self) -> io::Result<()> {
        enter_netns(&self.file)
    }
}

/// Moves the calling thread into a namespace; requires `CAP_SYS_ADMIN`
/// ([setns(2)](https://man7.org/linux/man-pages/man2/setns.2.html)).
pub fn enter_netns(namespace: &File) -> io::Result<()> {
    Ok(nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// Opens the namespace at `path`. The error is `NotFound` if it is another one than `expected`: the
/// process or the mount has been replaced.
pub fn open_netns(path: &Path, expected: u32) -> io::Result<File> {
    let file = File::open(path)?;
    if inode(&file)? == expected { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Inode number in the target of a link to a namespace, such as `net:[4026531840]`.
pub fn netns_of_link(target: &[u8]) -> Option<u32> {
    let digits = target.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn inode(file: &File) -> io::Result<u32> {
    // `ns_common.inum` is an unsigned int (include/linux/ns_common.h).
    u32::try_from(file.metadata()?.ino()).map_err(io::Error::other)
}
