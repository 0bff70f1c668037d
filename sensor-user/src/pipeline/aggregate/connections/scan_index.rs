//! Connections that were closed during a scan, and connections that only a scan has found.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::pipeline::capture::{Ends, OpenSocket};
use crate::pipeline::decode::Tcp;

/// Connections and listeners that were closed during a scan, at most `max`.
#[derive(Debug, Default)]
pub(super) struct ClosedDuringScan {
    cookies: HashSet<u64>,
    /// Time of the close, ns since boot, and cookie (0 if unknown).
    ends: HashMap<(u32, Ends), (u64, u64)>,
}

impl ClosedDuringScan {
    /// True if a socket that a scan found has been closed since.
    pub(super) fn contains(&self, socket: &OpenSocket, began_boot_ns: u64) -> bool {
        if socket.cookie != 0 && self.cookies.contains(&socket.cookie) {
            return true;
        }
        let at = |netns| self.ends.get(&(netns, socket.ends));
        // Without BTF a record has no network namespace.
        at(socket.netns).or_else(|| at(0)).is_some_and(|(boot_ns, cookie)| {
            *boot_ns >= began_boot_ns && (*cookie == 0 || socket.cookie == 0)
        })
    }

    /// Records a close; false if there is no room.
    pub(super) fn insert(&mut self, tcp: &Tcp, max: usize) -> bool {
        if self.cookies.len().max(self.ends.len()) >= max {
            return false;
        }
        if tcp.cookie != 0 {
            self.cookies.insert(tcp.cookie);
        }
        self.ends.insert((tcp.netns, ends_of(tcp)), (tcp.boot_ns, tcp.cookie));
        true
    }
}

/// Connections that only a scan has found, by what identifies them in a record.
#[derive(Debug, Default)]
pub(super) struct ScanIndex {
    by_cookie: HashMap<u64, u64>,
    by_ends: BTreeSet<(Ends, u32, u64)>,
}

impl ScanIndex {
    pub(super) fn is_empty(&self) -> bool {
        self.by_ends.is_empty()
    }

    pub(super) fn insert(&mut self, socket: &OpenSocket, key: u64) {
        if socket.cookie != 0 {
            self.by_cookie.insert(socket.cookie, key);
        }
        self.by_ends.insert((socket.ends, socket.netns, key));
    }

    /// Key of the connection that a record is about; `cookie_of` returns the cookie of a key, 0 if unknown.
    pub(super) fn find(&self, tcp: &Tcp, cookie_of: impl Fn(&u64) -> u64) -> Option<u64> {
        if let Some(key) = self.by_cookie.get(&tcp.cookie).filter(|_| tcp.cookie != 0) {
            return Some(*key);
        }
        let ends = ends_of(tcp);
        let all = self.by_ends.range((ends, 0, 0)..=(ends, u32::MAX, u64::MAX));
        // Without BTF a record has no network namespace.
        let mut here = all.filter(|(_, netns, _)| tcp.netns == 0 || *netns == tcp.netns);
        let fits = |key: &u64| tcp.cookie == 0 || cookie_of(key) == 0;
        here.find_map(|(_, _, key)| fits(key).then_some(*key))
    }

    pub(super) fn remove(&mut self, cookie: u64, by_ends: (Ends, u32, u64)) {
        self.by_cookie.remove(&cookie);
        self.by_ends.remove(&by_ends);
    }

    /// Removes the keys for which `keep` is false.
    pub(super) fn retain(&mut self, keep: impl Fn(&u64) -> bool) {
        self.by_cookie.retain(|_, key| keep(key));
        self.by_ends.retain(|(_, _, key)| keep(key));
    }
}

pub(super) const fn ends_of(tcp: &Tcp) -> Ends {
    Ends {
        local: tcp.local,
        local_port: tcp.local_port,
        remote: tcp.remote,
        remote_port: tcp.remote_port,
    }
}
