//! The worker `nat`: queries the connection tracking of each network namespace.

use std::io;
use std::sync::Arc;

use super::messages::{ConnectionKey, NatLookup, NatResponse, Translation};
use super::netns::Namespaces;
use crate::base::counters::Stats;
use crate::pipeline::capture::{Conntrack, ConntrackError, tracked_connections};
use crate::privsep::{Channel, serve};

/// Responds to batches of lookups until the agent closes the channel.
pub(crate) fn serve_nat_lookups(channel: Channel) -> io::Result<()> {
    let mut worker = NatWorker {
        namespaces: Namespaces::of_this_thread()?,
        own: None,
        is_refused: false,
        stats: Arc::default(),
    };
    serve(channel, |batch: Vec<NatLookup>| worker.lookup(batch))
}

/// State of the worker.
struct NatWorker {
    namespaces: Namespaces,
    /// Netlink socket in the agent's own namespace, once it is open.
    own: Option<Conntrack>,
    /// True once a refusal by the kernel was logged.
    is_refused: bool,
    stats: Arc<Stats>,
}

/// A lookup, with the results of the tables.
struct Found {
    key: ConnectionKey,
    /// The ends, as far as the tables queried so far translate them.
    translation: Translation,
    /// True if [`NatLookup::is_behind_nat`], and the own namespace is the socket's.
    is_behind_own_nat: bool,
    /// True if a table has the connection.
    is_tracked: bool,
}

impl NatWorker {
    fn lookup(&mut self, mut batch: Vec<NatLookup>) -> NatResponse {
        // Sorted by namespace, so that each is entered once. The sort keeps the order otherwise.
        batch.sort_by_key(|lookup| lookup.netns);
        let mut response = NatResponse::default();
        let mut found: Vec<Found> = Vec::with_capacity(batch.len());
        let mut is_tracking: Vec<bool> = Vec::with_capacity(batch.len());
        for group in batch.chunk_by(|a, b| a.netns == b.netns) {
            let Some(netns) = group.first().map(|lookup| lookup.netns) else { continue };
            let is_own = self.namespaces.is_own(netns);
            let first = found.len();
            found.extend(group.iter().map(|lookup| Found::new(lookup, is_own)));
            let of_group = found.get_mut(first..).unwrap_or_default();
            let tracks = !is_own && self.in_socket_namespace(netns, group, of_group);
            is_tracking.resize(found.len(), tracks);
            response.namespaces.push((netns, tracks));
        }
        response.is_own_tracking = self.in_own_namespace(&mut found);
        for (netns, tracks) in &mut response.namespaces {
            *tracks |= response.is_own_tracking && self.namespaces.is_own(*netns);
        }
        for (it, tracks) in found.iter().zip(is_tracking) {
            if it.translation.socket != it.translation.outside {
                response.translations.push((it.key, it.translation));
            } else if !it.is_tracked && (tracks || response.is_own_tracking) {
                response.missing.push(it.key);
            }
        }
        response.counters = self.stats.take();
        response
    }

    /// Queries the table of the sockets' own namespace, which is not the agent's. True if it tracks
    /// connections.
    fn in_socket_namespace(
        &mut self,
        netns: u32,
        group: &[NatLookup],
        found: &mut [Found],
    ) -> bool {
        let pids = group.iter().flat_map(|lookup| lookup.pids).flatten();
        let entered = self.namespaces.within(netns, pids, || {
            if !matches!(tracked_connections(), Ok(1..)) {
                return Ok(false);
            }
            let mut conntrack = Conntrack::open()?;
            for (it, lookup) in found.iter_mut().zip(group) {
                it.query(&mut conntrack, lookup.is_behind_nat)?;
            }
            Ok(true)
        });
        match entered {
            Some(Ok(is_tracking)) => is_tracking,
            Some(Err(error)) => {
                self.log_refusal(&error);
                true
            }
            None => {
                self.stats.nat_lookups_failed.add(group.len() as u64);
                false
            }
        }
    }

    /// Queries the table of the agent's own namespace for the packets that enter it. True if it tracks
    /// connections.
    fn in_own_namespace(&mut self, found: &mut [Found]) -> bool {
        if !self.namespaces.is_home() || !matches!(tracked_connections(), Ok(1..)) {
            return false;
        }
        let mut conntrack = match self.own.take().map_or_else(Conntrack::open, Ok) {
            Ok(conntrack) => conntrack,
            Err(error) => {
                self.log_refusal(&error);
                return true;
            }
        };
        for it in found {
            // The next batch opens a new socket: this one may still hold the response to this query.
            if let Err(error) = it.query(&mut conntrack, it.is_behind_own_nat) {
                self.log_refusal(&error);
                return true;
            }
        }
        self.own = Some(conntrack);
        true
    }

    fn log_refusal(&mut self, error: &ConntrackError) {
        self.stats.nat_lookups_failed.increment();
        if !std::mem::replace(&mut self.is_refused, true) {
            tracing::warn!(%error, "NAT mappings are unavailable");
        }
    }
}

impl Found {
    fn new(lookup: &NatLookup, is_own: bool) -> Self {
        let tuple = lookup.tuple;
        Self {
            key: lookup.key,
            translation: Translation { socket: tuple, outside: tuple, is_initiator: None },
            is_behind_own_nat: is_own && lookup.is_behind_nat,
            is_tracked: false,
        }
    }

    /// Applies the entry of one table. `is_behind` is true if the ends are those that this table
    /// translated to.
    fn query(&mut self, conntrack: &mut Conntrack, is_behind: bool) -> Result<(), ConntrackError> {
        let ends = self.translation.outside;
        // What this end has sent comes back in the opposite direction, which is the entry's other tuple.
        let sought = if is_behind { ends.reversed() } else { ends };
        let Some(entry) = conntrack.find(&sought)? else { return Ok(()) };
        let is_original = entry.original == sought;
        let other = if is_original { entry.reply } else { entry.original };
        if is_behind {
            self.translation.socket = other;
        } else {
            self.translation.outside = other.reversed();
        }
        if !self.is_tracked {
            self.translation.is_initiator = Some(is_original != is_behind);
        }
        self.is_tracked = true;
        Ok(())
    }
}
