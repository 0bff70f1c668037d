//! Access to the network namespaces of connections.
//!
//! No namespace is kept open between two visits: an open namespace outlives its container.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

use lru::LruCache;

use crate::pipeline::capture::{HomeNetns, enter_netns, open_netns};

/// Maximum number of namespaces for which a process is remembered.
const REMEMBERED_MAX: usize = 1024;
/// Directories in which iproute2, containerd, CRI-O and Docker mount namespaces.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// Access to other namespaces from that of this thread.
#[derive(Debug)]
pub(super) struct Namespaces {
    home: HomeNetns,
    /// True if the thread could not return to its namespace: it is useless from then on.
    is_astray: bool,
    /// A process in each recently visited namespace.
    remembered: LruCache<u32, u32>,
}

impl Namespaces {
    /// Access from the namespace of the calling thread.
    pub(super) fn of_this_thread() -> io::Result<Self> {
        let home = HomeNetns::of_this_thread(Path::new("/proc"))?;
        let max = NonZeroUsize::new(REMEMBERED_MAX).unwrap_or(NonZeroUsize::MIN);
        Ok(Self { home, is_astray: false, remembered: LruCache::new(max) })
    }

    /// True if the calling thread is in its own namespace.
    pub(super) const fn is_home(&self) -> bool {
        !self.is_astray
    }

    /// True if `netns` (an inode number; 0 if unknown) is the own namespace.
    pub(super) const fn is_own(&self, netns: u32) -> bool {
        netns == 0 || netns == self.home.inode()
    }

    /// Calls `visit` in the namespace `netns`, in which one of `pids` may be. `None` if it cannot be entered,
    /// or the thread could not return once. Must be called on the thread that created this value.
    pub(super) fn within<T>(
        &mut self,
        netns: u32,
        pids: impl Iterator<Item = u32>,
        visit: impl FnOnce() -> T,
    ) -> Option<T> {
        let namespace = self.find(netns, pids).filter(|_| self.is_home())?;
        enter_netns(&namespace).ok()?;
        let result = visit();
        match self.home.reenter() {
            Ok(()) => Some(result),
            Err(error) => {
                tracing::error!(%error, "cannot return to the agent's network namespace");
                self.is_astray = true;
                None
            }
        }
    }

    fn find(&mut self, netns: u32, pids: impl Iterator<Item = u32>) -> Option<File> {
        let known = self.remembered.get(&netns).copied();
        for pid in pids.chain(known) {
            if let Ok(file) = open_netns(Path::new(&format!("/proc/{pid}/ns/net")), netns) {
                self.remembered.put(netns, pid);
                return Some(file);
            }
        }
        NAMED.iter().find_map(|folder| {
            let entries = std::fs::read_dir(folder).ok()?;
            entries.flatten().find_map(|entry| open_netns(&entry.path(), netns).ok())
        })
    }
}
