//! `SocketOwners`: the process that owns each socket, by the file descriptors in `/proc/PID/fd`
//! ([proc_pid_fd(5)](https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html)).
//!
//! Several processes can have one socket open. The owner is the one that started first: it had the
//! socket before the processes that inherited it. (A server that forks for each connection closes
//! its own copy.)

use std::collections::{HashMap, HashSet};
use std::fs::DirEntry;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::proc_fs;
use crate::base::proc_threads::live_directory;
use crate::pipeline::capture::netns_of_link;

/// Maximum number of open files kept that refer to a network namespace.
const NAMESPACE_FILES_MAX: usize = 4096;

/// A process that owns a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOwner {
    /// Process id of the owner.
    pub pid: u32,
    /// Start, ns since boot, rounded down to a clock tick.
    pub start_boot_ns: u64,
}

/// Owners of sockets, from the file descriptors of all processes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SocketOwners {
    /// Owner by inode number of the socket.
    by_inode: HashMap<u32, SocketOwner>,
    /// Network namespaces that an open file refers to: inode number, and that file
    /// (`/proc/PID/fd/N`).
    #[serde(skip)]
    pub namespace_files: Vec<(u32, PathBuf)>,
}

impl SocketOwners {
    /// Finds the owners of the sockets with these inode numbers. Descriptors of other users'
    /// processes require `CAP_SYS_PTRACE`; unreadable ones are skipped.
    pub fn read(proc_root: &Path, wanted: &HashSet<u32>) -> Self {
        let mut owners = Self::default();
        let mut namespaces = HashSet::new();
        for pid in proc_fs::running(proc_root) {
            let mut start = None;
            for file in open_files(&proc_root.join(pid.to_string())) {
                let Ok(target) = std::fs::read_link(file.path()) else { continue };
                let target = target.as_os_str().as_bytes();
                if let Some(inode) = socket_inode(target).filter(|it| wanted.contains(it)) {
                    let read_start = || proc_fs::start_boot_ns(proc_root, pid);
                    // The process has exited.
                    let Some(start_boot_ns) = *start.get_or_insert_with(read_start) else { break };
                    owners.add(inode, SocketOwner { pid, start_boot_ns });
                } else if let Some(inode) = netns_of_link(target)
                    && namespaces.len() < NAMESPACE_FILES_MAX
                    && namespaces.insert(inode)
                {
                    owners.namespace_files.push((inode, file.path()));
                }
            }
        }
        owners
    }

    /// Owner of the socket with this inode number.
    pub fn get(&self, inode: u32) -> Option<SocketOwner> {
        self.by_inode.get(&inode).copied()
    }

    /// Adds the owners that another scan found.
    pub fn extend(&mut self, other: &Self) {
        for (inode, owner) in &other.by_inode {
            self.add(*inode, *owner);
        }
    }

    fn add(&mut self, inode: u32, owner: SocketOwner) {
        let age = |it: &SocketOwner| (it.start_boot_ns, it.pid);
        let known = self.by_inode.entry(inode).or_insert(owner);
        if age(&owner) < age(known) {
            *known = owner;
        }
    }
}

/// Links to the open files of a process; none if they are not readable.
fn open_files(process: &Path) -> impl Iterator<Item = DirEntry> {
    let list = |directory: &Path| {
        let entries = std::fs::read_dir(directory.join("fd"));
        entries.into_iter().flatten().flatten().peekable()
    };
    let mut files = list(process);
    if files.peek().is_none() {
        files = list(&live_directory(process));
    }
    files
}

/// Inode number in the target of a link to a socket, such as `socket:[4711]`.
fn socket_inode(target: &[u8]) -> Option<u32> {
    let digits = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn this_process_owns_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = socket_inode(link.as_os_str().as_bytes()).unwrap();
        let owners = SocketOwners::read(Path::new("/proc"), &HashSet::from([inode]));
        assert_eq!(owners.get(inode).unwrap().pid, std::process::id());
        assert_eq!(owners.get(inode.wrapping_add(1)), None);
    }

    #[test]
    fn of_several_owners_the_first_to_start_counts() {
        let mut owners = SocketOwners::default();
        for (pid, start_boot_ns) in [(9, 300), (7, 200), (8, 200), (6, 400)] {
            owners.add(1, SocketOwner { pid, start_boot_ns });
        }
        assert_eq!(owners.get(1), Some(SocketOwner { pid: 7, start_boot_ns: 200 }));
    }
}
