//! `SocketOwners`: which process holds a socket, by the file tables (`/proc/*/fd`).
//!
//! Of several holders it is the one that began first: it had the socket before those that
//! inherited it. (Who forks a child for each connection closes its own copy.)

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::proc_fs;
use crate::pipeline::capture::netns_of_link;

/// Open files that name a network namespace, kept at most.
const NAMESPACE_FILES_MAX: usize = 4096;

/// A process that holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOwner {
    /// Process id.
    pub pid: u32,
    /// Start, ns since boot, cut to the clock tick of /proc.
    pub start_boot_ns: u64,
}

/// What the file tables tell.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SocketOwners {
    /// SocketOwner by inode number of the socket.
    by_inode: HashMap<u32, SocketOwner>,
    /// Network namespaces that an open file names, by inode number, with that file
    /// (`/proc/PID/fd/N`).
    #[serde(skip)]
    pub namespace_files: Vec<(u32, PathBuf)>,
}

impl SocketOwners {
    /// Looks for the holders of the sockets with these inode numbers. Another's files can be read
    /// with `CAP_SYS_PTRACE` only; what cannot be read is passed over.
    pub fn read(proc_root: &Path, wanted: &HashSet<u32>) -> Self {
        let mut holders = Self::default();
        let mut namespaces = HashSet::new();
        for pid in proc_fs::running(proc_root) {
            let Ok(files) = std::fs::read_dir(proc_root.join(pid.to_string()).join("fd")) else {
                continue;
            };
            let mut start = None;
            for file in files.flatten() {
                let Ok(target) = std::fs::read_link(file.path()) else { continue };
                let target = target.as_os_str().as_bytes();
                if let Some(inode) = socket_inode(target).filter(|it| wanted.contains(it)) {
                    let began = || proc_fs::start_boot_ns(proc_root, pid);
                    let Some(start_boot_ns) = *start.get_or_insert_with(began) else { break };
                    holders.add(inode, SocketOwner { pid, start_boot_ns });
                } else if let Some(inode) = netns_of_link(target)
                    && namespaces.len() < NAMESPACE_FILES_MAX
                    && namespaces.insert(inode)
                {
                    holders.namespace_files.push((inode, file.path()));
                }
            }
        }
        holders
    }

    /// Who holds the socket with this inode number.
    pub fn get(&self, inode: u32) -> Option<SocketOwner> {
        self.by_inode.get(&inode).copied()
    }

    /// Adds the holders of another reading.
    pub fn extend(&mut self, other: &Self) {
        for (inode, holder) in &other.by_inode {
            self.add(*inode, *holder);
        }
    }

    fn add(&mut self, inode: u32, holder: SocketOwner) {
        let age = |it: &SocketOwner| (it.start_boot_ns, it.pid);
        let known = self.by_inode.entry(inode).or_insert(holder);
        if age(&holder) < age(known) {
            *known = holder;
        }
    }
}

/// The inode number out of `socket:[4711]`.
fn socket_inode(name: &[u8]) -> Option<u32> {
    let digits = name.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn this_process_holds_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = socket_inode(link.as_os_str().as_bytes()).unwrap();
        let holders = SocketOwners::read(Path::new("/proc"), &HashSet::from([inode]));
        assert_eq!(holders.get(inode).unwrap().pid, std::process::id());
        assert_eq!(holders.get(inode.wrapping_add(1)), None);
    }

    #[test]
    fn of_several_holders_the_first_to_begin_is_named() {
        let mut holders = SocketOwners::default();
        for (pid, start_boot_ns) in [(9, 300), (7, 200), (8, 200), (6, 400)] {
            holders.add(1, SocketOwner { pid, start_boot_ns });
        }
        assert_eq!(holders.get(1), Some(SocketOwner { pid: 7, start_boot_ns: 200 }));
    }
}
