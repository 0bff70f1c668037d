//! Network namespaces: entered by a thread of its own, and left again.
//!
//! Nothing is kept open between two visits: an open namespace outlives its container.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use lru::LruCache;
use nix::sched::{CloneFlags, setns};

/// Namespaces of which a process is remembered at most.
const REMEMBERED_MAX: usize = 1024;
/// Where iproute2, containerd, CRI-O and Docker keep names of namespaces.
const NAMED: [&str; 2] = ["/run/netns", "/run/docker/netns"];

/// The way from this thread's namespace to others and back.
#[derive(Debug)]
pub(crate) struct Namespaces {
    own: File,
    own_number: u64,
    /// The thread could not come back, and is of no use any more.
    astray: bool,
    /// A process that was in a namespace.
    remembered: LruCache<u32, u32>,
}

impl Namespaces {
    /// From the calling thread's.
    pub(crate) fn of_this_thread() -> io::Result<Self> {
        let own = File::open("/proc/thread-self/ns/net")?;
        let own_number = own.metadata()?.ino();
        let most = NonZeroUsize::new(REMEMBERED_MAX).unwrap_or(NonZeroUsize::MIN);
        Ok(Self { own, own_number, astray: false, remembered: LruCache::new(most) })
    }

    /// Whether the calling thread is where it began.
    pub(crate) const fn is_home(&self) -> bool {
        !self.astray
    }

    /// Whether `netns` (an inode number; 0 when unknown) is the one to go from.
    pub(crate) fn is_own(&self, netns: u32) -> bool {
        netns == 0 || u64::from(netns) == self.own_number
    }

    /// Calls `visit` in the namespace `netns`, in which one of `pids` may be; `None` where there is
    /// no way into it, or the way back failed once. To be called on the thread that made this.
    pub(crate) fn within<T>(
        &mut self,
        netns: u32,
        pids: impl Iterator<Item = u32>,
        visit: impl FnOnce() -> T,
    ) -> Option<T> {
        let there = self.find(netns, pids).filter(|_| self.is_home())?;
        setns(there.as_fd(), CloneFlags::CLONE_NEWNET).ok()?;
        let result = visit();
        match setns(self.own.as_fd(), CloneFlags::CLONE_NEWNET) {
            Ok(()) => Some(result),
            Err(error) => {
                tracing::error!(%error, "cannot return to the agent's network namespace");
                self.astray = true;
                None
            }
        }
    }

    fn find(&mut self, netns: u32, pids: impl Iterator<Item = u32>) -> Option<File> {
        let known = self.remembered.get(&netns).copied();
        for pid in pids.chain(known) {
            if let Some(file) = open(Path::new(&format!("/proc/{pid}/ns/net")), netns) {
                self.remembered.put(netns, pid);
                return Some(file);
            }
        }
        NAMED.iter().find_map(|folder| {
            let entries = std::fs::read_dir(folder).ok()?;
            entries.flatten().find_map(|entry| open(&entry.path(), netns))
        })
    }
}

/// The namespace at `path`, if it is the one with this number.
fn open(path: &Path, netns: u32) -> Option<File> {
    let file = File::open(path).ok()?;
    (file.metadata().ok()?.ino() == u64::from(netns)).then_some(file)
}
