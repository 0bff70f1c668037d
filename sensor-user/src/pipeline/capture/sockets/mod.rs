//! Socket scans: lists the open sockets of every network namespace.
//!
//! Probes report changes. A scan finds the sockets that predate the probes, and the byte counts of
//! open connections. Each namespace that has a process, a mount or an open file is entered
//! (`setns`, on a dedicated thread) and dumped over netlink
//! ([sock_diag(7)](https://man7.org/linux/man-pages/man7/sock_diag.7.html)). Where entry is
//! refused, the scan reads `/proc/PID/net` of a process in it, without cookies and counts. A scan
//! returns at most `max` sockets (others are counted), and begins no namespace after
//! [`TIME_LIMIT`].

mod diag;
mod namespaces;
mod open;
mod proc_net;

pub use open::{Ends, OpenSocket, OpenSockets, TcpCounts};

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::netns::HomeNetns;
use crate::base::clock;
use crate::base::counters::Stats;
use namespaces::Namespace;
use open::SocketBuffer;

/// Time limit of a scan; namespaces that are left then are skipped (counted).
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Scans the open sockets. It moves its thread between namespaces, and so needs a dedicated one.
#[derive(Debug)]
pub struct SocketReader {
    proc_root: PathBuf,
    home: Option<HomeNetns>,
    max: usize,
    /// Namespaces that were read completely before. Absent ones among them have ended; others may
    /// just be unreachable.
    read_before: HashSet<u32>,
    logged: LoggedOnce,
    stats: Arc<Stats>,
}

/// Problems that are logged only once.
#[derive(Debug, Default)]
struct LoggedOnce {
    not_entered: bool,
    not_read: bool,
    buffer_full: bool,
}

impl SocketReader {
    /// A reader of at most `max` sockets per scan. Must be called on the thread that scans.
    pub fn new(proc_root: &Path, max: usize, stats: Arc<Stats>) -> Self {
        Self {
            proc_root: proc_root.to_owned(),
            home: HomeNetns::of_this_thread(proc_root).ok(),
            max,
            read_before: HashSet::new(),
            logged: LoggedOnce::default(),
            stats,
        }
    }

    /// Scans the namespaces whose inode numbers are in `only` (all with `None`). `files` are open
    /// files that refer to namespaces without a process or a mount.
    pub fn scan(&mut self, only: Option<&HashSet<u32>>, files: &[(u32, PathBuf)]) -> OpenSockets {
        let began_boot_ns = clock::boot_ns();
        let mut buffer = SocketBuffer::new(self.max);
        let all = namespaces::list(&self.proc_root, files);
        let mut complete = HashSet::new();
        for namespace in &all {
            if only.is_some_and(|only| !only.contains(&namespace.inode)) {
                continue;
            }
            let elapsed_ns = clock::boot_ns().saturating_sub(began_boot_ns);
            if Duration::from_nanos(elapsed_ns) > TIME_LIMIT {
                self.stats.namespaces_skipped_timeout.increment();
            } else if self.read(namespace, &mut buffer) {
                complete.insert(namespace.inode);
            }
        }
        // Outside of its home the thread would keep a namespace of others alive.
        if let Some(Err(error)) = self.home.as_ref().map(HomeNetns::enter) {
            tracing::debug!(%error, "cannot return to the agent's network namespace");
        }
        self.read_before.extend(&complete);
        // A namespace that was read before and is absent now has ended, with all of its sockets.
        let present: HashSet<u32> = all.iter().map(|namespace| namespace.inode).collect();
        let wanted = |inode: &u32| only.is_none_or(|only| only.contains(inode));
        self.read_before.retain(|inode| present.contains(inode) || wanted(inode));
        complete.extend(self.read_before.difference(&present));
        if buffer.dropped > 0 {
            self.stats.sockets_dropped_full.add(buffer.dropped);
            // A socket that is not in the list may be among the dropped ones.
            complete.clear();
            if !std::mem::replace(&mut self.logged.buffer_full, true) {
                tracing::error!(
                    dropped = buffer.dropped,
                    max = self.max,
                    "more sockets are open than can be tracked; see connections.max"
                );
            }
        }
        self.stats.sockets_scanned.add(buffer.len() as u64);
        OpenSockets::new(began_boot_ns, buffer, complete)
    }

    /// Reads the sockets of a namespace. Returns true if the list is complete.
    fn read(&mut self, namespace: &Namespace, buffer: &mut SocketBuffer) -> bool {
        let home = self.home.as_ref().filter(|home| home.inode() == namespace.inode);
        let entered = home.map_or_else(|| namespace.enter(), HomeNetns::enter);
        let refused = match entered {
            Ok(()) => match diag::read(namespace.inode, buffer, &self.stats) {
                Ok(()) => return true,
                Err(error) => error.to_string(),
            },
            // It has ended since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(error) => error.to_string(),
        };
        if !std::mem::replace(&mut self.logged.not_entered, true) {
            tracing::warn!(
                namespace = namespace.inode,
                error = %refused,
                "cannot enter a network namespace; /proc/PID/net is read instead, without byte counts \
                 and round-trip times (it takes CAP_SYS_ADMIN, and the kernel modules tcp_diag and \
                 udp_diag)"
            );
        }
        let read = namespace.pid.map_or_else(
            || Err(io::Error::other("it has no process")),
            |pid| proc_net::read(&self.proc_root, pid, namespace.inode, buffer),
        );
        if let Err(error) = read {
            self.stats.namespaces_failed.increment();
            if !std::mem::replace(&mut self.logged.not_read, true) {
                tracing::warn!(
                    namespace = namespace.inode,
                    %error,
                    "cannot list the open sockets of a network namespace; its connections are reported \
                     from their next change on"
                );
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn open_sockets_of_this_process_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        udp.connect("[::1]:9").unwrap();
        let mut reader = SocketReader::new(Path::new("/proc"), 100_000, Arc::default());
        let own = reader.home.as_ref().unwrap().inode();
        let scan = reader.scan(Some(&HashSet::from([own])), &[]);
        let local = client.local_addr().unwrap();
        let is = |socket: &&OpenSocket| socket.ends.local_port == local.port();
        let found = scan.connections.iter().find(is).unwrap();
        assert_eq!((found.netns, found.ends.local), (own, local.ip()));
        assert!(found.cookie != 0 && found.counts.is_some() && found.inode != 0, "{found:?}");
        let listens = listener.local_addr().unwrap().port();
        assert!(scan.listeners.iter().any(|socket| socket.ends.local_port == listens));
        let udp = udp.local_addr().unwrap().port();
        assert!(scan.udp.iter().any(|it| it.ends.local_port == udp && it.ends.remote_port == 9));
        assert!(scan.namespaces.contains(&own));
    }

    #[test]
    fn no_more_sockets_are_returned_than_the_maximum() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stats = Arc::<Stats>::default();
        let mut reader = SocketReader::new(Path::new("/proc"), 0, Arc::clone(&stats));
        let own = reader.home.as_ref().unwrap().inode();
        let scan = reader.scan(Some(&HashSet::from([own])), &[]);
        assert!(scan.listeners.is_empty() && scan.namespaces.is_empty());
        assert!(stats.sockets_dropped_full.value() > 0);
    }
}
