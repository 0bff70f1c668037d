//! The helper `translations`: asks the connection tracking of each network namespace.

use std::io;
use std::sync::Arc;

use super::client::{Answer, Key, Question, Told};
use super::netns::Namespaces;
use crate::base::counters::Stats;
use crate::pipeline::aggregate::NatMapping;
use crate::pipeline::capture::{Conntrack, ConntrackError, Tuple, tracked};
use crate::privsep::{Channel, serve};

/// Answers until there are no more questions.
pub fn serve_nat_lookups(channel: Channel) -> io::Result<()> {
    let stats = Arc::new(Stats::default());
    let mut asker = Asker {
        namespaces: Namespaces::of_this_thread()?,
        own: None,
        refused: false,
        tracked: false,
        stats: Arc::clone(&stats),
    };
    serve(channel, |batch: Vec<Question>| -> Told {
        asker.tracked = false;
        let answers = asker.answer(batch);
        (answers, asker.tracked, stats.take())
    })
}

/// What the helper owns.
struct Asker {
    namespaces: Namespaces,
    /// The socket of the agent's own namespace, once it is open.
    own: Option<Conntrack>,
    /// A refusal was said.
    refused: bool,
    /// Whether a namespace of the batch under way tracks anything.
    tracked: bool,
    stats: Arc<Stats>,
}

impl Asker {
    fn answer(&mut self, mut batch: Vec<Question>) -> Vec<Answer> {
        // Those of one namespace together: it is entered once.
        batch.sort_by_key(|question| question.netns);
        let mut seen: Vec<(Key, Tuple, Tuple)> = Vec::with_capacity(batch.len());
        for group in batch.chunk_by(|a, b| a.netns == b.netns) {
            let inside = self.inside(group);
            seen.extend(group.iter().zip(inside).map(|(it, out)| (it.key, it.tuple, out)));
        }
        self.outside(&mut seen);
        seen.into_iter()
            .map(|(key, socket, out)| {
                let translated = (socket != out).then(|| NatMapping {
                    local_ip: out.source.ip(),
                    local_port: out.source.port(),
                    remote_ip: out.destination.ip(),
                    remote_port: out.destination.port(),
                });
                (key, translated)
            })
            .collect()
    }

    /// What leaves the sockets' own namespace, for each question of a group.
    fn inside(&mut self, group: &[Question]) -> Vec<Tuple> {
        let as_asked = || group.iter().map(|question| question.tuple).collect();
        let Some(netns) = group.first().map(|question| question.netns) else { return Vec::new() };
        if self.namespaces.is_own(netns) {
            return as_asked();
        }
        let pids = group.iter().flat_map(|question| question.pids).flatten();
        let entered = self.namespaces.within(netns, pids, || {
            if !matches!(tracked(), Ok(1..)) {
                return Ok(None);
            }
            let mut conntrack = Conntrack::open()?;
            let ask = |question: &Question| translate(&mut conntrack, question.tuple);
            group.iter().map(ask).collect::<Result<Vec<Tuple>, _>>().map(Some)
        });
        match entered {
            Some(Ok(Some(tuples))) => {
                self.tracked = true;
                tuples
            }
            Some(Ok(None)) => as_asked(),
            Some(Err(error)) => {
                self.refuse(&error);
                as_asked()
            }
            None => {
                self.stats.nat_lookups_failed.add(group.len() as u64);
                as_asked()
            }
        }
    }

    /// What leaves the agent's own namespace, in the place of what enters it.
    fn outside(&mut self, seen: &mut [(Key, Tuple, Tuple)]) {
        if !self.namespaces.is_home() || !matches!(tracked(), Ok(1..)) {
            return;
        }
        self.tracked = true;
        let mut conntrack = match self.own.take().map_or_else(Conntrack::open, Ok) {
            Ok(conntrack) => conntrack,
            Err(error) => return self.refuse(&error),
        };
        for (_, _, tuple) in seen {
            match translate(&mut conntrack, *tuple) {
                Ok(out) => *tuple = out,
                // A new socket next time: what this one still holds is not the next answer.
                Err(error) => return self.refuse(&error),
            }
        }
        self.own = Some(conntrack);
    }

    fn refuse(&mut self, error: &ConntrackError) {
        self.stats.nat_lookups_failed.increment();
        if !std::mem::replace(&mut self.refused, true) {
            tracing::warn!(%error, "translated addresses are not known");
        }
    }
}

/// The ends behind the translation of a socket's `tuple` (this host's end first); `tuple` itself
/// where there is none.
fn translate(conntrack: &mut Conntrack, tuple: Tuple) -> Result<Tuple, ConntrackError> {
    let other = conntrack.other_direction(&tuple)?;
    // The other direction comes from the remote end.
    Ok(other.map_or(tuple, |other| Tuple {
        protocol: tuple.protocol,
        source: other.destination,
        destination: other.source,
    }))
}
