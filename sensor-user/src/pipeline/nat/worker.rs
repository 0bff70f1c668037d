//! The worker `nat`: queries the connection tracking of each network namespace.

use std::io;
use std::sync::Arc;

use super::messages::{ConnectionKey, NatLookup, NatResponse, NatResult};
use super::netns::Namespaces;
use crate::base::counters::Stats;
use crate::pipeline::aggregate::NatMapping;
use crate::pipeline::capture::{Conntrack, ConntrackError, Tuple, tracked_connections};
use crate::privsep::{Channel, serve};

/// Responds to batches of lookups until the agent closes the channel.
pub(crate) fn serve_nat_lookups(channel: Channel) -> io::Result<()> {
    let stats = Arc::new(Stats::default());
    let mut worker = NatWorker {
        namespaces: Namespaces::of_this_thread()?,
        own: None,
        is_refused: false,
        is_tracking: false,
        stats: Arc::clone(&stats),
    };
    serve(channel, |batch: Vec<NatLookup>| {
        worker.is_tracking = false;
        let results = worker.lookup(batch);
        NatResponse { results, is_tracking: worker.is_tracking, counters: stats.take() }
    })
}

/// State of the worker.
struct NatWorker {
    namespaces: Namespaces,
    /// Netlink socket in the agent's own namespace, once it is open.
    own: Option<Conntrack>,
    /// True once a refusal by the kernel was logged.
    is_refused: bool,
    /// True if a namespace of the current batch tracks connections.
    is_tracking: bool,
    stats: Arc<Stats>,
}

impl NatWorker {
    fn lookup(&mut self, mut batch: Vec<NatLookup>) -> Vec<NatResult> {
        // Sorted by namespace, so that each is entered once.
        batch.sort_by_key(|lookup| lookup.netns);
        let mut tuples: Vec<(ConnectionKey, Tuple, Tuple)> = Vec::with_capacity(batch.len());
        for group in batch.chunk_by(|a, b| a.netns == b.netns) {
            let inner = self.in_socket_namespace(group);
            tuples.extend(group.iter().zip(inner).map(|(it, out)| (it.key, it.tuple, out)));
        }
        self.in_own_namespace(&mut tuples);
        tuples
            .into_iter()
            .map(|(key, socket, out)| {
                let mapping = (socket != out).then(|| NatMapping {
                    local_ip: out.source.ip(),
                    local_port: out.source.port(),
                    remote_ip: out.destination.ip(),
                    remote_port: out.destination.port(),
                });
                (key, mapping)
            })
            .collect()
    }

    /// Tuples as they leave the sockets' own namespace, for each lookup of a group.
    fn in_socket_namespace(&mut self, group: &[NatLookup]) -> Vec<Tuple> {
        let unchanged = || group.iter().map(|lookup| lookup.tuple).collect();
        let Some(netns) = group.first().map(|lookup| lookup.netns) else { return Vec::new() };
        if self.namespaces.is_own(netns) {
            return unchanged();
        }
        let pids = group.iter().flat_map(|lookup| lookup.pids).flatten();
        let entered = self.namespaces.within(netns, pids, || {
            if !matches!(tracked_connections(), Ok(1..)) {
                return Ok(None);
            }
            let mut conntrack = Conntrack::open()?;
            let translated = |lookup: &NatLookup| translate(&mut conntrack, lookup.tuple);
            group.iter().map(translated).collect::<Result<Vec<Tuple>, _>>().map(Some)
        });
        match entered {
            Some(Ok(Some(tuples))) => {
                self.is_tracking = true;
                tuples
            }
            Some(Ok(None)) => unchanged(),
            Some(Err(error)) => {
                self.log_refusal(&error);
                unchanged()
            }
            None => {
                self.stats.nat_lookups_failed.add(group.len() as u64);
                unchanged()
            }
        }
    }

    /// Replaces each tuple that enters the agent's own namespace by the tuple that leaves it.
    fn in_own_namespace(&mut self, tuples: &mut [(ConnectionKey, Tuple, Tuple)]) {
        if !self.namespaces.is_home() || !matches!(tracked_connections(), Ok(1..)) {
            return;
        }
        self.is_tracking = true;
        let mut conntrack = match self.own.take().map_or_else(Conntrack::open, Ok) {
            Ok(conntrack) => conntrack,
            Err(error) => return self.log_refusal(&error),
        };
        for (_, _, tuple) in tuples {
            match translate(&mut conntrack, *tuple) {
                Ok(out) => *tuple = out,
                // The next batch opens a new socket: this one may still hold the response to this query.
                Err(error) => return self.log_refusal(&error),
            }
        }
        self.own = Some(conntrack);
    }

    fn log_refusal(&mut self, error: &ConntrackError) {
        self.stats.nat_lookups_failed.increment();
        if !std::mem::replace(&mut self.is_refused, true) {
            tracing::warn!(%error, "NAT mappings are unavailable");
        }
    }
}

/// Addresses behind the NAT mapping of a socket's `tuple` (those of this host first); `tuple` itself if there
/// is no mapping.
fn translate(conntrack: &mut Conntrack, tuple: Tuple) -> Result<Tuple, ConntrackError> {
    let other = conntrack.other_direction(&tuple)?;
    // The reply direction starts at the remote end.
    Ok(other.map_or(tuple, |other| Tuple {
        protocol: tuple.protocol,
        source: other.destination,
        destination: other.source,
    }))
}
