//! What ended while a look was made, and what only a look has told.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::pipeline::capture::{Ends, OpenSocket};
use crate::pipeline::decode::Tcp;

/// Ends of connections and listeners, at most `max` of each.
#[derive(Debug, Default)]
pub(super) struct Ended {
    cookies: HashSet<u64>,
    /// Time of the end, ns since boot, and cookie (0 when unknown).
    ends: HashMap<(u32, Ends), (u64, u64)>,
}

impl Ended {
    /// Whether a socket that a look saw has ended since.
    pub(super) fn has(&self, socket: &OpenSocket, began_boot_ns: u64) -> bool {
        if socket.cookie != 0 && self.cookies.contains(&socket.cookie) {
            return true;
        }
        let at = |netns| self.ends.get(&(netns, socket.ends));
        // Without the kernel's types a record does not know its namespace.
        at(socket.netns).or_else(|| at(0)).is_some_and(|(boot_ns, cookie)| {
            *boot_ns >= began_boot_ns && (*cookie == 0 || socket.cookie == 0)
        })
    }

    /// Notes an end; false where there is no room.
    pub(super) fn note(&mut self, tcp: &Tcp, max: usize) -> bool {
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

/// Connections that only a look has told, by what a record tells of them.
#[derive(Debug, Default)]
pub(super) struct Found {
    by_cookie: HashMap<u64, u64>,
    by_ends: BTreeSet<(Ends, u32, u64)>,
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        self.by_ends.is_empty()
    }

    pub(super) fn add(&mut self, socket: &OpenSocket, key: u64) {
        if socket.cookie != 0 {
            self.by_cookie.insert(socket.cookie, key);
        }
        self.by_ends.insert((socket.ends, socket.netns, key));
    }

    /// Key of the connection that a record is about; `cookie_of` a key is 0 when unknown.
    pub(super) fn of(&self, tcp: &Tcp, cookie_of: impl Fn(&u64) -> u64) -> Option<u64> {
        if let Some(key) = self.by_cookie.get(&tcp.cookie).filter(|_| tcp.cookie != 0) {
            return Some(*key);
        }
        let ends = ends_of(tcp);
        let all = self.by_ends.range((ends, 0, 0)..=(ends, u32::MAX, u64::MAX));
        // Without the kernel's types a record does not know its namespace.
        let mut here = all.filter(|(_, netns, _)| tcp.netns == 0 || *netns == tcp.netns);
        let fits = |key: &u64| tcp.cookie == 0 || cookie_of(key) == 0;
        here.find_map(|(_, _, key)| fits(key).then_some(*key))
    }

    pub(super) fn forget(&mut self, cookie: u64, by_ends: (Ends, u32, u64)) {
        self.by_cookie.remove(&cookie);
        self.by_ends.remove(&by_ends);
    }

    /// Forgets the keys that are not to be kept.
    pub(super) fn keep(&mut self, keep: impl Fn(&u64) -> bool) {
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
