//! Open sockets: what the kernel has open at a moment, in every network namespace.
//!
//! Probes tell what changes; this tells what was there before them, and what long-lived
//! connections have moved. Every namespace that a process is in, that is mounted, or that an open
//! file holds is entered (`setns`, on a thread that does nothing else) and asked over netlink
//! (`sock_diag`). Where entering is refused, `/proc/PID/net` of a process in it is read instead,
//! which has no cookies and no counts. At most `max` sockets are taken (the rest is counted), and
//! no namespace is begun after [`LIMIT`].

mod diag;
mod namespaces;
mod open;
mod proc_net;

pub use namespaces::inode_of_name as netns_of_link;
pub use open::{Ends, OpenSocket, OpenSockets, TcpCounts};

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::base::clock;
use crate::base::counters::Stats;
use namespaces::Namespace;
use open::Found;

/// How long a look may go on; what is left then is not read (counted).
const LIMIT: Duration = Duration::from_secs(20);

/// Reads what is open. Keep it on a thread of its own: it goes from namespace to namespace.
#[derive(Debug)]
pub struct SocketReader {
    proc_root: PathBuf,
    /// Where this thread came from.
    home: Option<(u32, File)>,
    max: usize,
    /// Namespaces that were read whole before, to know one that has gone from one out of reach.
    read_before: HashSet<u32>,
    told: Told,
    stats: Arc<Stats>,
}

/// What has been said once.
#[derive(Debug, Default)]
struct Told {
    not_entered: bool,
    not_read: bool,
    no_room: bool,
}

impl SocketReader {
    /// Takes at most `max` sockets at a look. Must be made on the thread that looks.
    pub fn new(proc_root: &Path, max: usize, stats: Arc<Stats>) -> Self {
        let path = proc_root.join("thread-self/ns/net");
        let home = File::open(path).ok().and_then(|file| Some((namespaces::inode(&file)?, file)));
        Self {
            proc_root: proc_root.to_owned(),
            home,
            max,
            read_before: HashSet::new(),
            told: Told::default(),
            stats,
        }
    }

    /// Looks into the namespaces whose inode numbers are in `only` (all with `None`). `files` are
    /// open files that name namespaces which nothing else does.
    pub fn scan(&mut self, only: Option<&HashSet<u32>>, files: &[(u32, PathBuf)]) -> OpenSockets {
        let began_boot_ns = clock::boot_ns();
        let mut found = Found::new(self.max);
        let all = namespaces::list(&self.proc_root, files);
        let mut whole = HashSet::new();
        for namespace in &all {
            if only.is_some_and(|only| !only.contains(&namespace.inode)) {
                continue;
            }
            let late = clock::boot_ns().saturating_sub(began_boot_ns);
            if Duration::from_nanos(late) > LIMIT {
                self.stats.namespaces_skipped_timeout.increment();
            } else if self.read(namespace, &mut found) {
                whole.insert(namespace.inode);
            }
        }
        self.go_home();
        self.read_before.extend(&whole);
        // One that was read before and is nowhere now has gone, with all that was in it.
        let here: HashSet<u32> = all.iter().map(|namespace| namespace.inode).collect();
        let wanted = |inode: &u32| only.is_none_or(|only| only.contains(inode));
        self.read_before.retain(|inode| here.contains(inode) || wanted(inode));
        whole.extend(self.read_before.difference(&here));
        if found.dropped > 0 {
            self.stats.sockets_dropped_full.add(found.dropped);
            // What is not in the list may be among the dropped.
            whole.clear();
            if !std::mem::replace(&mut self.told.no_room, true) {
                tracing::error!(
                    dropped = found.dropped,
                    max = self.max,
                    "more sockets are open than are tracked; see connections.max"
                );
            }
        }
        self.stats.sockets_scanned.add(found.len() as u64);
        OpenSockets::new(began_boot_ns, found, whole)
    }

    /// Whether the namespace was read whole.
    fn read(&mut self, namespace: &Namespace, found: &mut Found) -> bool {
        let at_home = self.home.as_ref().is_some_and(|(inode, _)| *inode == namespace.inode);
        let entered = if at_home { self.enter_home() } else { namespace.enter() };
        let refused = match entered {
            Ok(()) => match diag::read(namespace.inode, found, &self.stats) {
                Ok(()) => return true,
                Err(error) => error.to_string(),
            },
            // Gone since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
            Err(error) => error.to_string(),
        };
        if !std::mem::replace(&mut self.told.not_entered, true) {
            tracing::warn!(
                namespace = namespace.inode,
                error = %refused,
                "a network namespace is not entered; /proc/PID/net is read instead, without byte \
                 counts and round-trip times (it takes CAP_SYS_ADMIN, and the kernel modules \
                 tcp_diag and udp_diag)"
            );
        }
        let told = namespace.pid.map(|pid| proc_net::read(&self.proc_root, pid, namespace, found));
        if !matches!(told, Some(Ok(()))) {
            self.stats.namespaces_failed.increment();
            if !std::mem::replace(&mut self.told.not_read, true) {
                let reason = told
                    .and_then(Result::err)
                    .map_or_else(|| "no process is in it".to_owned(), |error| error.to_string());
                tracing::warn!(
                    namespace = namespace.inode,
                    error = %reason,
                    "what is open in a network namespace is not read; its connections are known \
                     from their next change on"
                );
            }
        }
        false
    }

    fn enter_home(&self) -> std::io::Result<()> {
        // Without a move the capability is not needed.
        let here = File::open(self.proc_root.join("thread-self/ns/net"))?;
        match &self.home {
            Some((inode, _)) if namespaces::inode(&here) == Some(*inode) => Ok(()),
            Some((_, home)) => Ok(setns(home, CloneFlags::CLONE_NEWNET)?),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }

    /// Back to where the thread began, so that it holds no namespace of others.
    fn go_home(&self) {
        if let Err(error) = self.enter_home() {
            tracing::debug!(%error, "return to the own network namespace");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn what_this_process_has_open_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        udp.connect("[::1]:9").unwrap();
        let mut reader = SocketReader::new(Path::new("/proc"), 100_000, Arc::default());
        let own = reader.home.as_ref().unwrap().0;
        let look = reader.scan(Some(&HashSet::from([own])), &[]);
        let local = client.local_addr().unwrap();
        let is = |socket: &&OpenSocket| socket.ends.local_port == local.port();
        let found = look.connections.iter().find(is).unwrap();
        assert_eq!((found.netns, found.ends.local), (own, local.ip()));
        assert!(found.cookie != 0 && found.counts.is_some() && found.inode != 0, "{found:?}");
        let listens = listener.local_addr().unwrap().port();
        assert!(look.listeners.iter().any(|socket| socket.ends.local_port == listens));
        let udp = udp.local_addr().unwrap().port();
        assert!(look.udp.iter().any(|it| it.ends.local_port == udp && it.ends.remote_port == 9));
        assert!(look.namespaces.contains(&own));
    }

    #[test]
    fn no_more_are_taken_than_there_is_room_for() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stats = Arc::<Stats>::default();
        let mut reader = SocketReader::new(Path::new("/proc"), 0, Arc::clone(&stats));
        let own = reader.home.as_ref().unwrap().0;
        let look = reader.scan(Some(&HashSet::from([own])), &[]);
        assert!(look.listeners.is_empty() && look.namespaces.is_empty());
        assert!(stats.sockets_dropped_full.value() > 0);
    }
}
